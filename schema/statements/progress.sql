-- name: write_progress
-- takes: ids uuid[], fences bigint[], reports text[], worker_id uuid
-- gives: id uuid
-- Only the holder of a claim reports. Rows that another has locked, our own finish perhaps, are left out: it brings the
-- last report itself. The log tells of the jobs that are followed.
with mine as materialized (
  select j.id, g.report, j.task, j.queue, j.origin, j.bundle_id, j.attempt, j.follow
  from unnest($1::uuid[], $2::bigint[], $3::text[]) as g(id, fence, report)
  cross join lateral (
    select * from :"schema".job j where j.id = g.id and j.fence = g.fence and j.worker_id = $4
    for no key update skip locked) as j  -- see record_phases
), followed as materialized (
  select * from mine where follow & 1 <> 0
), entering as materialized (
  select :"entering"  -- before a number is drawn: see event_edge()
), logged as (
  insert into :"log" (type, task, queue, origin, bundle_id, jobs, attempts)
  select 'job.progress', task, queue, origin, bundle_id, array_agg(id), array_agg(attempt)
  from entering cross join followed group by task, queue, origin, bundle_id
)
update :"schema".job j set progress = mine.report::json
from unnest(array(select id from mine), array(select report from mine)) as mine(id, report) where j.id = mine.id  -- see promote_due
returning j.id;

-- name: log_started
-- takes: ids uuid[], fences bigint[], worker_id uuid
-- gives: said void
-- That these jobs have begun; nothing of those that have ended or gone to others.
with mine as materialized (
  select j.* from unnest($1::uuid[], $2::bigint[]) as g(id, fence)
  cross join lateral (
    select j.id, j.task, j.queue, j.origin, j.bundle_id, j.attempt from :"schema".job j
    where j.id = g.id and j.fence = g.fence and j.worker_id = $3 offset 0) as j
), entering as materialized (
  select :"entering" as said  -- before a number is drawn: see event_edge()
), logged as (
  insert into :"log" (type, task, queue, origin, bundle_id, jobs, attempts)
  select 'job.started', task, queue, origin, bundle_id, array_agg(id), array_agg(attempt)
  from entering cross join mine group by task, queue, origin, bundle_id
)
select said from entering;
