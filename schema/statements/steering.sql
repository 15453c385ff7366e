-- name: ask_to_cancel
-- takes: ids uuid[]
-- gives: id uuid, asked boolean
-- Running jobs are told to end; whoever holds them hears it (c:fence), or finds it in the answer to a beat. What the handler
-- has reached by then counts; whatever would run the job again ends it as cancelled instead. Those that wait are only looked
-- at: nobody has locked them or their keys. Here and below: a row that another transaction has is passed over, never waited
-- for, and whoever asked is told.
with mine as materialized (
  -- locked in the order of the ids, as a finish does; fence > 0 is running, in words that tempt the planner to no index
  select j.id, j.fence, j.key from unnest($1::uuid[]) as g(id)
  cross join lateral (
    select j.id, j.fence, j.key from :"schema".job j where j.id = g.id for no key update skip locked) as j  -- see record_phases
), asked as (
  update :"schema".job set cancel_asked = coalesce(cancel_asked, now())
  where id = any(array(select id from mine where fence > 0))
  returning id, fence
), told as materialized (
  select pg_notify(:'wake_channel', 'c:' || fence) from asked where pg_notification_queue_usage() < 0.9
), keyed as materialized (
  select k.key from :"schema".job_key k
  where k.key = any(array(select key from mine where fence = 0 and key is not null)) order by k.key for update skip locked
)
select id, true as asked from asked where (select count(*) from told) >= 0
union all
select id, false from mine m
where fence = 0 and (key is null or key in (select key from keyed)
  or not exists (select from :"schema".job_key k where k.key = m.key));

-- name: change_waiting
-- takes: ids uuid[], delay double precision, at timestamptz, queue text, priority smallint, blocked boolean, always boolean, from_start boolean
-- gives: id uuid
-- Jobs that wait get another due time, queue or priority; null leaves it. Those with another time or queue line up anew, at
-- their gates too.
-- While this holds a row, a claim skips it: hence the wake-up, or it would sleep over it. Those that are blocked
-- are changed only if `blocked` says so; who waits for other jobs goes on doing so, and wakes nobody. `from_start`: see retry_finished.
with clock as materialized (
  select clock_timestamp() as now
), mine as materialized (
  select j.* from unnest($1::uuid[]) as g(id)
  cross join lateral (
    select j.id, j.state, j.gate, j.passed, j.keeps, j.due_at from :"schema".job j
    where j.id = g.id and j.fence = 0 and ($6 or j.state <> 'blocked') for update skip locked) as j
), ahead as materialized (
  -- whoever waits for other jobs goes on doing so; a place given up is one to line up for
  select m.*, m.state = 'blocked' and m.gate is null as waits, coalesce($3, clock.now + make_interval(secs => $2), m.due_at) as due,
    case when $2 is null and $3 is null and $4::text is null then m.passed else m.keeps end as stays, clock.now
  from mine m cross join clock
), changed as (
  update :"schema".job j
  set due_at = a.due,
    state = case when a.waits then j.state when a.due > a.now then 'scheduled'
      when a.stays < cardinality(j.gates) then 'blocked' else 'ready' end,
    passed = a.stays, gate = case when not a.waits and a.due <= a.now then j.gates[a.stays + 1] end,
    token_until = case when a.stays = j.passed then j.token_until end,
    seq = case when $2 is null and $3 is null and $4::text is null then j.seq else nextval(':"schema".job_seq') end,
    queue = coalesce($4::text, j.queue), priority = coalesce($5::smallint, j.priority)
  from ahead a where j.id = any(array(select id from ahead)) and j.id = a.id
  returning j.id, case when j.gate is null then j.queue else '' end as queue, j.state <> 'blocked' or j.gate is not null as wakes,
    case when j.state <> 'ready' then j.due_at end as due
), cleared as (
  delete from :"schema".phase where $8 and job_id = any(array(select id from changed))
), woken as materialized (
  select :"schema".wake(queue, min(due), $7) from changed where wakes group by queue, due is null
)
select id from changed where (select count(*) from woken) >= 0;

-- name: delete_waiting
-- takes: ids uuid[]
-- gives: id uuid
with mine as materialized (
  select j.id, j.key from unnest($1::uuid[]) as g(id)
  cross join lateral (
    select j.id, j.key from :"schema".job j where j.id = g.id and j.fence = 0 for update skip locked) as j
), keyed as materialized (
  -- in the order of the keys: an expired one may be another's to take
  select k.key, k.job_id from :"schema".job_key k
  where k.key = any(array(select key from mine where key is not null)) order by k.key for update skip locked
), free as materialized (
  select id from mine m
  where key is null or key in (select key from keyed) or not exists (select from :"schema".job_key k where k.key = m.key)
), gone as (
  delete from :"schema".job where id = any(array(select id from free))
  returning id, task, queue, origin, bundle_id, attempt, follow
), forgotten as (
  delete from :"schema".phase where job_id = any(array(select id from gone))
), unread as (
  delete from :"schema".signal where job_id = any(array(select id from gone))
), freed as (
  delete from :"schema".job_key where key = any(array(select key from keyed where job_id = any(array(select id from free))))
), noted as (
  -- it will never end: to its bundle, and to those that wait for it, that is as good as cancelled
  insert into :"schema".fact (target, of_job, cancelled)
  select target, of_job, count(*) from (
    select bundle_id as target, false as of_job from gone where bundle_id is not null and follow & 4 = 0
    union all select id, true from gone where follow & 2 <> 0) as ends
  group by target, of_job
  returning target
), hinted as materialized (
  select pg_notify(:'wake_channel', 'f:') from noted limit 1
), entering as materialized (
  select :"entering"  -- before a number is drawn: see event_edge()
), logged as (
  insert into :"log" (type, task, queue, origin, bundle_id, jobs, attempts)
  select 'job.deleted', task, queue, origin, bundle_id, array_agg(id), array_agg(attempt)
  from entering cross join gone group by task, queue, origin, bundle_id
)
select id from gone where (select count(*) from hinted) >= 0;

-- name: delete_finished
-- takes: ids uuid[], since timestamptz
-- gives: id uuid
-- By place: `id = any(...)` reads a whole day that was not analysed yet. A place is one of any day, hence the id as well.
with found as materialized (
  select a.id, a.key, a.place from unnest($1::uuid[]) as g(id)
  cross join lateral (
    select a.id, a.key, a.ctid as place from :"schema".job_archive a
    where a.id = g.id and a.finished_at >= $2 for update skip locked
  ) as a
), keyed as materialized (  -- as in delete_waiting
  select k.key, k.job_id from :"schema".job_key k
  where k.key = any(array(select key from found where key is not null)) and k.job_id = any(array(select id from found))
  order by k.key for update skip locked
), free as materialized (
  select id, place from found f
  where key is null or key in (select key from keyed)
    or not exists (select from :"schema".job_key k where k.key = f.key and k.job_id = f.id)
), gone as (
  delete from :"schema".job_archive
  where ctid = any(array(select place from free)) and id = any(array(select id from free)) and finished_at >= $2
  returning id, task, queue, origin, bundle_id, attempt
), forgotten as (
  delete from :"schema".phase where job_id = any(array(select id from gone))
), unread as (
  delete from :"schema".signal where job_id = any(array(select id from gone))
), freed as (
  delete from :"schema".job_key where key = any(array(select key from keyed where job_id = any(array(select id from free))))
), shown as (
  update :"schema".node n set kept = false where n.job_id = any(array(select id from gone where bundle_id is not null)) and n.kept
), entering as materialized (
  select :"entering"  -- before a number is drawn: see event_edge()
), logged as (
  insert into :"log" (type, task, queue, origin, bundle_id, jobs, attempts)
  select 'job.deleted', task, queue, origin, bundle_id, array_agg(id), array_agg(attempt)
  from entering cross join gone group by task, queue, origin, bundle_id
)
select id from gone;

-- name: retry_finished
-- takes: ids uuid[], since timestamptz, always boolean, doomed boolean, from_start boolean
-- gives: id uuid, retried boolean
-- Moves jobs back from the archive: the same id and error history, no attempt spent, the budget anew. A job whose unique
-- key another holds by now stays where it is; of two with the same key the newer one is taken. Nothing is said of a job
-- that another transaction has locked, or its key. What has been cancelled while it waited for others waits for them again.
-- `doomed`: only what has been cancelled for want of another; it may have come back, and run, since somebody saw it.
-- `from_start`: without the phases that earlier runs have left.
with found as materialized (
  select a.id, a.key, a.place from unnest($1::uuid[]) as g(id)
  cross join lateral (
    select a.id, a.key, a.ctid as place from :"schema".job_archive a
    where a.id = g.id and a.finished_at >= $2
      and (not $4 or a.state = 'cancelled' and a.reason = 'dependency') for update skip locked
  ) as a
), wanted as materialized (
  select distinct on (key collate "C") key, id from found where key is not null order by key collate "C", id desc
), there as materialized (
  select k.key, k.xmin as version,
    k.job_id = w.id or k.expires_at <= now() or k.scope <> 'period' and j.id is null as free
  from wanted w
  cross join lateral (select k.*, k.xmin from :"schema".job_key k where k.key = w.key offset 0) as k
  left join lateral (select j.id from :"schema".job j where j.id = k.job_id offset 0) as j on true
), entered as (
  insert into :"schema".job_key (key, job_id, scope)
  select key, id, 'unfinished' from wanted w where not exists (select from there t where t.key = w.key)
  order by key collate "C"
  on conflict on constraint job_key_pkey do nothing
  returning job_id
), over as materialized (
  -- only what is ours to take is locked, in the order of the keys, and after the inserts: see take_keys
  select k.key from there as t
  cross join lateral (
    select k.key from :"schema".job_key k where k.key = t.key and k.xmin = t.version for update skip locked) as k
  where t.free and (select count(*) from entered) >= 0
), renewed as (
  update :"schema".job_key k set job_id = w.id, scope = 'unfinished', expires_at = null
  from unnest(array(select key from over)) as o(key) join wanted w on w.key = o.key  -- see promote_due
  where k.key = o.key
  returning k.job_id
), keyed as (
  select job_id from renewed union all select job_id from entered
), free as materialized (
  select id, place from found where key is null or id in (select job_id from keyed)
), back as (
  delete from :"schema".job_archive  -- by place, see delete_finished
  where ctid = any(array(select place from free)) and id = any(array(select id from free)) and finished_at >= $2
  returning *
), inserted as (
  insert into :"schema".job (id, queue, task, args, priority, state, due_at, max_attempts, timeout, deadline, budget, origin,
    via, meta, key, bundle_id, follow, created_at, progress, errors, gates, gate)
  select id, queue, task, args, priority, case when waits or gates is not null then 'blocked' else 'ready' end, now(), max_attempts, timeout,
    now() + make_interval(secs => budget), budget, origin,
    'py', meta, key, bundle_id, follow, created_at, progress, errors, gates, case when not waits then gates[1] end
  from back cross join lateral (
    select bundle_id is not null and exists (select from :"schema".dependency d where d.job_id = back.id) as waits) as before
  returning id, queue, state, gate
), cleared as (
  -- a wait whose time was over begins anew: for nothing else would the job run again
  delete from :"schema".phase
  where job_id = any(array(select id from inserted)) and ($5 or kind = 'wait' and error is not null)
), woken as materialized (
  select :"schema".wake(queue, due, $3) from (
    select distinct case when gate is null then queue else '' end as queue, case when gate is not null then now() end as due
    from inserted where state = 'ready' or gate is not null) as back
), noted as (
  insert into :"schema".fact (target, of_job, completed, cancelled, dead)
  select target, of_job, -count(*) filter (where state = 'completed'), -count(*) filter (where state = 'cancelled'),
    -count(*) filter (where state = 'dead')
  from (
    select bundle_id as target, false as of_job, state from back where bundle_id is not null and follow & 4 = 0
    union all select id, true, state from back where follow & 2 <> 0
    -- what it waits for may have ended since, or end while nobody sees this
    union all select d.on_id, true, null from inserted i cross join lateral (
      select on_id from :"schema".dependency d where d.job_id = i.id offset 0) as d
    where i.state = 'blocked' and i.gate is null) as moves
  group by target, of_job
  returning target
), hinted as materialized (
  select pg_notify(:'wake_channel', 'f:') from noted limit 1
), entering as materialized (
  select :"entering"  -- before a number is drawn: see event_edge()
), logged as (
  insert into :"log" (type, task, queue, origin, bundle_id, jobs, attempts)
  select 'job.revived', task, queue, origin, bundle_id, array_agg(id), array_agg(attempt)
  from entering cross join back group by task, queue, origin, bundle_id
)
select f.id, exists (select from inserted i where i.id = f.id) as retried
from found f
where (select count(*) from woken) + (select count(*) from hinted) >= 0
  and not exists (
    select from there t where t.key = f.key and t.free and t.key not in (select key from over)
      and exists (select from wanted w where w.id = f.id));

-- name: are_bundled
-- takes: ids uuid[], since timestamptz
-- gives: id uuid, bundled boolean
select id, bundle_id is not null as bundled from :"schema".job where id = any($1::uuid[])
union all
select a.id, a.bundle_id is not null from unnest($1::uuid[]) as g(id)
cross join lateral (select a.id, a.bundle_id from :"schema".job_archive a where a.id = g.id and a.finished_at >= $2 offset 0) as a;

-- name: where_are
-- takes: ids uuid[], since timestamptz
-- gives: id uuid, state text
select id, state from :"schema".job where id = any($1::uuid[])
union all
select a.id, a.state from unnest($1::uuid[]) as g(id)
cross join lateral (select a.id, a.state from :"schema".job_archive a where a.id = g.id and a.finished_at >= $2 offset 0) as a;

-- name: queues_of
-- takes: ids uuid[], since timestamptz
-- gives: id uuid, queue text
select id, queue from :"schema".job where id = any($1::uuid[])
union all
select a.id, a.queue from unnest($1::uuid[]) as g(id)
cross join lateral (select a.id, a.queue from :"schema".job_archive a where a.id = g.id and a.finished_at >= $2 offset 0) as a;

-- name: row_holders
-- takes: ids uuid[], since timestamptz
-- gives: id uuid, pid integer, name text, seconds double precision
-- Who has locked these jobs, or their keys: the transaction that stands in the row. It is given by its connection's name,
-- never by what it runs; since when it is open, a role without pg_read_all_stats does not see of others.
select distinct on (g.id) g.id, l.pid,
  coalesce(nullif(s.application_name, ''), s.usename::text, 'a prepared transaction') as name,
  extract(epoch from clock_timestamp() - s.xact_start)::double precision as seconds
from unnest($1::uuid[]) as g(id)
cross join lateral (
  select j.xmax from :"schema".job j where j.id = g.id
  union all
  select k.xmax from :"schema".job j join :"schema".job_key k on k.key = j.key where j.id = g.id
  union all
  select a.xmax from :"schema".job_archive a where a.id = g.id and a.finished_at >= $2
) as held
join pg_locks l on l.locktype = 'transactionid' and l.granted and l.transactionid = held.xmax
  and l.pid is distinct from pg_backend_pid()
left join pg_stat_activity s on s.pid = l.pid
order by g.id;

-- name: queue_holder
-- takes: name text
-- gives: pid integer, name text, seconds double precision
-- The same for the row of a queue.
select l.pid, coalesce(nullif(s.application_name, ''), s.usename::text, 'a prepared transaction') as name,
  extract(epoch from clock_timestamp() - s.xact_start)::double precision as seconds
from :"schema".queue q
join pg_locks l on l.locktype = 'transactionid' and l.granted and l.transactionid = q.xmax
  and l.pid is distinct from pg_backend_pid()
left join pg_stat_activity s on s.pid = l.pid
where q.name = $1;

-- name: holders
-- takes: keys text[]
-- gives: job_id uuid
select job_id from :"schema".job_key where key = any($1::text[]) and (expires_at is null or expires_at > now());

-- name: pause_queue
-- takes: name text, until timestamptz, seconds double precision
-- gives: resume_at timestamptz
-- Whoever has the row of a queue is waited for, for a second.
with patience as materialized (
  select set_config('lock_timeout', '1s', true)
), paused as (
  insert into :"schema".queue (name, paused_at, resume_at)
  select $1, now(), coalesce($2, clock_timestamp() + make_interval(secs => $3)) from patience
  on conflict on constraint queue_pkey
  do update set paused_at = coalesce(:"schema".queue.paused_at, now()), resume_at = excluded.resume_at
  returning resume_at
), woken as materialized (
  select :"schema".wake($1, resume_at, false) from paused where resume_at is not null
)
select resume_at from paused where (select count(*) from woken) >= 0;

-- name: resume_queue
-- takes: name text
-- gives: was_paused boolean
-- The mark of a pause that is over stays until a worker clears it away.
with patience as materialized (
  select set_config('lock_timeout', '1s', true)
), found as materialized (
  select q.name, q.resume_at is null or q.resume_at > now() as paused from :"schema".queue q cross join patience
  where q.name = $1 and q.paused_at is not null for update of q
), resumed as (
  update :"schema".queue set paused_at = null, resume_at = null where name in (select name from found)
), woken as materialized (
  select :"schema".wake(name, null, false) from found
)
select (select count(*) from woken) >= 0 and coalesce((select paused from found), false) as was_paused;

-- name: keep_finished
-- takes: queue text, completed double precision, other double precision, most_completed bigint, most_other bigint
-- gives:
with patience as materialized (
  select set_config('lock_timeout', '1s', true)
)
insert into :"schema".queue (name, keep_completed, keep_other, most_completed, most_other) select $1, $2, $3, $4, $5 from patience
on conflict on constraint queue_pkey do update set keep_completed = excluded.keep_completed,
  keep_other = excluded.keep_other, most_completed = excluded.most_completed, most_other = excluded.most_other;
