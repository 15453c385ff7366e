-- name: queue_stats
-- takes: room bigint, pages bigint
-- gives: queue text, scheduled bigint, blocked bigint, ready bigint, running bigint, suspects bigint, served boolean, oldest_due double precision, paused boolean, paused_at timestamptz, paused_for double precision, resume_at timestamptz, resumes_in double precision, keep_completed double precision, keep_other double precision, most_completed bigint, most_other bigint, about text[]
-- A table of at most so many pages is read and counted. Of a larger one at most `room` ready, scheduled and blocked jobs each
-- are counted, by their indexes; what goes beyond is estimated from one page of each stretch, always the same. `about`
-- names the states that were. `suspects`: ready jobs whose worker died while they ran; `served`: a worker lives that takes from it. The longest waiting job of a long queue is one of those at the head of each priority, the lowest 50.
with recursive size as materialized (
  select pg_relation_size(':"schema".job'::regclass) / current_setting('block_size')::bigint as pages
), sample as materialized (
  select j.queue, j.state, (count(*) * greatest(max(pages)::double precision / $2, 1))::bigint as jobs, min(j.due_at) as due_at,
    max(pages) <= $2 as exact
  from (
    select n * pages / stretches + mod(hashint4(n)::bigint & 2147483647, pages / stretches) as page, pages
    from size, least(pages, $2) as stretches, generate_series(0, stretches::integer - 1) as n
  ) as chosen
  cross join lateral (
    select s.queue, s.state, s.due_at from :"schema".job s
    where s.ctid >= ('(' || page || ',0)')::tid and s.ctid < ('(' || page + 1 || ',0)')::tid offset 0) as j
  group by j.queue, j.state
), line as (  -- the queues with ready jobs, by a loose index scan, see ready_queues
  (select j.queue from :"schema".job j where j.state = 'ready' and j.crashes = 0 and (select pages from size) > $2
    order by j.queue limit 1)
  union all
  select (select j.queue from :"schema".job j where j.state = 'ready' and j.crashes = 0 and j.queue > l.queue
    order by j.queue limit 1)
  from line l where l.queue is not null
), share as materialized (
  select greatest($1 / greatest(count(*), 1), 10) as room from line
), ready as (
  select l.queue, first.jobs, first.jobs < share.room as exact, least(first.due_at, head.due_at) as due_at
  from line l cross join share
  cross join lateral (
    select count(*) as jobs, min(j.due_at) as due_at from (
      select j.due_at from :"schema".job j where j.state = 'ready' and j.crashes = 0 and j.queue = l.queue
      order by j.priority desc, j.seq limit share.room) as j
  ) as first
  left join lateral (
    with recursive step as (
      (select j.priority from :"schema".job j where j.state = 'ready' and j.crashes = 0 and j.queue = l.queue
        order by j.priority limit 1)
      union all
      select (select j.priority from :"schema".job j
        where j.state = 'ready' and j.crashes = 0 and j.queue = l.queue and j.priority > s.priority order by j.priority limit 1)
      from step s where s.priority is not null
    )
    select min(h.due_at) as due_at from (select priority from step limit 50) as s
    cross join lateral (select j.due_at from :"schema".job j
      where j.state = 'ready' and j.crashes = 0 and j.queue = l.queue and j.priority = s.priority order by j.seq limit 1) as h
  ) as head on first.jobs >= share.room
  where l.queue is not null
), waiting as materialized (
  select state, queue, count(*) as jobs, sum(count(*)) over (partition by state) < $1 as exact from (
    (select j.state, j.queue from :"schema".job j  -- ranges with two ends, see promote_due
    where j.state = 'scheduled' and j.due_at between '-infinity' and 'infinity' and (select pages from size) > $2
    order by j.due_at limit $1)
    union all
    (select j.state, j.queue from :"schema".job j
    where j.state = 'blocked' and j.id between '00000000-0000-0000-0000-000000000000' and 'ffffffff-ffff-ffff-ffff-ffffffffffff'
      and (select pages from size) > $2
    order by j.queue, j.id limit $1)
  ) as arm
  group by state, queue
), counted as (
  select queue, state, jobs, due_at, exact from sample where exact or state in (select state from waiting where not exact)
  union all
  select queue, 'estimate', jobs, null, true from sample where state = 'ready' and not exact
  union all
  select queue, 'ready', jobs, due_at, exact from ready
  union all
  select j.queue, 'ready', count(*), min(j.due_at), true from :"schema".job j
  where j.state = 'ready' and j.crashes > 0 and (select pages from size) > $2 group by j.queue
  union all
  select queue, state, jobs, null, true from waiting where exact
  union all
  select j.queue, 'running', count(*), null, true from :"schema".job j
  where j.state = 'running' and (select pages from size) > $2 group by j.queue
), held as (
  select queue, coalesce(sum(jobs) filter (where state = 'scheduled'), 0)::bigint as scheduled,
    coalesce(sum(jobs) filter (where state = 'blocked'), 0)::bigint as blocked,
    coalesce(greatest(sum(jobs) filter (where state = 'ready'),
      sum(jobs) filter (where state = 'estimate' and not whole)), 0)::bigint as ready,
    coalesce(sum(jobs) filter (where state = 'running'), 0)::bigint as running,
    min(due_at) filter (where state = 'ready') as due_at,
    coalesce(array_agg(distinct state) filter (where not exact), '{}') as about
  from (select *, bool_and(exact) filter (where state = 'ready') over (partition by queue) as whole from counted) as counted
  group by queue
)
select coalesce(q.name, h.queue) as queue, coalesce(h.scheduled, 0) as scheduled, coalesce(h.blocked, 0) as blocked, coalesce(h.ready, 0) as ready,
  coalesce(h.running, 0) as running, coalesce(s.jobs, 0) as suspects, :"schema".served(coalesce(q.name, h.queue)) as served,
  extract(epoch from clock_timestamp() - h.due_at)::double precision as oldest_due,
  q.paused_at is not null and (q.resume_at is null or q.resume_at > now()) as paused,
  q.paused_at, extract(epoch from clock_timestamp() - q.paused_at)::double precision as paused_for,
  q.resume_at, extract(epoch from q.resume_at - clock_timestamp())::double precision as resumes_in,
  q.keep_completed, q.keep_other, q.most_completed, q.most_other, coalesce(h.about, '{}')::text[] as about
from :"schema".queue q full join held h on h.queue = q.name
left join (
  select j.queue, count(*) as jobs from :"schema".job j where j.state = 'ready' and j.crashes > 0 group by j.queue
) as s on s.queue = coalesce(q.name, h.queue)
order by 1;

-- name: count_finished
-- takes: pages integer
-- gives: queue text, state text, jobs bigint, exact boolean
-- Days of the archive with more than so many pages are estimated.
select queue, state, sum(jobs)::bigint as jobs, bool_and(exact) as exact
from :"schema".count_archive($1) group by queue, state order by queue, state;

-- name: count_archive
-- takes: pages integer
-- gives: leaf text, state text, jobs bigint, exact boolean
select leaf, state, sum(jobs)::bigint as jobs, bool_and(exact) as exact
from :"schema".count_archive($1) group by leaf, state order by leaf, state;

-- name: count_bundles
-- takes: room bigint, pages bigint
-- gives: unfinished bigint, finished bigint, with_errors bigint, all_unfinished boolean, whole boolean
-- A table of at most so many pages is read and counted, a larger one estimated, see queue_stats; then at most `room`
-- unfinished ones are counted, by their index.
with size as materialized (
  select pg_relation_size(':"schema".bundle'::regclass) / current_setting('block_size')::bigint as pages
), sample as materialized (
  select count(*) filter (where b.finished_at is null) as unfinished, count(*) filter (where b.finished_at is not null) as finished,
    count(*) filter (where b.dead + b.cancelled > 0) as with_errors
  from (
    select n * pages / stretches + mod(hashint4(n)::bigint & 2147483647, pages / stretches) as page
    from size, least(pages, $2) as stretches, generate_series(0, stretches::integer - 1) as n
  ) as chosen
  cross join lateral (
    select s.finished_at, s.dead, s.cancelled from :"schema".bundle s
    where s.ctid >= ('(' || page || ',0)')::tid and s.ctid < ('(' || page + 1 || ',0)')::tid offset 0) as b
), first as materialized (
  select count(*) as unfinished from (
    select from :"schema".bundle where finished_at is null and (select pages from size) > $2 order by created_at limit $1) as b
), scale as materialized (
  select greatest(pages::double precision / $2, 1) as each, pages <= $2 as whole from size
)
select case when whole then s.unfinished when f.unfinished < $1 then f.unfinished
    else greatest(f.unfinished, (s.unfinished * each)::bigint) end as unfinished,
  (s.finished * each)::bigint as finished, (s.with_errors * each)::bigint as with_errors,
  whole or f.unfinished < $1 as all_unfinished, whole
from sample s cross join first f cross join scale;

-- name: waiting_flows
-- takes: room bigint
-- gives: bundles bigint, facts bigint
-- Unfinished bundles, and what is to be added up; at most so many are counted.
select (select count(*) from (select from :"schema".bundle where finished_at is null order by created_at limit $1) as b) as bundles,
  (select count(*) from (select from :"schema".fact limit $1) as f) as facts;

-- name: flow
-- takes: after bigint, since timestamptz, pages bigint
-- gives: now timestamptz, deferred bigint, started bigint, finished bigint, dead bigint, cancelled bigint
-- What two looks turn into rates. Sequences count claims and ends, as they happen; the server's statistics, about a second
-- late, the inserts. Of the ends after that of this number, the last of an earlier look, those of dead and cancelled jobs
-- are counted, from a snapshot that is older than the reading of the sequence: none of them is missing in `finished`.
with counters as materialized (
  select clock_timestamp() as now, pg_stat_get_tuples_inserted(':"schema".job'::regclass) as deferred,
    coalesce(pg_sequence_last_value(':"schema".fence_seq'::regclass), 0) as started,
    coalesce(pg_sequence_last_value(':"schema".archive_seq'::regclass), 0) as finished
)
select c.now, c.deferred, c.started, c.finished, e.dead, e.cancelled
from counters c cross join :"schema".recent_ends($1, $2, $3) e;

-- name: working
-- takes:
-- gives: id uuid, app text, host text, pid integer, version text, concurrency integer, up double precision, silent double precision, alive boolean, leaving boolean, running bigint, ahead bigint
-- Workers, those that live first, and how many jobs each has: running, and claimed ahead of a free slot.
select w.id, w.app, w.host, w.pid, w.version, w.concurrency, extract(epoch from now() - w.started_at)::double precision as up,
  extract(epoch from now() - w.seen_at)::double precision as silent, w.alive_until > now() as alive,
  w.stopped_at is not null as leaving, coalesce(j.running, 0) as running, coalesce(j.ahead, 0) as ahead
from :"schema".worker w
left join (
  select worker_id, count(*) filter (where started) as running, count(*) filter (where not started) as ahead
  from :"schema".job where state = 'running' group by worker_id
) as j on j.worker_id = w.id
order by alive desc, w.started_at, w.id;

-- name: stuck_now
-- takes: room bigint
-- gives: worker_id uuid, worker text, stuck text, since double precision
-- Of workers that live.
select id as worker_id, concat(host, ' ', pid) as worker, stuck::text as stuck, extract(epoch from clock_timestamp() - stuck_at)::double precision as since
from :"schema".worker where stuck is not null and alive_until > now() order by stuck_at desc, id limit $1;

-- name: longest_running
-- takes: room bigint
-- gives: id uuid, task text, queue text, attempt integer, max_attempts integer, seconds double precision, ahead boolean, cancelling boolean, fraction double precision, message text, worker_id uuid
-- No payload. Those claimed ahead of a free slot come last. Progress is looked into for those that are shown only: for all
-- of 1 000 that took 3 ms, and 0.5 without. Plain SQL may have written what cannot be looked into: NUL, half a character, a
-- number beyond all limits.
select id, task, queue, attempt, max_attempts, extract(epoch from now() - claimed_at)::double precision as seconds,
  not started as ahead, cancel_asked is not null as cancelling,
  case when json_typeof(report -> 'fraction') = 'number' then
    case when report ->> 'fraction' ~ '^-?\d{1,9}(\.\d{1,40})?([eE]-\d{1,2})?$' then (report ->> 'fraction')::double precision end end
    as fraction,
  left(report ->> 'message', 300) as message, worker_id
from (select * from :"schema".job where state = 'running' order by started desc, claimed_at, id limit $1) as j
cross join lateral (
  select case when progress::text !~ '\\u(0000|[dD][89a-fA-F])' then progress end as report
) as r
order by started desc, claimed_at, id;

-- name: beside_job
-- takes: id uuid
-- gives: aside double precision, paused boolean, resume_at timestamptz
-- What keeps an unfinished job from running: seconds since it was put aside, and the pause of its queue.
select extract(epoch from now() - j.aside_since)::double precision as aside,
  coalesce(q.paused_at is not null and (q.resume_at is null or q.resume_at > now()), false) as paused, q.resume_at
from :"schema".job j left join :"schema".queue q on q.name = j.queue where j.id = $1;

-- name: waits_for
-- takes: id uuid, room bigint
-- gives: unmet bigint, total bigint, id uuid, task text, state text, any_end boolean
-- Of the jobs that this one came after those whose end it has not seen; of one that was cancelled for want of another, that
-- other one too: so those that have failed come first. The archive is asked only about the few that are shown. No state: it
-- was deleted. A node says of that `cancelled`, and a job has one in each bundle that it has to do with.
with unmet as materialized (
  select d.on_id, d.any_end, j.state, coalesce(j.task, n.task) as task, n.outcome,
    j.state is null and n.outcome is distinct from 'completed' and not d.any_end as failed
  from :"schema".dependency d
  left join lateral (select j.task, j.state from :"schema".job j where j.id = d.on_id offset 0) as j on true
  cross join lateral (
    select nullif(max(n.task), '') as task, max(n.outcome) as outcome from :"schema".node n where n.job_id = d.on_id) as n
  where d.job_id = $1
), shown as materialized (
  select * from unmet order by failed desc, on_id limit $2
), size as materialized (
  select count(*) as unmet, (select max(cardinality(n.after)) from :"schema".node n where n.job_id = $1) as total from unmet
)
select z.unmet, greatest(z.total, z.unmet) as total, s.on_id as id, coalesce(s.task, a.task) as task,
  coalesce(s.state, a.state, case when s.outcome = 'completed' then s.outcome end) as state, s.any_end
from size z cross join shown s
left join lateral (
  select a.task, a.state from :"schema".job_archive a where s.state is null and a.id = s.on_id offset 0) as a on true
order by s.failed desc, s.on_id;

-- name: place_in_line
-- takes: id uuid, room bigint
-- gives: gate text, before bigint, declared text, concurrency integer, held integer, next_in double precision
-- Where a job stands at a gate: how many come before it, counted up to `room` of higher and as many of its own priority.
select j.gate,
  (select count(*) from (
    select from :"schema".job o
    where o.state = 'blocked' and o.gate is not null and o.gate = j.gate and o.priority > j.priority limit $2) as higher)
  + (select count(*) from (
    select from :"schema".job o
    where o.state = 'blocked' and o.gate is not null and o.gate = j.gate and o.priority = j.priority and o.seq < j.seq
    limit $2) as earlier) as before,
  l.name as declared, l.concurrency, (g.held - coalesce(n.freed, 0))::integer as held,
  date_part('epoch', g.tat - clock_timestamp()) - :"schema".pace(l.count, l.per, l.burst) * (l.burst - 1) as next_in
from :"schema".job j
left join lateral (select * from :"schema".gate g where g.name = j.gate offset 0) as g on true
left join lateral (
  select l.* from :"schema"."limit" l
  where l.name = split_part(ltrim(j.gate, '~'), E'\n', 1) offset 0) as l on true
left join lateral (select sum(n.freed) as freed from :"schema".gate_note n where n.gate = j.gate) as n on true
where j.id = $1 and j.gate is not null;

-- name: put_aside
-- takes: room bigint
-- gives: task text, jobs bigint
-- The tasks that no worker knows, or whose arguments do not fit, and how many jobs wait for one that does; the first `room` of
-- these jobs are counted.
select task, count(*) as jobs from (
  select j.task from :"schema".job j where j.state = 'scheduled' and j.aside_since is not null order by j.task limit $1) as j
group by task order by jobs desc, task limit 20;

-- name: oldest_snapshot
-- takes:
-- gives: seconds double precision
-- For how long a transaction has been open that keeps old rows from being removed; a role that may not see others' gets null.
select extract(epoch from clock_timestamp() - min(xact_start))::double precision as seconds
from pg_stat_activity where backend_xmin is not null and datname = current_database() and pid <> pg_backend_pid();
