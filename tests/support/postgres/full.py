"""What fills a database for tests of plans: many jobs, many finished ones, and many that have come and gone."""

GONE, LEFT = 40_000, 500
FILL = """
alter table jobqueue.job set (autovacuum_enabled = false);
alter table jobqueue.job_key set (autovacuum_enabled = false);
insert into jobqueue.job (queue, task, priority, state, via)
  select 'q' || n % 5, 'task', n % 3, 'ready', 'py'
  -- before version 17 the planner reads a table of 50 000 rows as a whole rather than look for 500 of them
  from generate_series(1, case when current_setting('server_version_num')::int < 170000 then 200000 else 50000 end) n;
insert into jobqueue.queue (name, paused_at) select 'q' || n, now() from generate_series(2, 4) n;
insert into jobqueue.job (task, state, via, due_at)
  select 'task', 'scheduled', 'py', now() + (n - 1000) * interval '1 s' from generate_series(1, 3000) n;
insert into jobqueue.job (queue, task, state, via, due_at, aside_since)
  select 'aside' || n % 3, 'aside', 'scheduled', 'py', now() + interval '1 h', now() from generate_series(1, 1000) n;
insert into jobqueue.job (task, state, via, fence, worker_id, claim_no, lease_until, attempt, key)
  select 'task', 'running', 'py', n, 'a2f1c0de-0000-4000-8000-000000000000', n % 4, now(), 1, 'key' || n
  from generate_series(1, 2000) n;
insert into jobqueue.job_key (key, job_id, scope)
  select 'key' || n, coalesce(j.id, gen_random_uuid()), 'unfinished'
  from generate_series(1, 50000) n left join jobqueue.job j on j.key = 'key' || n;
insert into jobqueue.job_key (key, job_id, scope, expires_at)
  select 'over' || n, gen_random_uuid(), 'period', now() - interval '1 s' from generate_series(1, 1000) n;
insert into jobqueue.job_key (key, job_id, scope)
  select 'held' || row_number() over (order by id), id, 'waiting' from jobqueue.job where state = 'ready' limit 1000;
"""
ARCHIVE = """
insert into jobqueue.job_archive (id, queue, task, args, priority, state, due_at, attempt, max_attempts, crashes, lost,
  fence, via, follow, created_at, finished_at, result)
select gen_random_uuid(), 'q', 't', '{}', 0, 'completed', now(), 1, 1, 0, 0, n, 'py', 0, now(),
  now() - (n % 2) * interval '1 day', '1' from generate_series(1, 25000) n;
"""
CLAIM = "state = 'running', attempt = 1, fence = 1, worker_id = gen_random_uuid(), lease_until = now() + interval '1 h'"
COME_AND_GO = f"""
alter table jobqueue.job set (autovacuum_enabled = false);
insert into jobqueue.job (queue, task, priority, state, via, due_at)
  select 'q' || n % 2, 'task', n % 5, 'scheduled', 'py', now() - interval '1 h' from generate_series(1, {GONE}) n;
update jobqueue.job set state = 'ready';
update jobqueue.job set {CLAIM};
delete from jobqueue.job;
insert into jobqueue.job (queue, task, priority, via)
  select 'q' || n % 2, 'task', n % 5, 'py' from generate_series(1, {LEFT}) n;
insert into jobqueue.job (task, state, via, due_at)
  select 'task', 'scheduled', 'py', now() from generate_series(1, 100);
insert into jobqueue.sleeper (worker_id, queue, wake_at)
  select '00000000-0000-0000-0000-000000000001', '*', now() - interval '1 h' + n * interval '1 ms'
  from generate_series(1, 10000) n;
delete from jobqueue.sleeper;
"""
BUNDLE = "00000000-0000-7000-8000-000000000001"
BUNDLES = f"""
alter table jobqueue.bundle set (autovacuum_enabled = false);
alter table jobqueue.fact set (autovacuum_enabled = false);
insert into jobqueue.bundle (id, name, added, completed, parent_id)
  select ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'import', 200000, 0,
    case when n % 100 = 2 then '{BUNDLE}'::uuid end from generate_series(1, 5000) n;
update jobqueue.bundle set finished_at = now() - interval '40 days' where id <> '{BUNDLE}' and name like '%' and
  right(id::text, 1) in ('1', '3', '5', '7');
insert into jobqueue.job (queue, task, state, via, bundle_id)
  select 'b', 'task', 'ready', 'py', '{BUNDLE}' from generate_series(1, 50000) n;
insert into jobqueue.job_archive (id, queue, task, args, priority, state, due_at, attempt, max_attempts, crashes, lost,
  fence, via, follow, created_at, finished_at, result, bundle_id)
select gen_random_uuid(), 'q', 't', '{{}}', 0, 'completed', now(), 1, 1, 0, 0, n, 'py', 0, now(),
  now() - (n % 2) * interval '1 day', '1', '{BUNDLE}' from generate_series(1, 50000) n;
insert into jobqueue.fact (target, completed)
  select id, 1 from jobqueue.bundle, generate_series(1, 6) where finished_at is null;
alter table jobqueue.node set (autovacuum_enabled = false);
alter table jobqueue.dependency set (autovacuum_enabled = false);
insert into jobqueue.node (bundle_id, job_id, task, outcome, result, kept)
  select '{BUNDLE}', gen_random_uuid(), case when n % 2 = 0 then 't' else 'u' end, 'completed', '1', n % 4 < 2
  from generate_series(1, 25000) n;
insert into jobqueue.node (bundle_id, job_id, task)
  select b.id, gen_random_uuid(), 'task' from jobqueue.bundle b, generate_series(1, 5) where b.id <> '{BUNDLE}';
insert into jobqueue.dependency (on_id, job_id) select gen_random_uuid(), job_id from jobqueue.node;
"""
LINKED, NODES = "00000000-0000-7000-8000-00000000f00d", 10_000
MISLEADING = f"""
alter table jobqueue.node set (autovacuum_enabled = false);
insert into jobqueue.node (bundle_id, job_id, task) select gen_random_uuid(), gen_random_uuid(), 'task'
  from generate_series(1, 20000);
update jobqueue.job set bundle_id = '{LINKED}';
analyze;
update jobqueue.job set bundle_id = null;
"""
GRAPH = f"""
alter table jobqueue.node set (autovacuum_enabled = false);
insert into jobqueue.bundle (id, name, added) values ('{LINKED}', 'graph', {NODES});
insert into jobqueue.job_archive (id, queue, task, args, priority, state, due_at, attempt, max_attempts, crashes, lost,
  fence, via, follow, created_at, finished_at, result, bundle_id)
select lpad(to_hex(n), 32, '0')::uuid, 'q', 'task', '{{}}', 0, 'completed', now(), 1, 1, 0, 0, n, 'py', 2, now(),
  now() - (n % 2) * interval '1 day', '1', '{LINKED}' from generate_series(1, {NODES // 2}) n;
insert into jobqueue.job (id, task, state, via, bundle_id)
select lpad(to_hex(n), 32, '0')::uuid, 'task', 'ready', 'py', '{LINKED}'
  from generate_series({NODES // 2 + 1}, {NODES}) n;
insert into jobqueue.node (bundle_id, job_id, task, after)
select bundle, lpad(to_hex(n), 32, '0')::uuid, 'task',
  case when n > 1 then array[lpad(to_hex(n / 2), 32, '0')::uuid, lpad(to_hex(n - 1), 32, '0')::uuid] else '{{}}' end
from generate_series(1, {NODES}) n, unnest(array['{LINKED}', gen_random_uuid(), gen_random_uuid()]::uuid[]) as bundle;
"""
LONGEST, GIVEN_UP = "00000000-0000-7000-8000-0000000000a1", "00000000-0000-7000-8000-0000000000a2"
PHASES = f"""
alter table jobqueue.phase set (autovacuum_enabled = false);
alter table jobqueue.signal set (autovacuum_enabled = false);
insert into jobqueue.job (id, queue, task, state, via) values ('{LONGEST}', 'q0', 'task', 'ready', 'py');
insert into jobqueue.job_archive (id, queue, task, args, priority, state, due_at, attempt, max_attempts, crashes, lost,
  fence, via, follow, created_at, finished_at)
select '{GIVEN_UP}', 'q', 'task', '{{}}', 0, 'dead', now(), 1, 1, 0, 0, 1, 'py', 0, now(), now();
create table of as
  (select id, 'wait' as kind from jobqueue.job where state = 'ready' and id <> '{LONGEST}' limit 6000)
  union all select id, 'wait' from jobqueue.job where state = 'scheduled'
  union all select id, 'phase' from jobqueue.job where state = 'running'
  union all (select id, 'phase' from jobqueue.job_archive where state = 'completed' limit 3000)
  union all select gen_random_uuid(), 'phase' from generate_series(1, 3000);
insert into jobqueue.phase
  (job_id, name, kind, signal, place, attempt, fence, worker_id, began_at, ended_at, wake_at, result)
select id, 'step ' || n, kind, case kind when 'wait' then 'go' end, n, 1, 1, 'a2f1c0de-0000-4000-8000-000000000000',
  now() - interval '3 days', case when n < 3 then now() - interval '3 days' end, now(), to_json(n)
from of, generate_series(1, 3) n;
insert into jobqueue.phase (job_id, name, kind, place, attempt, fence, worker_id, began_at, ended_at, result)
select id::uuid, 'step ' || n, 'phase', n, 1, 1, 'a2f1c0de-0000-4000-8000-000000000000', now(), now(), to_json(n)
from generate_series(1, 10000) n, unnest(array['{LONGEST}', '{GIVEN_UP}']) id;
insert into jobqueue.signal (job_id, name, payload, sent_at)
select id, name, '1', now() - interval '3 days' from of, unnest(array['go', 'stop']) name, generate_series(1, 2);
insert into jobqueue.signal (job_id, name, payload) select '{LONGEST}', 'go', '1' from generate_series(1, 999);
drop table of;
"""
