-- name: insert_dependencies
-- takes: bundle_id text, jobs text, tasks text[], task_of text, any_ends text, edges_of text, edges_on text
-- gives:
-- Jobs of a bundle with what each comes after. Columns of values joined by chr(31); an edge names two of these jobs by
-- their places. A job that is there already, as one that others come after, stays as it is.
with given as materialized (
  select j.id::uuid as id, t.task, j.any_end, j.place
  from unnest(string_to_array($2, chr(31)), string_to_array($4, chr(31))::integer[], string_to_array($5, chr(31))::boolean[])
    with ordinality as j(id, task, any_end, place)
  join unnest($3::text[]) with ordinality as t(task, place) on t.place = j.task
), edge as materialized (
  select j.id as job_id, o.id as on_id, j.any_end, e.place
  from unnest(string_to_array($6, chr(31))::bigint[], string_to_array($7, chr(31))::bigint[]) with ordinality as e(job, on_job, place)
  join given j on j.place = e.job join given o on o.place = e.on_job
), waiting as (
  insert into :"schema".dependency (on_id, job_id, any_end) select on_id, job_id, any_end from edge
)
insert into :"schema".node (bundle_id, job_id, task, after)
select $1::text::uuid, g.id, g.task, coalesce(a.after, '{}')
from given g left join (select job_id, array_agg(on_id order by place) as after from edge group by job_id) a on a.job_id = g.id
on conflict on constraint node_pkey do nothing;

-- name: need_unfinished
-- takes: ids text[], always boolean
-- gives: id text, task text
-- Others come after these jobs from now on: their end will note a fact. Waits for whoever has the row: an end that comes
-- first is seen by need_finished. A claim skips what this holds: hence the wake-up, see await_jobs.
with locked as materialized (
  select j.id from (select id::uuid as id from unnest($1::text[]) as g(id) order by 1) as g
  cross join lateral (select j.id from :"schema".job j where j.id = g.id for no key update) as j
), marked as (
  update :"schema".job set follow = follow | 2 where id = any(array(select id from locked))
  returning id, task, queue, state, case when state = 'scheduled' then due_at end as due
), woken as materialized (
  select :"schema".wake(queue, min(due), $2) from marked where state in ('ready', 'scheduled') group by queue, due is null
)
select id::text as id, task from marked where (select count(*) from woken) >= 0;

-- name: need_finished
-- takes: ids text[]
-- gives: id text, task text
-- The same for those that have ended, by a snapshot that is newer: this notes the fact at once. By place, see delete_finished.
with locked as materialized (
  select a.id, a.place, a.state from (select id::uuid as id from unnest($1::text[]) as g(id) order by 1) as g
  cross join lateral (select a.id, a.ctid as place, a.state from :"schema".job_archive a where a.id = g.id for no key update) as a
), marked as (
  update :"schema".job_archive set follow = follow | 2
  where ctid = any(array(select place from locked)) and id = any(array(select id from locked))
  returning id, task, state
), noted as (
  insert into :"schema".fact (target, of_job, completed) select id, true, (state = 'completed')::integer from marked
  returning target
), hinted as materialized (
  select pg_notify(:'wake_channel', 'f:') from noted limit 1
)
select id::text as id, task from marked where (select count(*) from hinted) >= 0;

-- name: resolve_jobs
-- takes: ids uuid[], since timestamptz, room bigint, given_up uuid[]
-- gives: id uuid, what text
-- Looks at jobs that others wait for, as this snapshot shows them; what comes later has a fact of its own. Each that has
-- ended is met by those that wait for it, or it dooms them; of each at most `room` are done at a time. Whoever has locked
-- the node of a job does this; otherwise its facts stay for the next time. A dependency is met only while its job is
-- blocked and locked by us. Says which are `resolved`, which have something `left`, and which are `busy`: somebody has a
-- job that waits, or one that was doomed before must be `revived` first, if it is not given up. Then which jobs have `met`
-- one, see release_jobs; which are `doomed`; and the bundles. Here and below `case` keeps the planner from job_blocked:
-- before version 18 it read all of that for each id, if nothing had been blocked when the table was analysed. A range of one
-- value, in its own order, fits one index alone: a planner that has seen a table drained reads any of them to its end.
with seen as materialized (
  select n.* from unnest($1::uuid[]) as g(id)
  cross join lateral (
    select n.job_id, n.bundle_id, n.xmin as version from :"schema".node n
    where n.job_id >= g.id and n.job_id <= g.id order by n.job_id offset 0) as n
), locked as materialized (
  -- of this version: whoever has looked at it since this snapshot was taken has changed it, and knows more
  select s.job_id, s.bundle_id, n.place from seen s
  cross join lateral (
    select n.ctid as place from :"schema".node n
    where n.bundle_id = s.bundle_id and n.job_id = s.job_id and n.xmin = s.version for update skip locked) as n
), whole as materialized (
  select s.job_id from seen s left join locked l on l.job_id = s.job_id and l.bundle_id = s.bundle_id
  group by s.job_id having count(l.job_id) = count(*)
), old as materialized (
  select f.ctid as place from unnest($1::uuid[]) as g(id)
  cross join lateral (
    select f.ctid from :"schema".fact f where f.of_job and f.target = g.id and (
      f.target in (select job_id from whole) or (
        select n.job_id from :"schema".node n where n.job_id >= f.target and n.job_id <= f.target order by n.job_id limit 1) is null)
    for update skip locked) as f
), gone as (
  delete from :"schema".fact where ctid = any(array(select place from old)) returning target, completed
), news as materialized (
  select target as id, sum(completed) > 0 as completed from gone group by target
), ends as materialized (
  select n.id, a.state is null and j.id is not null as unfinished, a.result,
    coalesce(a.state, case when n.completed then 'completed' else 'cancelled' end) as outcome
  from news n
  left join lateral (select j.id from :"schema".job j where j.id = n.id offset 0) as j on true
  left join lateral (
    select a.state, a.result from :"schema".job_archive a
    where a.id = n.id and a.finished_at between $2 and now() + interval '1 hour' offset 0) as a on j.id is null
), edge as materialized (
  select e.id as on_id, d.job_id, d.place, d.any_end or e.outcome = 'completed' as met
  from ends e
  cross join lateral (
    -- in order before job is asked, so that no more of it is read than the limit lets through
    select d.job_id, d.any_end, d.place
    from (
      select d.job_id, d.any_end, d.ctid as place from :"schema".dependency d
      where d.on_id >= e.id and d.on_id <= e.id order by d.on_id, d.job_id offset 0) as d
    cross join lateral (
      select from :"schema".job j where j.id = d.job_id and case j.state when 'blocked' then true end offset 0) as j
    limit $3
  ) as d
  where not e.unfinished
), held as materialized (
  select j.id from (select distinct job_id from edge order by job_id) as g
  cross join lateral (
    select j.id from :"schema".job j where j.id = g.job_id and case j.state when 'blocked' then true end for update skip locked) as j
), doomed as materialized (
  select distinct job_id as id from edge where not met and job_id in (select id from held)
), lost as materialized (
  -- cancelled for want of what had failed when it was looked at last, and is unfinished again, or completed
  select e.id as on_id, d.job_id
  from (
    select e.id from ends e
    cross join lateral (
      select from :"schema".node n
      where n.job_id >= e.id and n.job_id <= e.id and n.outcome <> 'completed' order by n.job_id limit 1) as n
    where e.unfinished or e.outcome = 'completed' offset 0) as e
  cross join lateral (
    select d.job_id from :"schema".dependency d
    where d.on_id >= e.id and d.on_id <= e.id and d.job_id <> all($4) order by d.on_id, d.job_id offset 0) as d
  left join lateral (select j.id from :"schema".job j where j.id = d.job_id offset 0) as j on true
  cross join lateral (
    select from :"schema".job_archive a
    where j.id is null and a.id = d.job_id and a.finished_at between $2 and now() + interval '1 hour'
      and a.state = 'cancelled' and a.reason = 'dependency' offset 0) as a
), met as (
  delete from :"schema".dependency
  where ctid = any(array(
    select place from edge where met and job_id in (select id from held) and job_id not in (select id from doomed)))
  returning job_id
), known as (
  -- what had failed is known as that until those are revived; what it gave when it was completed last, those may still read
  update :"schema".node n
  set outcome = case when e.id in (select on_id from lost) then n.outcome when not e.unfinished then e.outcome end,
    result = case when e.outcome = 'completed' then coalesce(e.result, n.result) else n.result end
  from ends e where n.ctid = any(array(select place from locked)) and n.job_id = e.id
), tried as materialized (
  select e.on_id, count(*) as edges, count(*) filter (where h.id is null) as busy
  from edge e left join held h on h.id = e.job_id group by e.on_id
), unresolved as materialized (
  select e.id, e.outcome, case when t.edges >= $3 and t.busy < t.edges then 'left' else 'busy' end as what
  from ends e left join tried t on t.on_id = e.id
  where t.edges >= $3 or t.busy > 0 or e.id in (select on_id from lost)
), noted as (
  -- what is left; and each bundle that may have waited for this to end
  insert into :"schema".fact (target, of_job, completed)
  select id, true, (outcome = 'completed')::integer from unresolved
  union all
  select distinct l.bundle_id, false, 0 from locked l where l.job_id in (select id from ends)
)
select id, 'resolved' as what from ends where id not in (select id from unresolved)
union all select id, what from unresolved
union all select distinct job_id, 'met' from met
union all select id, 'doomed' from doomed
union all select distinct job_id, 'revived' from lost
union all select distinct bundle_id, 'bundle' from locked where job_id in (select id from ends);

-- name: release_jobs
-- takes: ids uuid[]
-- gives: id uuid
-- Jobs that resolve_jobs has locked in this transaction become ready, or scheduled, or line up, if they wait for no other: a
-- statement of its own, whose snapshot shows what others have met before they let go of the lock.
with released as (
  update :"schema".job j
  set state = case when j.due_at > clock.now then 'scheduled' when j.gates is not null then 'blocked' else 'ready' end,
    gate = case when j.due_at <= clock.now then j.gates[1] end, seq = nextval(':"schema".job_seq'),
    -- what it waited for others is no time of its own
    due_at = greatest(j.due_at, clock.now),
    deadline = case when j.due_at > clock.now or not isfinite(j.due_at) or j.deadline is null then j.deadline
      else least(j.deadline + (clock.now - j.due_at), :'latest') end,
    expires_at = case when j.due_at > clock.now or not isfinite(j.due_at) or j.expires_at is null then j.expires_at
      else least(j.expires_at + (clock.now - j.due_at), :'latest') end
  from (select clock_timestamp() as now) as clock
  where j.id = any($1::uuid[]) and j.gate is null and (
    select d.job_id from :"schema".dependency d where d.job_id >= j.id and d.job_id <= j.id order by d.job_id limit 1) is null
  returning j.id, case when j.state = 'blocked' then '' else j.queue end as queue,
    case when j.state <> 'ready' then j.due_at end as due
), woken as materialized (
  select :"schema".wake(queue, min(due), false) from released group by queue, due is null
)
select id from released where (select count(*) from woken) >= 0;

-- name: heal_dependencies
-- takes: queue text, after uuid, room bigint
-- gives: queue text, after uuid, what text
-- Jobs that would wait for ever: what they wait for has ended, or is gone, without a fact, deleted past us or ended by a
-- version that knows no dependencies; or the dependencies themselves are gone: those are `free`, for release_jobs. Every
-- statement of ours moves these together, so that no snapshot shows such a job in passing. Looks at a page of blocked
-- jobs after this place; says where it `ends`, if there may be more. Who stands at a gate is looked after there.
with blocked as materialized (
  select j.queue, j.id, j.bundle_id, j.gate from :"schema".job j
  where j.state = 'blocked' and (j.queue, j.id) > ($1, $2) order by j.queue, j.id limit $3
), free as materialized (
  select j.id from blocked b
  cross join lateral (
    select j.id from :"schema".job j
    where j.id = b.id and case j.state when 'blocked' then j.gate is null end and (
      select d.job_id from :"schema".dependency d where d.job_id >= j.id and d.job_id <= j.id order by d.job_id limit 1) is null
    for update skip locked) as j
  where b.gate is null
), lost as materialized (
  select distinct d.on_id as id, b.bundle_id from blocked b
  cross join lateral (
    select d.on_id from :"schema".dependency d where d.job_id >= b.id and d.job_id <= b.id order by d.job_id offset 0) as d
  left join lateral (select j.id from :"schema".job j where j.id = d.on_id offset 0) as j on true
  left join lateral (
    select f.target from :"schema".fact f
    where f.of_job and f.target >= d.on_id and f.target <= d.on_id order by f.target limit 1) as f on true
  where b.gate is null and j.id is null and f.target is null
), known as (
  insert into :"schema".node (bundle_id, job_id, task)
  select l.bundle_id, l.id, '' from lost l where (
    select n.job_id from :"schema".node n where n.job_id >= l.id and n.job_id <= l.id order by n.job_id limit 1) is null
  on conflict on constraint node_pkey do nothing
), noted as (
  insert into :"schema".fact (target, of_job) select distinct id, true from lost
)
select null as queue, id as after, 'free' as what from free
union all select distinct null, id, 'lost' from lost
union all select (array_agg(queue order by queue desc, id desc))[1], (array_agg(id order by queue desc, id desc))[1], 'ends' from blocked
having count(*) = $3;

-- name: results_before
-- takes: bundle_id uuid, job_id uuid, task text, after bigint, room bigint
-- gives: place bigint, result text
-- What the completed ones of a task have given, of those that this job came after, in that order. Null: it is gone, since
-- the archive forgot it before anybody looked.
select b.place, n.result::text as result
from (
  select u.id, u.place from :"schema".node me cross join lateral unnest(me.after) with ordinality as u(id, place)
  where me.bundle_id = $1 and me.job_id = $2 and u.place > $4
) as b
cross join lateral (
  select n.result from :"schema".node n
  where n.bundle_id = $1 and n.job_id = b.id and n.task = $3 and (n.outcome = 'completed' or n.result is not null) offset 0) as n
order by b.place limit $5;
