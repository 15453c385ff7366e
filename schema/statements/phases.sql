-- name: load_phases
-- takes: ids uuid[], fitting integer
-- gives: job_id uuid, name text, kind text, place integer, over boolean, failed boolean, wake_at timestamptz, sleeps double precision, result text
-- What earlier runs of these jobs have left. Larger results than `fitting` are left to phase_result. One probe a job.
select p.job_id, p.name, p.kind, p.place, p.ended_at is not null as over, p.error is not null as failed, p.wake_at,
  date_part('epoch', p.wake_at) - date_part('epoch', clock_timestamp()) as sleeps,
  case when octet_length(p.result::text) <= $2 then p.result::text end as result
from unnest($1::uuid[]) as g(id)
cross join lateral (select * from :"schema".phase p where p.job_id = g.id offset 0) as p;

-- name: phase_result
-- takes: id uuid, name text
-- gives: result text
select result::text as result from :"schema".phase where job_id = $1 and name = $2 and ended_at is not null and error is null;

-- name: record_phases
-- takes: ids uuid[], fences bigint[], names text[], kinds text[], places integer[], attempts integer[], tooks double precision[], overs boolean[], sleeps double precision[], untils timestamptz[], results text[], errors text[], worker_id uuid
-- gives: fence bigint, name text, wake_at timestamptz, sleeps double precision
-- The last word of each phase, by whoever holds the job's claim. The lightest lock of its row keeps a rescue from taking the
-- claim away before this commits, as would a finish: they lock `for update`. Beats, reports and requests to cancel lock less,
-- so that a job with one phase after the other is in nobody's way. Rows that somebody has locked are left out, and so not
-- answered. `tooks`: seconds since it began. A sleep is until when it was to last the first time. The log tells of jobs that are followed.
with given as materialized (
  select * from unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::integer[], $6::integer[], $7::double precision[],
    $8::boolean[], $9::double precision[], $10::timestamptz[], $11::text[], $12::text[])
    as g(id, fence, name, kind, place, attempt, took, over, sleeps, until, result, error)
), claimed as materialized (
  select j.* from (select distinct id, fence from given order by id) as g
  cross join lateral (
    select j.id, j.fence, j.task, j.queue, j.origin, j.bundle_id, j.attempt, j.follow from :"schema".job j
    where j.id = g.id and j.fence = g.fence and j.worker_id = $13 for key share skip locked) as j
), mine as materialized (
  select g.*, c.follow from given g join claimed c on c.id = g.id and c.fence = g.fence
), entering as materialized (
  select :"entering"  -- before a number is drawn: see event_edge()
), logged as (
  insert into :"log" (type, task, queue, origin, bundle_id, jobs, attempts, data)
  select 'job.phase', c.task, c.queue, c.origin, c.bundle_id, array[c.id], array[c.attempt],
    json_build_object('phase', m.name, 'state', case
      when not m.over then case m.kind when 'phase' then 'running' when 'sleep' then 'sleeping' else 'waiting' end
      when m.error is not null then 'failed' else 'completed' end)
  from entering cross join mine m join claimed c on c.id = m.id where c.follow & 1 <> 0
)
insert into :"schema".phase as p
  (job_id, name, kind, signal, place, attempt, fence, worker_id, began_at, ended_at, wake_at, result, error)
select id, name, kind, null, place, attempt, fence, $13, clock_timestamp() - make_interval(secs => took),
  case when over then clock_timestamp() end,
  case when kind <> 'phase' then coalesce(until, clock_timestamp() + make_interval(secs => sleeps)) end,
  result::json, error::json
from mine order by id, name
on conflict on constraint phase_pkey do update set kind = excluded.kind, signal = case when p.kind = excluded.kind then p.signal end,
  place = excluded.place, attempt = excluded.attempt, fence = excluded.fence, worker_id = excluded.worker_id,
  began_at = case when excluded.kind = 'phase' or p.kind <> excluded.kind then excluded.began_at else p.began_at end,
  -- nothing takes back that this run has completed it: neither that it had begun, said late, nor that its commit failed,
  -- as whoever got no answer to that believes
  ended_at = case when excluded.kind = 'phase' and p.fence = excluded.fence and p.ended_at is not null and p.error is null
    then p.ended_at else excluded.ended_at end,
  wake_at = case when p.kind = excluded.kind then coalesce(p.wake_at, excluded.wake_at) else excluded.wake_at end,
  result = case when excluded.kind = 'phase' and p.fence = excluded.fence and p.ended_at is not null and p.error is null
    then p.result else excluded.result end,
  error = case when excluded.kind = 'phase' and p.fence = excluded.fence and p.ended_at is not null and p.error is null
    then null else excluded.error end
returning fence, name, wake_at, date_part('epoch', wake_at) - date_part('epoch', clock_timestamp()) as sleeps;

-- name: phases_under_way
-- takes: ids uuid[], workers uuid[]
-- gives: job_id uuid, name text, place integer, seconds double precision, over boolean, progress text
-- Where these jobs stood when their workers died, as far as it is on record: what had begun and not ended, else the last
-- that had ended.
select g.id as job_id, p.name, p.place, date_part('epoch', now() - p.began_at) as seconds, p.over, j.progress::text as progress
from unnest($1::uuid[], $2::uuid[]) as g(id, worker)
cross join lateral (
  select p.name, p.place, p.began_at, p.ended_at is not null as over from :"schema".phase p
  where p.job_id = g.id and p.worker_id = g.worker and p.kind = 'phase'
  order by p.ended_at is null desc, p.place desc limit 1) as p
left join lateral (select j.progress from :"schema".job j where j.id = g.id offset 0) as j on true;

-- name: list_phases
-- takes: id uuid, most integer, payload boolean
-- gives: name text, kind text, signal text, place integer, attempt integer, current boolean, worker_id uuid, began_at timestamptz, ended_at timestamptz, wake_at timestamptz, result_bytes integer, result text, error text, state text
-- All phases of a job in their order, with the state that the job has itself: an unfinished phase is what its job makes of it.
with holder as materialized (
  select state, fence from :"schema".job where id = $1
  union all select state, null from :"schema".job_archive where id = $1
  limit 1
)
select p.name, p.kind, p.signal, p.place, p.attempt, coalesce(h.fence = p.fence, false) as current, p.worker_id, p.began_at,
  p.ended_at, p.wake_at, octet_length(p.result::text) as result_bytes, case when $3 then p.result::text end as result,
  p.error::text as error, h.state
from :"schema".phase p left join holder h on true
where p.job_id = $1 order by p.place, p.began_at, p.name limit $2::integer;
