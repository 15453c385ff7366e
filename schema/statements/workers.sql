-- name: register_worker
-- takes: id uuid, app text, host text, pid integer, version text, queues text[], concurrency integer, alive double precision, machine text, born text
-- gives:
insert into :"schema".worker (id, app, host, pid, version, queues, concurrency, alive_until, machine, born)
values ($1, $2, $3, $4, $5, $6, $7, now() + make_interval(secs => $8), $9, $10)
on conflict on constraint worker_pkey do update set seen_at = now(), alive_until = excluded.alive_until;

-- name: stop_worker
-- takes: id uuid
-- gives:
-- The row goes with its sleep flags: an orderly end leaves no evidence to weigh.
with awake as (delete from :"schema".sleeper where worker_id = $1)
delete from :"schema".worker where id = $1;

-- name: leave_worker
-- takes: id uuid
-- gives:
-- A worker ends though some of its jobs still run: what becomes of them is no crash.
with awake as (delete from :"schema".sleeper where worker_id = $1)
update :"schema".worker set stopped_at = now() where id = $1;

-- name: show_stuck
-- takes: id uuid, stuck text
-- gives: id uuid
update :"schema".worker set stuck = $2::text::json, stuck_at = case when $2::text is not null then clock_timestamp() end
where id = $1 returning id;

-- name: workers_of_machine
-- takes: machine text
-- gives: id uuid, pid integer, born text
-- Those, too, that were found dead within the last minute: a claim that was under way when its worker died commits after
-- that, and nobody else would look for it before its lease is over. No statement of ours takes so long.
select id, pid, born from :"schema".worker where machine = $1 and alive_until > now() - interval '1 minute';

-- name: silent_workers
-- takes: seconds double precision
-- gives: id uuid
select id from :"schema".worker where alive_until < now() - make_interval(secs => $1);

-- name: forget_dead_workers
-- takes: dead_workers uuid[], keep double precision
-- gives:
-- Their rows stay for a while, for those who ask what happened, and their sleep flags with them: those count no more once their
-- time is over, which is a poll away at most.
with dead as materialized (
  select id, alive_until < now() - make_interval(secs => $2) as long_ago
  from :"schema".worker where alive_until < now() or id = any($1::uuid[])
), forgotten as (
  delete from :"schema".sleeper where worker_id = any(array(select id from dead where long_ago))
), marked as (
  update :"schema".worker set alive_until = least(alive_until, now()) where id = any($1::uuid[]) and alive_until > now()
)
delete from :"schema".worker where id = any(array(select id from dead where long_ago));

-- name: list_workers
-- takes:
-- gives: id uuid, app text, host text, pid integer, version text, queues text[], concurrency integer, started_at timestamptz, seen_at timestamptz, alive boolean
select id, app, host, pid, version, queues, concurrency, started_at, seen_at, alive_until > now() as alive
from :"schema".worker order by started_at;

-- name: unserved_queues
-- takes: seconds double precision
-- gives: queue text, waits double precision
-- The queues whose best job has been ready for so long, that are not paused, and that no living worker serves; see ready_queues.
with recursive found as (
  (select j.queue from :"schema".job j where j.state = 'ready' and j.crashes = 0 order by j.queue limit 1)
  union all
  select (select j.queue from :"schema".job j where j.state = 'ready' and j.crashes = 0 and j.queue > f.queue
    order by j.queue limit 1)
  from found f where f.queue is not null
)
select f.queue, extract(epoch from now() - best.due_at)::double precision as waits
from found f
cross join lateral (
  select j.due_at from :"schema".job j where j.state = 'ready' and j.crashes = 0 and j.queue = f.queue
  order by j.priority desc, j.seq limit 1
) as best
where best.due_at < now() - make_interval(secs => $1) and not :"schema".served(f.queue)
  and not exists (select from :"schema".queue q
    where q.name = f.queue and q.paused_at is not null and (q.resume_at is null or q.resume_at > now()))
order by f.queue;
