-- name: ask_to_cancel
-- takes: ids uuid[]
-- gives: id uuid
-- Running jobs are told to end; whoever holds them hears it (c:fence), or finds it in the answer to a beat. What the handler
-- has reached by then counts; whatever would run the job again ends it as cancelled instead.
with mine as materialized (
  -- locked in the order of the ids, as a finish does; fence > 0 is running, in words that tempt the planner to no index
  select j.id from unnest($1::uuid[]) as g(id)
  cross join lateral (select j.id from :"schema".job j where j.id = g.id and j.fence > 0 for update) as j
), asked as (
  update :"schema".job set cancel_asked = coalesce(cancel_asked, now())
  where id = any(array(select id from mine))
  returning id, fence
), told as materialized (
  select pg_notify(:'wake_channel', 'c:' || fence) from asked where pg_notification_queue_usage() < 0.9
)
select id from asked where (select count(*) from told) >= 0;

-- name: change_waiting
-- takes: ids uuid[], delay double precision, at timestamptz, queue text, priority smallint, always boolean
-- gives: id uuid
-- Jobs that wait, ready or scheduled, get another due time, queue or priority; null leaves it. Those with another time or
-- queue line up anew. While this holds a row, a claim skips it: hence the wake-up, or it would sleep over it.
with clock as materialized (
  select clock_timestamp() as now
), mine as materialized (
  select j.id from unnest($1::uuid[]) as g(id)
  cross join lateral (
    select j.id from :"schema".job j where j.id = g.id and j.state in ('ready', 'scheduled') for update) as j
), changed as (
  update :"schema".job j
  set due_at = coalesce($3, clock.now + make_interval(secs => $2), j.due_at),
    state = case when coalesce($3, clock.now + make_interval(secs => $2), j.due_at) > clock.now then 'scheduled' else 'ready' end,
    seq = case when $2 is null and $3 is null and $4::text is null then j.seq else nextval(':"schema".job_seq') end,
    queue = coalesce($4::text, j.queue), priority = coalesce($5::smallint, j.priority)
  from clock
  where j.id = any(array(select id from mine))
  returning j.id, j.queue, case when j.state = 'scheduled' then j.due_at end as due
), woken as materialized (
  select :"schema".wake(queue, min(due), $6) from changed group by queue, due is null
)
select id from changed where (select count(*) from woken) >= 0;

-- name: delete_waiting
-- takes: ids uuid[]
-- gives: id uuid
with mine as materialized (
  select j.id from unnest($1::uuid[]) as g(id)
  cross join lateral (select j.id from :"schema".job j where j.id = g.id and j.fence = 0 for update) as j
), gone as (
  delete from :"schema".job where id = any(array(select id from mine)) returning id, key
), freed as (
  -- locked in the order of the keys: an expired one may be another's to take
  delete from :"schema".job_key where key = any(array(
    select k.key from :"schema".job_key k
    where k.key = any(array(select key from gone where key is not null)) and k.job_id = any(array(select id from gone))
    order by k.key for update))
)
select id from gone;

-- name: delete_finished
-- takes: ids uuid[], since timestamptz
-- gives: id uuid
-- By place: `id = any(...)` reads a whole day that was not analysed yet. A place is one of any day, hence the id as well.
with found as materialized (
  select a.id, a.place from unnest($1::uuid[]) as g(id)
  cross join lateral (
    select a.id, a.ctid as place from :"schema".job_archive a where a.id = g.id and a.finished_at >= $2 for update
  ) as a
), gone as (
  delete from :"schema".job_archive
  where ctid = any(array(select place from found)) and id = any(array(select id from found)) and finished_at >= $2
  returning id, key
), freed as (
  -- locked in the order of the keys: an expired one may be another's to take
  delete from :"schema".job_key where key = any(array(
    select k.key from :"schema".job_key k
    where k.key = any(array(select key from gone where key is not null)) and k.job_id = any(array(select id from gone))
    order by k.key for update))
)
select id from gone;

-- name: retry_finished
-- takes: ids uuid[], since timestamptz, always boolean
-- gives: id uuid, retried boolean
-- Moves jobs back from the archive: the same id and error history, no attempt spent, the budget anew. A job whose unique
-- key another holds by now stays where it is; of two with the same key the newer one is taken.
with found as materialized (
  select a.id, a.key, a.place from unnest($1::uuid[]) as g(id)
  cross join lateral (
    select a.id, a.key, a.ctid as place from :"schema".job_archive a where a.id = g.id and a.finished_at >= $2 for update
  ) as a
), wanted as materialized (
  select distinct on (key collate "C") key, id from found where key is not null order by key collate "C", id desc
), there as materialized (
  select k.key, k.xmin as version,
    k.job_id = w.id or k.expires_at <= now() or k.scope <> 'period' and j.id is null as free
  from wanted w
  cross join lateral (select k.*, k.xmin from :"schema".job_key k where k.key = w.key offset 0) as k
  left join lateral (select j.id from :"schema".job j where j.id = k.job_id offset 0) as j on true
), over as materialized (
  -- only what is ours to take is locked, in the order of the keys, see take_keys
  select k.key from :"schema".job_key k
  where k.key = any(array(select key from there where free)) and k.xmin = any(array(select version from there where free))
  order by k.key for update
), renewed as (
  update :"schema".job_key k set job_id = w.id, scope = 'unfinished', expires_at = null
  from unnest(array(select key from over)) as o(key) join wanted w on w.key = o.key  -- see promote_due
  where k.key = o.key
  returning k.job_id
), entered as (
  insert into :"schema".job_key (key, job_id, scope)
  select key, id, 'unfinished' from wanted w where not exists (select from there t where t.key = w.key)
  on conflict on constraint job_key_pkey do nothing
  returning job_id
), keyed as (
  select job_id from renewed union all select job_id from entered
), free as materialized (
  select id, place from found where key is null or id in (select job_id from keyed)
), back as (
  delete from :"schema".job_archive  -- by place, see delete_finished
  where ctid = any(array(select place from free)) and id = any(array(select id from free)) and finished_at >= $2
  returning *
), inserted as (
  insert into :"schema".job (id, queue, task, args, priority, state, due_at, max_attempts, timeout, deadline, budget, origin, via,
    meta, key, bundle_id, follow, created_at, progress, errors)
  select id, queue, task, args, priority, 'ready', now(), max_attempts, timeout, now() + make_interval(secs => budget), budget, origin,
    'py', meta, key, bundle_id, follow, created_at, progress, errors
  from back
  returning id, queue
), woken as materialized (
  select :"schema".wake(queue, null, $3) from inserted group by queue
)
select f.id, exists (select from inserted i where i.id = f.id) as retried
from found f where (select count(*) from woken) >= 0;

-- name: where_are
-- takes: ids uuid[], since timestamptz
-- gives: id uuid, state text
select id, state from :"schema".job where id = any($1::uuid[])
union all
select a.id, a.state from unnest($1::uuid[]) as g(id)
cross join lateral (select a.id, a.state from :"schema".job_archive a where a.id = g.id and a.finished_at >= $2 offset 0) as a;

-- name: find_ids
-- takes: states text[], queue text, task text, origin text, after uuid, room bigint
-- gives: id uuid
-- The ids of a filter, oldest first, a page at a time.
select id from (
  (select id from :"schema".job
  where ($1::text[] is null or state = any($1)) and ($2::text is null or queue = $2) and ($3::text is null or task = $3)
    and ($4::text is null or origin = $4) and ($5::uuid is null or id > $5)
  order by id limit $6)
  union all
  (select id from :"schema".job_archive
  where ($1::text[] is null or state = any($1)) and ($2::text is null or queue = $2) and ($3::text is null or task = $3)
    and ($4::text is null or origin = $4) and ($5::uuid is null or id > $5)
  order by id limit $6)
) as both_tables
order by id limit $6;

-- name: holders
-- takes: keys text[]
-- gives: job_id uuid
select job_id from :"schema".job_key where key = any($1::text[]) and (expires_at is null or expires_at > now());

-- name: pause_queue
-- takes: name text, until timestamptz, seconds double precision
-- gives: resume_at timestamptz
with paused as (
  insert into :"schema".queue (name, paused_at, resume_at)
  values ($1, now(), coalesce($2, clock_timestamp() + make_interval(secs => $3)))
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
with found as materialized (
  select name, resume_at is null or resume_at > now() as paused from :"schema".queue
  where name = $1 and paused_at is not null for update
), resumed as (
  update :"schema".queue set paused_at = null, resume_at = null where name in (select name from found)
), woken as materialized (
  select :"schema".wake(name, null, false) from found
)
select (select count(*) from woken) >= 0 and coalesce((select paused from found), false) as was_paused;
