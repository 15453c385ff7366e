-- name: claim_jobs
-- takes: worker_id uuid, claim_no bigint, lease double precision, queues text[], rooms integer[], room bigint, idle bigint, suspects bigint
-- gives: id uuid, fence bigint, seq bigint, priority smallint, queue text, task text, args text, attempt integer, max_attempts integer, crashes smallint, lost smallint, timeout double precision, budget_left double precision, start_left double precision, origin text, meta text, key text, bundle_id uuid, due_at timestamptz, created_at timestamptz, claimed_at timestamptz, deadline timestamptz, expires_at timestamptz, lease_until timestamptz, aside_since timestamptz, progress text, errors text, started boolean
-- One arm per queue that is not paused, with its own limit, read lazily: no more rows are locked than are returned. SKIP LOCKED: workers
-- never wait for each other. The answer has no order; the worker sorts by priority and seq. At most `suspects` jobs whose
-- worker died are among them, and none that must run alone. Those that find an idle slot start at once, so they count as started; the rest waits.
with serving as materialized (
  select arm.queue, arm.room from unnest($4::text[], $5::integer[]) with ordinality as arm(queue, room, place)
  where not exists (
    select from :"schema".queue q where q.name = arm.queue and q.paused_at is not null
      and (q.resume_at is null or q.resume_at > now()))
  order by place
), suspect as materialized (
  select found.id, found.queue, found.priority, found.seq
  from serving as arm
  cross join lateral (
    select j.id, j.queue, j.priority, j.seq from :"schema".job j
    where j.state = 'ready' and j.crashes > 0 and not j.alone and j.queue = arm.queue
    order by j.priority desc, j.seq
    limit least(arm.room, $8::bigint)
    for update skip locked
  ) as found
  limit least($8::bigint, $6)
), picked as materialized (
  -- materialized: as a subquery a nested loop could run it twice, and claim twice as much
  select found.id, found.priority, found.seq
  from serving as arm
  cross join lateral (
    select j.id, j.priority, j.seq from :"schema".job j
    where j.state = 'ready' and j.crashes = 0 and j.queue = arm.queue
    order by j.priority desc, j.seq
    limit arm.room - (select count(*) from suspect s where s.queue = arm.queue)
    for update skip locked
  ) as found
  limit $6 - (select count(*) from suspect)
), taken as materialized (
  select id, priority, seq from picked union all select id, priority, seq from suspect
), waiting as materialized (
  select priority, seq from taken order by priority desc, seq offset $7 limit 1
), claimed as (
  -- = any(array(...)): a join became a hash join over the whole table at batches of 500 (33 000 jobs/s, this 73 000)
  update :"schema".job j
  set state = 'running', attempt = least(j.attempt, 32767) + 1, fence = nextval(':"schema".fence_seq'), worker_id = $1,
    claim_no = $2, lease_until = now() + make_interval(secs => $3), claimed_at = now(),
    started = coalesce(j.priority > (select priority from waiting)
      or j.priority = (select priority from waiting) and j.seq < (select seq from waiting), true)
  where j.id = any(array(select id from taken))
  returning j.*
), freed as (
  -- a key of scope `waiting` is free from here on, also if the job comes back: it may be another job's by then
  delete from :"schema".job_key k
  where k.key = any(array(select c.key from claimed c where c.key is not null)) and k.scope = 'waiting'
    and k.job_id = any(array(select c.id from claimed c where c.key is not null))
)
select id, fence, seq, priority, queue, task, args::text as args, attempt, max_attempts, crashes, lost, timeout,
  extract(epoch from deadline - now())::double precision as budget_left,
  extract(epoch from expires_at - now())::double precision as start_left,
  origin, meta::text as meta, key, bundle_id, due_at, created_at, claimed_at, deadline, expires_at, lease_until,
  aside_since, progress::text as progress, errors::text as errors, started
from claimed;

-- name: claim_alone
-- takes: worker_id uuid, claim_no bigint, lease double precision, queues text[]
-- gives: id uuid, fence bigint, seq bigint, priority smallint, queue text, task text, args text, attempt integer, max_attempts integer, crashes smallint, lost smallint, timeout double precision, budget_left double precision, start_left double precision, origin text, meta text, key text, bundle_id uuid, due_at timestamptz, created_at timestamptz, claimed_at timestamptz, deadline timestamptz, expires_at timestamptz, lease_until timestamptz, aside_since timestamptz, progress text, errors text, started boolean
-- One job that must run alone, for a worker in which nothing runs.
with picked as materialized (
  select j.id from :"schema".job j
  where j.state = 'ready' and j.crashes > 0 and j.alone and j.queue = any($4::text[])
    and not exists (
      select from :"schema".queue q where q.name = j.queue and q.paused_at is not null
        and (q.resume_at is null or q.resume_at > now()))
  order by j.priority desc, j.seq
  limit 1
  for update skip locked
), claimed as (
  update :"schema".job j
  set state = 'running', attempt = j.attempt + 1, fence = nextval(':"schema".fence_seq'), worker_id = $1,
    claim_no = $2, lease_until = now() + make_interval(secs => $3), claimed_at = now(), started = true
  where j.id = any(array(select id from picked))
  returning j.*
), freed as (
  delete from :"schema".job_key k
  where k.key = any(array(select c.key from claimed c where c.key is not null)) and k.scope = 'waiting'
    and k.job_id = any(array(select c.id from claimed c where c.key is not null))
)
select id, fence, seq, priority, queue, task, args::text as args, attempt, max_attempts, crashes, lost, timeout,
  extract(epoch from deadline - now())::double precision as budget_left,
  extract(epoch from expires_at - now())::double precision as start_left,
  origin, meta::text as meta, key, bundle_id, due_at, created_at, claimed_at, deadline, expires_at, lease_until,
  aside_since, progress::text as progress, errors::text as errors, started
from claimed;

-- name: waiting_alone
-- takes: queues text[]
-- gives: jobs bigint, workers bigint
-- How many jobs wait to run alone, and how many workers live that may make way for them.
select (
    select count(*) from :"schema".job j
    where j.state = 'ready' and j.crashes > 0 and j.alone and j.queue = any($1::text[])
  ) as jobs,
  (select count(*) from :"schema".worker where alive_until > now()) as workers;

-- name: ready_queues
-- takes:
-- gives: queue text
-- The queues that have ready jobs, by a loose index scan: one probe a queue, however long the backlog.
with recursive found as (
  (select j.queue from :"schema".job j where j.state = 'ready' and j.crashes = 0 order by j.queue limit 1)
  union all
  select (select j.queue from :"schema".job j where j.state = 'ready' and j.crashes = 0 and j.queue > f.queue
    order by j.queue limit 1)
  from found f where f.queue is not null
)
select queue from found where queue is not null
union
select j.queue from :"schema".job j where j.state = 'ready' and j.crashes > 0
order by queue;

-- name: promote_due
-- takes: room bigint
-- gives: promoted bigint, next_in double precision
-- Scheduled jobs that have come due become ready, with a new seq: a delayed job does not overtake the backlog.
-- Whoever asks looks again within the day: what comes later, however much later, is nothing to compute with.
with resumed as (
  update :"schema".queue set paused_at = null, resume_at = null where resume_at <= now() returning name
), due as materialized (
  select d.id, nextval(':"schema".job_seq') as seq from (
    -- -infinity: for a range with two ends the planner of an unknown table expects few rows and reads the index in
    -- order; for one end it read and sorted all that was due, however much
    select id from :"schema".job where state = 'scheduled' and due_at between '-infinity' and now()
    order by due_at limit $1 for update skip locked
  ) as d
), promoted as (
  update :"schema".job j set state = 'ready', seq = due.seq
  from due where j.id = any(array(select id from due)) and j.id = due.id
  returning j.queue
), woken as materialized (
  select :"schema".wake(queue, null, false)
  from (select queue from promoted union select name from resumed) as either(queue)
)
select (select count(*) from promoted) + 0 * (select count(*) from woken) as promoted,
  extract(epoch from least(
    (select min(due_at) from :"schema".job where state = 'scheduled' and due_at > now() and due_at < now() + interval '1 day'),
    (select min(resume_at) from :"schema".queue where resume_at > now() and resume_at < now() + interval '1 day')) - clock_timestamp())::double precision as next_in;

-- name: publish_sleep
-- takes: worker_id uuid, queues text[], seconds double precision
-- gives:
-- Under the exclusive lock, see wake(); the caller looks once more afterwards. Producers queue behind this lock, so one
-- of them that hangs in its commit must not hold it up: after 250 ms it fails, and the worker polls for a while.
with patience as materialized (
  select set_config('lock_timeout', '250ms', true)
), barrier as materialized (
  select pg_advisory_xact_lock(:'wake_class', :'wake_key') from patience
)
insert into :"schema".sleeper (worker_id, queue, wake_at)
select $1, q, clock_timestamp() + make_interval(secs => $3) from barrier, unnest($2::text[]) as q
on conflict on constraint sleeper_pkey do update set wake_at = excluded.wake_at;

-- name: end_sleep
-- takes: worker_id uuid, queues text[]
-- gives:
delete from :"schema".sleeper where worker_id = $1 and queue = any($2::text[]);

-- name: is_due
-- takes:
-- gives: due boolean
-- Also of what a stager is just promoting. min(): the first entry of the index, whatever the planner thinks of the table.
select coalesce(min(due_at) <= now(), false) as due from :"schema".job where state = 'scheduled';
