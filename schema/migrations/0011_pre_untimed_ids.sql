-- As in 0009. One random id in a hundred is as low as those that claim to be from later, but it tells no time: such a finished
-- job was listed twice, and first.
create or replace function :"schema".look_finished(
  kind text, since timestamptz, until timestamptz, top uuid, before uuid, floor uuid, room integer, page integer,
  states text[], in_queue text, of_task text, of_origin text, pattern text, payload boolean
) returns table (
  edge uuid, more boolean, place uuid, id uuid, task text, queue text, state text, priority smallint, attempt integer,
  max_attempts integer, crashes smallint, lost smallint, due_at timestamptz, created_at timestamptz, claimed_at timestamptz,
  finished_at timestamptz, timeout double precision, deadline timestamptz, expires_at timestamptz, origin text, worker_id uuid,
  lease_until timestamptz, cancel_asked timestamptz, key text, bundle_id uuid, reason text, errors text, args text, result text,
  meta text, progress text, read_at timestamptz)
language plpgsql stable set plan_cache_mode = 'force_custom_plan' set enable_sort = off set enable_bitmapscan = off
set enable_seqscan = off set max_parallel_workers_per_gather = 0 as $$
#variable_conflict use_column
declare
  half constant text[] := case kind when 'completed' then array['completed'] else array['cancelled', 'dead'] end;
begin
  return query
  with seen as materialized (
    select arm.place, arm.id, arm.state, arm.queue, arm.task, arm.origin from (
      (select a.id as place, a.id, a.state, a.queue, a.task, a.origin from :"schema".job_archive a
      where a.state = any(half) and a.finished_at >= look_finished.since and a.finished_at < look_finished.until
        and a.id < least(look_finished.before, look_finished.top) and a.id >= look_finished.floor
      order by a.id desc limit look_finished.room)
      union all
      (select late.place, late.id, late.state, late.queue, late.task, late.origin from (
        select overlay(uuid_send(a.id) placing substring(uuid_send(look_finished.top) from 1 for 6) from 1 for 6) as bytes,
          a.id, a.state, a.queue, a.task, a.origin
        from :"schema".job_archive a
        where a.state = any(half) and a.finished_at >= look_finished.since and a.finished_at < look_finished.until
          and a.id >= look_finished.top and a.id < '04000000-0000-0000-0000-000000000000' and :"schema".timed(a.id)
        order by a.id desc limit 20000
      ) as ahead cross join lateral (
        select encode(ahead.bytes, 'hex')::uuid as place, ahead.id, ahead.state, ahead.queue, ahead.task, ahead.origin
      ) as late where late.place < look_finished.before and late.place >= look_finished.floor)
      union all
      (select :"schema".place(a.id, a.created_at), a.id, a.state, a.queue, a.task, a.origin from :"schema".job_archive a
      where a.state = any(half) and a.finished_at >= look_finished.since and a.finished_at < look_finished.until
        and not :"schema".timed(a.id) and :"schema".place(a.id, a.created_at) < look_finished.before
        and :"schema".place(a.id, a.created_at) >= look_finished.floor
      order by 1 desc limit look_finished.room)
    ) as arm order by arm.place desc limit look_finished.room
  ), reached as materialized (
    select (select s.place from seen s order by s.place desc offset look_finished.room - 1 limit 1) as place
  ), found as materialized (
    -- all of it is in memory by now: which filters are given changes no plan
    select s.place, s.id from seen s
    where (:"schema".timed(s.id) or s.id <> s.place) and s.state = any(look_finished.states) and (in_queue is null or s.queue = in_queue)
      and (of_task is null or s.task = of_task) and (of_origin is null or s.origin = of_origin)
      and (pattern is null or s.id::text like pattern)
    order by s.place desc limit look_finished.page
  )
  select r.place, exists (
      select from :"schema".job_archive a
      where a.state = any(half) and a.finished_at >= look_finished.since and a.finished_at < look_finished.until
        and a.id < least(coalesce(r.place, look_finished.floor), look_finished.top))
    or look_finished.top < coalesce(r.place, look_finished.floor) and exists (
      select from :"schema".job_archive a
      where a.state = any(half) and a.finished_at >= look_finished.since and a.finished_at < look_finished.until
        and a.id >= look_finished.top and a.id < '04000000-0000-0000-0000-000000000000' and :"schema".timed(a.id))
    or exists (
      select from :"schema".job_archive a
      where a.state = any(half) and a.finished_at >= look_finished.since and a.finished_at < look_finished.until
        and not :"schema".timed(a.id) and :"schema".place(a.id, a.created_at) < coalesce(r.place, look_finished.floor)),
    f.place, j.id, j.task, j.queue, j.state, j.priority, j.attempt, j.max_attempts, j.crashes, j.lost, j.due_at, j.created_at,
    j.claimed_at, j.finished_at, j.timeout, j.deadline, j.expires_at, j.origin, j.worker_id, null::timestamptz,
    null::timestamptz, j.key, j.bundle_id, j.reason, j.errors::text, case when payload then j.args::text end,
    case when payload then j.result::text end, j.meta::text, j.progress::text, now()
  from reached r left join found f on true
  left join lateral (
    select a.* from :"schema".job_archive a
    where a.id = f.id and a.state = any(half) and a.finished_at >= look_finished.since
      and a.finished_at < look_finished.until limit 1
  ) as j on true
  order by f.place desc;
end $$;
