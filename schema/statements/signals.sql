-- name: send_signal
-- takes: id uuid, name text, payload text, most_bytes integer
-- gives: said text
select :"schema".signal($1, $2, $3, $4) as said;

-- name: take_signals
-- takes: ids uuid[], fences bigint[], names text[], signals text[], places integer[], attempts integer[], sleeps double precision[], worker_id uuid
-- gives: fence bigint, name text, payload text, seen integer, wake_at timestamptz, sleeps double precision
-- The next signal of each wait, which is over then; else until when it waits, and how many signals the job had been sent as
-- this statement sees it. That number is read with the signals themselves, not from the locked row, which may be newer: what
-- is sent from here on changes it, and whoever puts the job to sleep with the older number is told. No two waits of one call
-- are for the same signal of a job. What this run has taken before, and got no answer, it gets again. Rows that somebody has
-- locked are left out, and so not answered. The log tells of jobs that are followed.
with given as materialized (
  select * from unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::integer[], $6::integer[], $7::double precision[])
    as g(id, fence, name, signal, place, attempt, sleeps)
), mine as materialized (
  select g.*, j.task, j.queue, j.origin, j.bundle_id, j.attempt as tries, j.follow from given g cross join lateral (
    select * from :"schema".job j where j.id = g.id and j.fence = g.fence and j.worker_id = $8 for key share skip locked) as j
), kept as materialized (
  select m.id, m.fence, m.name, p.result, p.wake_at from mine m cross join lateral (
    select * from :"schema".phase p where p.job_id = m.id and p.name = m.name and p.fence = m.fence and p.kind = 'wait'
      and p.signal = m.signal and p.ended_at is not null and p.error is null offset 0) as p
), sent as materialized (
  select m.id, m.name, j.signals as seen, s.seq, s.payload
  from (select * from mine where (id, name) not in (select id, name from kept)) as m
  cross join lateral (select j.signals from :"schema".job j where j.id = m.id offset 0) as j
  left join lateral (
    select s.seq, s.payload from :"schema".signal s where s.job_id = m.id and s.name = m.signal order by s.seq limit 1) as s on true
), gone as (
  delete from :"schema".signal s using mine m, sent t
  where t.id = m.id and t.name = m.name and s.job_id = m.id and s.name = m.signal and s.seq = t.seq
), entering as materialized (
  select :"entering"  -- before a number is drawn: see event_edge()
), logged as (
  insert into :"log" (type, task, queue, origin, bundle_id, jobs, attempts, data)
  select 'job.phase', m.task, m.queue, m.origin, m.bundle_id, array[m.id], array[m.tries],
    json_build_object('phase', m.name, 'state', case when t.seq is null then 'waiting' else 'completed' end)
  from entering cross join mine m join sent t on t.id = m.id and t.name = m.name where m.follow & 1 <> 0
), waits as (
  insert into :"schema".phase as p (job_id, name, kind, signal, place, attempt, fence, worker_id, began_at, ended_at, wake_at, result)
  select m.id, m.name, 'wait', m.signal, m.place, m.attempt, m.fence, $8, clock_timestamp(),
    case when t.seq is not null then clock_timestamp() end, clock_timestamp() + make_interval(secs => m.sleeps), t.payload
  from mine m join sent t on t.id = m.id and t.name = m.name order by m.id, m.name
  on conflict on constraint phase_pkey do update set kind = excluded.kind, signal = excluded.signal, place = excluded.place,
    attempt = excluded.attempt, fence = excluded.fence, worker_id = excluded.worker_id, ended_at = excluded.ended_at,
    began_at = case when p.kind = 'wait' then p.began_at else excluded.began_at end,
    wake_at = case when p.kind = 'wait' then coalesce(p.wake_at, excluded.wake_at) else excluded.wake_at end,
    result = excluded.result, error = null
  returning job_id, fence, name, wake_at
)
select w.fence, w.name, t.payload::text as payload, t.seen, w.wake_at,
  date_part('epoch', w.wake_at) - date_part('epoch', clock_timestamp()) as sleeps
from waits w join sent t on t.id = w.job_id and t.name = w.name
union all
select fence, name, result::text, 0, wake_at, 0 from kept;

-- name: unread_signals
-- takes: id uuid
-- gives: name text, count bigint
select name, count(*) as count from :"schema".signal where job_id = $1 group by name order by name;
