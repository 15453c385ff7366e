"""What fills a database for tests of the dashboard: an installation in full work, with its history."""

from typing import LiteralString

QUEUES, WORKERS, RUNNING = 50, 20, 1_000
SMALL: LiteralString = "set site.scale = 1;\n"
"""200 000 jobs: 180 000 that have finished, 20 000 that wait; five hours of history."""
LARGE: LiteralString = "set site.scale = 10;\n"
"""Ten times as much; two days of history."""
BUNDLE = "01a00000-0000-7000-8000-0000000000b1"
BULK = "01a00000-0000-7000-8000-0000000000d1"
WEBHOOK = "01a00000-0000-7000-8000-0000000000c1"
_SCALE: LiteralString = "current_setting('site.scale')::integer"
_TABLES = ("job", "minute", "hour", "depth", "audit", "gate", "gate_note", "bundle", "node", "schedule")
_UNWATCHED: LiteralString = "".join(
    f"alter table jobqueue.{table} set (autovacuum_enabled = false);\n" for table in _TABLES
)
_COUNTS: LiteralString = "100, 90, 1, 2, 7, 0, 0, 0, 0, 0, 0, 0, 12.5, array[50, 20, 10, 5], array[10, 20, 30, 20, 5]"
_ERROR: LiteralString = r"""
jsonb_build_array(jsonb_build_object('at', at + interval '2 s', 'class', 'Error' || n % 7, 'message', 'order ' || n,
  'attempt', 1, 'code_place', 'shop/orders.py:' || n % 30 || ' in charge', 'traceback',
  repeat(E'  File "/srv/shop/orders.py", line 88, in charge\n    await bank.charge(order, cents)\n', 6)))
"""
_ID: LiteralString = """
(lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '7' || substr(md5(n::text), 1, 3)
  || 'a' || substr(md5(n::text), 4, 15))::uuid
"""
_FINISHED: LiteralString = f"""
insert into jobqueue.job_archive (id, queue, task, args, priority, state, due_at, attempt, max_attempts, crashes, lost,
  fence, via, follow, created_at, claimed_at, finished_at, result, reason, errors)
select {_ID}, 'queue' || n % {QUEUES}, 'task' || n % {QUEUES},
  json_build_object('to', 'user' || n || '@example.com', 'order', n), 0, state, at, 1, 3, 0, 0, n, 'py', 0, at,
  at + interval '1 s', at + interval '2 s', case state when 'completed' then '3'::json end,
  case when state <> 'completed' then 'error' end, case state when 'dead' then {_ERROR} end
from (select n, case when n % 20 = 0 then 'dead' when n % 20 = 1 then 'cancelled' else 'completed' end as state,
    now() - (180000 * {_SCALE} - n) * interval '0.4 s' / {_SCALE} as at
  from generate_series(1, 180000 * {_SCALE}) n) as made;
"""
_WAITING: LiteralString = rf"""
insert into jobqueue."limit" (name, declared) select 'limit' || n,
  '{{"concurrency": 10, "count": null, "per": null, "burst": 1, "ordered": false}}'
  from generate_series(1, 20) n;
insert into jobqueue.job (queue, task, priority, args, state, via, due_at, aside_since, gates, gate)
select 'queue' || n % {QUEUES}, 'task' || n % {QUEUES}, n % 3, json_build_object('order', n), state, 'py',
  now() + case state when 'scheduled' then interval '1 h' else - interval '1 min' end,
  case when n % 100 = 97 then now() end, case state when 'blocked' then array[gate] end,
  case state when 'blocked' then gate end
from (select n, 'limit' || n % 20 + 1 || E'\n' || n % 200 as gate,
    case when n % 20 = 5 then 'blocked' when n % 3 = 1 or n % 100 = 97 then 'scheduled' else 'ready' end as state
  from generate_series(1, 20000 * {_SCALE}) n) as made;
insert into jobqueue.gate (name, "limit", held)
  select distinct gate, split_part(gate, E'\n', 1), 10 from jobqueue.job where gate is not null;
truncate jobqueue.gate_note;
insert into jobqueue.queue (name, paused_at) select 'queue' || n, now() from generate_series(1, 3) n;
"""
_WORKERS: LiteralString = f"""
insert into jobqueue.worker (id, app, host, pid, version, queues, concurrency, alive_until)
  select lpad(to_hex(n), 32, '0')::uuid, 'shop', 'host' || n, n, '1.0', array['*', '-queue7'], 50,
    now() + interval '1 day'
  from generate_series(1, {WORKERS}) n;
insert into jobqueue.job (queue, task, args, state, via, fence, worker_id, claim_no, lease_until, attempt, started,
  claimed_at, progress)
select 'queue' || n % {QUEUES}, 'task' || n % {QUEUES}, json_build_object('order', n), 'running', 'py', n,
  lpad(to_hex(n % {WORKERS} + 1), 32, '0')::uuid, 1, now() + interval '1 day', 1, n % 10 > 0,
  now() - n * interval '1 s', '{{"fraction": 0.5, "message": "half of it"}}'
from generate_series(1, {RUNNING}) n;
"""
_HISTORY: LiteralString = f"""
create view jobqueue.past as select generate_series(date_trunc('minute', now())
  - interval '4.8 hours' * {_SCALE}, now(), interval '1 min') as at;
insert into jobqueue.minute select at, case when q > 0 then 'queue' || q - 1 else '' end,
  case when q > 0 then 'task' || q - 1 else '' end, {_COUNTS} from jobqueue.past, generate_series(0, {QUEUES}) q;
insert into jobqueue.hour select at, case when q > 0 then 'queue' || q - 1 else '' end,
  case when q > 0 then 'task' || q - 1 else '' end, {_COUNTS}
  from (select distinct date_trunc('hour', at) as at from jobqueue.past) as h, generate_series(0, {QUEUES}) q;
insert into jobqueue.depth select at, case when q > 0 then 'queue' || q - 1 else '' end, 1, 2, 3, 4, 5, 6
  from jobqueue.past, generate_series(0, {QUEUES}) q;
drop view jobqueue.past;
"""
_BESIDE: LiteralString = f"""
insert into jobqueue.audit (who, via, action, what, matched, changed)
  select 'ada', 'web', 'job.cancel', '{{"filter": {{"queue": "mail"}}}}', 3, 3
  from generate_series(1, 5000 * {_SCALE}) n;
insert into jobqueue.bundle (name, added, completed, finished_at)
  select 'import', 10, 10, now() from generate_series(1, 500 * {_SCALE}) n;
insert into jobqueue.bundle (id, name, added) values ('{BUNDLE}', 'import', 100);
insert into jobqueue.node (bundle_id, job_id, task, after)
  select '{BUNDLE}', id, task, case when n > 1 then array[before] else '{{}}' end
  from (select id, task, row_number() over (order by id) as n, lag(id) over (order by id) as before
    from (select id, task from jobqueue.job where state = 'ready' limit 100) as chosen) as members;
insert into jobqueue.schedule (name, source, task, queue, args, options, cron, tz, missed, overlap, next_at)
  select 'schedule' || n, 'stored', 'task1', 'queue1', '{{}}', '{{}}', '0 8 * * *', 'UTC', 'skip', 'allow',
    now() + n * interval '1 h'
  from generate_series(1, 500 * {_SCALE}) n;
insert into jobqueue.bulk (id, who, via, action, filter, matched)
  values ('{BULK}', 'ada', 'web', 'retry', '{{"queue": "queue1"}}', 20000);
insert into jobqueue.webhook (id, url, types, cursor) select gen_random_uuid(), 'https://receiver.example/', '{{}}', 0
  from generate_series(1, 19);
insert into jobqueue.webhook (id, url, types, cursor) values ('{WEBHOOK}', 'https://receiver.example/', '{{}}', 0);
insert into jobqueue.job (queue, task, origin, via, args)
  select 'webhooks', 'jobqueue.webhook', 'webhook:{WEBHOOK}', 'py', '{{"body": "{{\\"type\\": \\"job.dead\\"}}"}}'
  from generate_series(1, 150) n;
"""
FILL: LiteralString = _UNWATCHED + _FINISHED + _WAITING + _WORKERS + _HISTORY + _BESIDE
"""After SMALL or LARGE. The planner knows nothing of it."""
