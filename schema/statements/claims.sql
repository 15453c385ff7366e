-- name: claim_jobs
-- takes: worker_id uuid, claim_no bigint, lease double precision, queues text[], rooms integer[], room bigint, idle bigint, suspects bigint, firsts integer[], lasts integer[], lows smallint[], highs smallint[], afters bigint[], uptos bigint[], unknown text[], aside_age double precision
-- gives: id uuid, fence bigint, seq bigint, priority smallint, queue text, task text, args text, attempt integer, max_attempts integer, crashes smallint, lost smallint, timeout double precision, budget_left double precision, start_left double precision, origin text, meta text, key text, bundle_id uuid, due_at bytea, created_at bytea, claimed_at bytea, deadline bytea, expires_at bytea, lease_until bytea, aside_since bytea, progress text, errors text, started boolean, follow smallint, gates text[], token_left double precision
-- Times come as they are sent, and become datetimes when somebody asks: see moment_of. One may be infinite, if somebody has
-- dropped our checks: before version 17 that cannot be subtracted.
-- One arm per queue that is not paused, with its own limit, read lazily: no more rows are locked than are returned. SKIP LOCKED: workers
-- never wait for each other. The answer has no order; the worker sorts by priority and seq. At most `suspects` jobs whose
-- worker died are among them, and none that must run alone. Those that find an idle slot start at once, so they count as started; the rest waits.
-- Of each queue only some stretches are read, best first: from `firsts` to `lasts` in the arrays of priorities and seqs. An
-- old snapshot anywhere keeps the entries of all that has gone in the index, and a claim would step over every one.
-- Jobs of `unknown` tasks are left to others, until they are so long put aside that they are to die. `gates` are those that it
-- has passed, `token_left` for how many seconds what a rate has given it is good.
with serving as materialized (
  select arm.queue, arm.room, arm.first, arm.last
  from unnest($4::text[], $5::integer[], $9::integer[], $10::integer[]) with ordinality as arm(queue, room, first, last, place)
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
    select j.id, j.priority, j.seq
    from unnest(($11::smallint[])[arm.first:arm.last], ($12::smallint[])[arm.first:arm.last],
      ($13::bigint[])[arm.first:arm.last], ($14::bigint[])[arm.first:arm.last]) as part(low, high, after, upto)
    cross join lateral (
      select j.id, j.priority, j.seq from :"schema".job j
      -- queue between: see promote_due. By one queue version 18 read and sorted all that was ready of a table that was
      -- empty when it was analysed, as it is behind an old snapshot once it has been drained
      where j.state = 'ready' and j.crashes = 0 and j.queue between arm.queue and arm.queue
        and j.priority between part.low and part.high and j.seq > part.after and j.seq <= part.upto
        and (j.task <> all($15::text[]) or j.aside_since <= now() - make_interval(secs => $16))
      order by j.queue, j.priority desc, j.seq
      limit arm.room
      for update skip locked
    ) as j
    limit arm.room - (select count(*) from suspect s where s.queue = arm.queue)
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
  case when deadline is not null then least(date_part('epoch', deadline) - date_part('epoch', now()), 1e9) end as budget_left,
  case when expires_at is not null then least(date_part('epoch', expires_at) - date_part('epoch', now()), 1e9) end as start_left,
  origin, meta::text as meta, key, bundle_id, timestamptz_send(due_at) as due_at, timestamptz_send(created_at) as created_at,
  timestamptz_send(claimed_at) as claimed_at, timestamptz_send(deadline) as deadline, timestamptz_send(expires_at) as expires_at,
  timestamptz_send(lease_until) as lease_until, timestamptz_send(aside_since) as aside_since, progress::text as progress, errors::text as errors, started, follow,
  gates[1:passed] as gates, case when token_until is not null then date_part('epoch', token_until) - date_part('epoch', now()) end as token_left
from claimed;

-- name: claim_alone
-- takes: worker_id uuid, claim_no bigint, lease double precision, queues text[]
-- gives: id uuid, fence bigint, seq bigint, priority smallint, queue text, task text, args text, attempt integer, max_attempts integer, crashes smallint, lost smallint, timeout double precision, budget_left double precision, start_left double precision, origin text, meta text, key text, bundle_id uuid, due_at bytea, created_at bytea, claimed_at bytea, deadline bytea, expires_at bytea, lease_until bytea, aside_since bytea, progress text, errors text, started boolean, follow smallint, gates text[], token_left double precision
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
  case when deadline is not null then least(date_part('epoch', deadline) - date_part('epoch', now()), 1e9) end as budget_left,
  case when expires_at is not null then least(date_part('epoch', expires_at) - date_part('epoch', now()), 1e9) end as start_left,
  origin, meta::text as meta, key, bundle_id, timestamptz_send(due_at) as due_at, timestamptz_send(created_at) as created_at,
  timestamptz_send(claimed_at) as claimed_at, timestamptz_send(deadline) as deadline, timestamptz_send(expires_at) as expires_at,
  timestamptz_send(lease_until) as lease_until, timestamptz_send(aside_since) as aside_since, progress::text as progress, errors::text as errors, started, follow,
  gates[1:passed] as gates, case when token_until is not null then date_part('epoch', token_until) - date_part('epoch', now()) end as token_left
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

-- name: ready_between
-- takes: after bigint, upto bigint, unknown text[], aside_age double precision
-- gives: queue text, priority smallint, seq bigint, spent double precision
-- The queues and priorities that have ready jobs in a stretch of seqs, each with its first: by a loose index scan, one
-- probe for each, however long the backlog. Without a priority: the queues of suspects. Without a queue: the last seq given out,
-- and the seconds that this took: those of the server alone, however far away or busy the asker is.
-- Each column has two ends, which the planner does not know, see promote_due: else it read and sorted all that was ready of a
-- table that was empty when it was analysed, as it is behind an old snapshot once it has been drained.
with recursive found as (
  (select j.queue, j.priority, j.seq from :"schema".job j
  where j.state = 'ready' and j.crashes = 0 and j.queue between (select '') and (select repeat(chr(1114111), 100))
    and j.priority between (select -32768) and (select 32767) and j.seq > $1 and j.seq <= $2
    and (j.task <> all($3::text[]) or j.aside_since <= now() - make_interval(secs => $4))
  order by j.queue, j.priority desc, j.seq limit 1)
  union all
  select next.queue, next.priority, next.seq from found f cross join lateral (
    (select j.queue, j.priority, j.seq from :"schema".job j
    where j.state = 'ready' and j.crashes = 0 and j.queue between f.queue and f.queue
      and j.priority between (select -32768) and f.priority - 1 and j.seq > $1 and j.seq <= $2
      and (j.task <> all($3::text[]) or j.aside_since <= now() - make_interval(secs => $4))
    order by j.queue, j.priority desc, j.seq limit 1)
    union all
    (select j.queue, j.priority, j.seq from :"schema".job j
    where j.state = 'ready' and j.crashes = 0 and j.queue > f.queue and j.queue <= (select repeat(chr(1114111), 100))
      and j.priority between (select -32768) and (select 32767) and j.seq > $1 and j.seq <= $2
      and (j.task <> all($3::text[]) or j.aside_since <= now() - make_interval(secs => $4))
    order by j.queue, j.priority desc, j.seq limit 1)
    limit 1
  ) as next
)
select queue, priority, seq, null::double precision as spent from found
union all
select distinct j.queue, null::smallint, null::bigint, null::double precision from :"schema".job j where j.state = 'ready' and j.crashes > 0
union all
select null, null, coalesce(pg_sequence_last_value(':"schema".job_seq'), 0),
  extract(epoch from clock_timestamp() - statement_timestamp())::double precision;

-- name: next_due
-- takes: after timestamptz
-- gives: due boolean, next_in double precision, seen timestamptz
-- Whether promote_due has anything to do, and when it will have: planned on a new connection in 2.1 ms instead of 3.8.
-- Not by min(): version 14 read all that is due of a table that it took for empty.
with first as materialized (
  select least(
    (select due_at from :"schema".job where state = 'scheduled' and due_at between $1 and now() + interval '1 day'
      order by due_at limit 1),
    (select min(resume_at) from :"schema".queue where resume_at < now() + interval '1 day')) as at
)
select coalesce(at <= now(), false) as due, extract(epoch from at - clock_timestamp())::double precision as next_in,
  now() - interval '1 s' as seen
from first;

-- name: promote_due
-- takes: room bigint, after timestamptz
-- gives: promoted bigint, next_in double precision, seen timestamptz
-- Scheduled jobs that have come due become ready, with a new seq: a delayed job does not overtake the backlog. One that has
-- gates before it lines up there; one to which a rate has given this time does not queue up a second time.
-- Whoever asks looks again within the day: what comes later, however much later, is nothing to compute with.
-- `seen`: whoever asks on from there steps over nothing that has gone, see claim_jobs; it misses what commits a second late.
with resumed as (
  update :"schema".queue set paused_at = null, resume_at = null
  where name = any(array(select name from :"schema".queue where resume_at <= now() for update skip locked)) returning name
), due as materialized (
  select d.id, d.due_at, nextval(':"schema".job_seq') as seq from (
    -- after: for a range with two ends the planner of an unknown table expects few rows and reads the index in
    -- order; for one end it read and sorted all that was due, however much
    select id, due_at from :"schema".job where state = 'scheduled' and due_at between $2 and now()
    order by due_at limit $1 for update skip locked
  ) as d
), promoted as (
  -- by two arrays: the planner expects ten rows and probes for each, whatever it believes of the table. With
  -- `id = any(array(...))` as well it probed for all of them, once for each: 500 took 100 ms
  update :"schema".job j
  set state = case when j.passed < cardinality(j.gates) then 'blocked' else 'ready' end, gate = j.gates[j.passed + 1],
    seq = case when j.token_until is not null and j.passed = cardinality(j.gates) then j.seq else d.seq end
  from unnest(array(select id from due), array(select seq from due)) as d(id, seq) where j.id = d.id
  returning j.queue, j.state
), woken as materialized (
  select :"schema".wake(queue, null, false)
  from (select queue from promoted where state = 'ready' union select name from resumed) as either(queue)
)
select (select count(*) from promoted) + 0 * (select count(*) from woken) as promoted,
  extract(epoch from least(
    (select min(due_at) from :"schema".job where state = 'scheduled' and due_at > now() and due_at < now() + interval '1 day'),
    (select min(resume_at) from :"schema".queue where resume_at > now() and resume_at < now() + interval '1 day')) - clock_timestamp())::double precision as next_in,
  case when (select count(*) from due) < $1 then now() - interval '1 s' else (select max(due_at) from due) end as seen;

-- name: promote_each
-- takes: room bigint, after timestamptz
-- gives: promoted bigint
-- While so many jobs are due that their order would keep one queue waiting for another: of each queue its share, of those
-- that came due after that moment. Queues are found one by one in the index, however many jobs each has. The state is asked
-- for in the words of job_due_in_queue, and once more in words that fit no index. Queue and time are compared as a row: with a
-- guess at how few jobs one queue has, the planner would read them all and sort.
with recursive queues as (
  (select j.queue from :"schema".job j
  where j.state <> 'ready' and j.state <> 'running' and j.state <> 'blocked' and j.state || '' = 'scheduled' and j.due_at >= $2
  order by j.queue, j.due_at limit 1)
  union all
  select next.queue from queues q cross join lateral (
    select j.queue from :"schema".job j
    where j.state <> 'ready' and j.state <> 'running' and j.state <> 'blocked' and j.state || '' = 'scheduled' and j.queue > q.queue and j.due_at >= $2
    order by j.queue, j.due_at limit 1) as next
), share as materialized (
  select greatest(1, $1 / greatest(1, count(*))) as room from queues
), due as materialized (
  select d.id, nextval(':"schema".job_seq') as seq from (
    select found.id from queues q cross join share cross join lateral (
      select j.id from :"schema".job j
      where j.state <> 'ready' and j.state <> 'running' and j.state <> 'blocked' and j.state || '' = 'scheduled'
        and (j.queue, j.due_at) >= (q.queue, $2) and (j.queue, j.due_at) <= (q.queue, now())
      order by j.queue, j.due_at limit share.room for update skip locked) as found
    limit $1
  ) as d
), promoted as (
  update :"schema".job j
  set state = case when j.passed < cardinality(j.gates) then 'blocked' else 'ready' end, gate = j.gates[j.passed + 1],
    seq = case when j.token_until is not null and j.passed = cardinality(j.gates) then j.seq else d.seq end
  from unnest(array(select id from due), array(select seq from due)) as d(id, seq) where j.id = d.id
  returning j.queue, j.state
), woken as materialized (
  select :"schema".wake(queue, null, false) from promoted where state = 'ready' group by queue
)
select (select count(*) from promoted) + 0 * (select count(*) from woken) as promoted;

-- name: recall_aside
-- takes: tasks text[], room bigint
-- gives: recalled bigint
-- Jobs of these tasks that were put aside, by a worker that did not know them or their payload, are looked at now.
with mine as materialized (
  select found.id from unnest($1::text[]) as t(task)
  cross join lateral (
    select j.id from :"schema".job j
    where j.state = 'scheduled' and j.aside_since is not null and j.task = t.task and j.due_at > now()
    limit $2 for update skip locked) as found
  limit $2
), recalled as (
  update :"schema".job set due_at = now() where id = any(array(select id from mine)) returning queue
), woken as materialized (
  select :"schema".wake(queue, now(), false) from recalled group by queue
)
select (select count(*) from recalled) + 0 * (select count(*) from woken) as recalled;

-- name: publish_sleep
-- takes: worker_id uuid, queues text[], seconds double precision
-- gives:
-- Under the exclusive lock, see wake(); the caller looks once more afterwards. Producers queue behind this lock, so one
-- of them that hangs in its commit must not hold it up: after 250 ms it fails, and the worker polls for a while.
-- What it published before goes, unless its time has been over for long: to step over all that was ever published, which an
-- old snapshot keeps, would take longer with each sleep.
with patience as materialized (
  select set_config('lock_timeout', '250ms', true)
), barrier as materialized (
  select pg_advisory_xact_lock(:'wake_class', :'wake_key') from patience
), before as (
  delete from :"schema".sleeper where ctid = any(array(
    select s.place from unnest($2::text[]) as q
    cross join lateral (  -- before version 17 an index is not entered by a list and a time: it read all that was published
      select s.ctid as place from :"schema".sleeper s
      where s.worker_id = $1 and s.queue = q and s.wake_at > now() - interval '1 minute' offset 0) as s))
)
insert into :"schema".sleeper (worker_id, queue, wake_at)
select $1, q, clock_timestamp() + make_interval(secs => $3) from barrier, unnest($2::text[]) as q
on conflict on constraint sleeper_pkey do nothing;

-- name: end_sleep
-- takes: worker_id uuid, queues text[]
-- gives:
delete from :"schema".sleeper where ctid = any(array(
  select s.place from unnest($2::text[]) as q
  cross join lateral (
    select s.ctid as place from :"schema".sleeper s
    where s.worker_id = $1 and s.queue = q and s.wake_at > now() - interval '1 minute' offset 0) as s));
