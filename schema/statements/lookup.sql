-- name: find_job
-- takes: id uuid, since timestamptz
-- gives: id uuid, task text, queue text, state text, priority smallint, attempt integer, max_attempts integer, crashes smallint, lost smallint, due_at timestamptz, created_at timestamptz, claimed_at timestamptz, finished_at timestamptz, timeout double precision, deadline timestamptz, expires_at timestamptz, origin text, worker_id uuid, lease_until timestamptz, cancel_asked timestamptz, key text, bundle_id uuid, reason text, errors text, args text, result text, meta text, progress text, read_at timestamptz
-- Both tables in one statement, so in one snapshot: a job that is just finishing is seen in exactly one of them.
-- `since` spares a look at older days: they are not even opened.
select id, task, queue, state, priority, attempt, max_attempts, crashes, lost, due_at, created_at, claimed_at,
  null::timestamptz as finished_at, timeout, deadline, expires_at, origin, worker_id, lease_until, cancel_asked, key, bundle_id,
  null::text as reason, errors::text as errors, args::text as args, null::text as result, meta::text as meta,
  progress::text as progress, now() as read_at
from :"schema".job where id = $1
union all
select id, task, queue, state, priority, attempt, max_attempts, crashes, lost, due_at, created_at, claimed_at,
  finished_at, timeout, deadline, expires_at, origin, worker_id, null, null, key, bundle_id,
  reason, errors::text, args::text, result::text, meta::text, progress::text, now()
from :"schema".job_archive where id = $1 and finished_at >= $2;

-- name: list_jobs
-- takes: states text[], queue text, task text, origin text, before uuid, room bigint
-- gives: id uuid, task text, queue text, state text, priority smallint, attempt integer, max_attempts integer, crashes smallint, lost smallint, due_at timestamptz, created_at timestamptz, claimed_at timestamptz, finished_at timestamptz, timeout double precision, deadline timestamptz, expires_at timestamptz, origin text, worker_id uuid, lease_until timestamptz, cancel_asked timestamptz, key text, bundle_id uuid, reason text, errors text, args text, result text, meta text, progress text, read_at timestamptz
-- Newest first by id, which is by time for UUIDv7; `before` is the last id of the page before.
select * from (
  (select id, task, queue, state, priority, attempt, max_attempts, crashes, lost, due_at, created_at, claimed_at,
    null::timestamptz as finished_at, timeout, deadline, expires_at, origin, worker_id, lease_until, cancel_asked, key, bundle_id,
    null::text as reason, errors::text as errors, args::text as args, null::text as result, meta::text as meta,
    progress::text as progress, now() as read_at
  from :"schema".job
  where ($1::text[] is null or state = any($1)) and ($2::text is null or queue = $2) and ($3::text is null or task = $3)
    and ($4::text is null or origin = $4) and ($5::uuid is null or id < $5)
  order by id desc limit $6)
  union all
  (select id, task, queue, state, priority, attempt, max_attempts, crashes, lost, due_at, created_at, claimed_at,
    finished_at, timeout, deadline, expires_at, origin, worker_id, null, null, key, bundle_id,
    reason, errors::text, args::text, result::text, meta::text, progress::text, now()
  from :"schema".job_archive
  where ($1::text[] is null or state = any($1)) and ($2::text is null or queue = $2) and ($3::text is null or task = $3)
    and ($4::text is null or origin = $4) and ($5::uuid is null or id < $5)
  order by id desc limit $6)
) as both_tables
order by id desc limit $6;

-- name: await_jobs
-- takes: ids uuid[]
-- gives: id uuid
-- Answers with the jobs that are still unfinished; their finish will notify. The row lock orders the two.
-- While this holds a row, a claim skips it, and so does a promotion: hence the wake-up, or they would sleep over it.
with marked as (
  update :"schema".job set awaited = true where id = any($1)
  returning id, queue, state, case when state = 'scheduled' then due_at end as due
), woken as materialized (
  select :"schema".wake(queue, min(due), false) from marked where state in ('ready', 'scheduled') group by queue, due is null
)
select id from marked where (select count(*) from woken) >= 0;

-- name: gone_jobs
-- takes: ids uuid[]
-- gives: id uuid
-- Which of these are unfinished no more. One index probe an id; the archive is not even opened.
select g.id from unnest($1::uuid[]) as g(id)
left join lateral (select j.id from :"schema".job j where j.id = g.id offset 0) as j on true
where j.id is null;
