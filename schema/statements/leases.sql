-- name: renew_claims
-- takes: worker_id uuid, lease double precision, alive double precision, ids uuid[], fences bigint[], started boolean[]
-- gives: known boolean, fence bigint, state text
-- One beat: the worker is alive, and these claims hold a lease longer. Of a claim that is still its worker's it says
-- `present`, and `renewed` if it could: else somebody has the row locked, our own finish perhaps. The first row only says
-- whether the worker's own row is there; `cancel` that the job was asked to end. ids are sorted by the caller; SKIP LOCKED: a beat and a finish never wait for
-- each other.
with alive as (
  update :"schema".worker set seen_at = now(), alive_until = now() + make_interval(secs => $3) where id = $1
  returning id
), given as materialized (
  select * from unnest($4::uuid[], $5::bigint[], $6::boolean[]) as g(id, fence, started)
), mine as materialized (
  select j.id, g.fence, g.started from given g
  cross join lateral (
    select j.id from :"schema".job j where j.id = g.id and j.fence = g.fence and j.worker_id = $1
    for no key update skip locked  -- see record_phases
  ) as j
), renewed as (
  update :"schema".job j
  set lease_until = now() + make_interval(secs => $2), started = j.started or mine.started
  from unnest(array(select id from mine), array(select started from mine)) as mine(id, started)  -- see promote_due
  where j.id = mine.id
  returning j.fence
)
select exists (select from alive) as known, null::bigint as fence, null::text as state
union all
select null, fence, 'renewed' from renewed
union all
select null, g.fence, 'present' from given g
cross join lateral (select from :"schema".job j where j.id = g.id and j.fence = g.fence and j.worker_id = $1 offset 0) as j
union all
select null, g.fence, 'cancel' from given g
cross join lateral (
  select from :"schema".job j where j.id = g.id and j.fence = g.fence and j.worker_id = $1 and j.cancel_asked is not null offset 0) as j;

-- name: stay_alive
-- takes: worker_id uuid, alive double precision
-- gives: id uuid
-- The beat of a worker that has nothing to renew: 92 us of the server instead of 414. No row: its own is not there.
update :"schema".worker set seen_at = now(), alive_until = now() + make_interval(secs => $2) where id = $1 returning id;

-- name: mark_started
-- takes: id uuid, fence bigint, worker_id uuid
-- gives: id uuid
-- Before the start of a job that was claimed ahead and may run only once: if its worker dies, it has had its run.
update :"schema".job set started = true where id = $1 and fence = $2 and worker_id = $3 returning id;

-- name: any_expired
-- takes: dead_workers uuid[], settle double precision, after bigint, upto bigint
-- gives: expired boolean
-- Whether take_expired would find any: planned in 0.2 ms instead of 0.6, and needs no transaction.
select exists (
  select from :"schema".job
  where state = 'running' and (worker_id = any($1::uuid[])
    or lease_until < now() and pg_postmaster_start_time() < now() - make_interval(secs => $2))
    and seq > $3 and seq <= $4) as expired;

-- name: take_expired
-- takes: worker_id uuid, page bigint, dead_workers uuid[], settle double precision, except uuid[], max_crashes integer, after bigint, upto bigint, unheard bigint[]
-- gives: id uuid, fence bigint, queue text, task text, attempt integer, max_attempts integer, crashes smallint, lost smallint, worker_id uuid, crashed boolean, was_alone boolean
-- Counts and locks claims that nobody holds any more: the lease is over, or their worker is known to be dead. They get a
-- new fence, with which the caller writes their outcome in the same transaction: a late writer is told from the rescuer.
-- A crash counts only if the worker beats no more (the asking one lives, whatever its beats do), and has not said that it
-- ends; else the claim was lost for another reason. It counts against all that the worker had: nobody knows which of the
-- jobs claimed ahead had begun. Only one that may run once must have been marked as started. The last crash but one
-- makes a job run alone, and only a crash of a job that was alone goes beyond that.
-- A claim of the asking worker's that it gave up for want of an answer, by its fence in `unheard`, is not even lost.
-- After the server's own start everybody gets time to renew: it may have been away for longer than a lease.
-- Among the seqs above `after` up to `upto`: an old snapshot keeps an entry in the index for every claim there was.
with expired as materialized (
  select j.id, (j.started or j.max_attempts > 1) and j.worker_id <> $1 and (
      j.worker_id = any($3::uuid[])
      or not exists (select from :"schema".worker w where w.id = j.worker_id and w.alive_until > now()))
    and not exists (select from :"schema".worker w where w.id = j.worker_id and w.stopped_at is not null) as crashed,
    j.alone as was_alone, j.fence <> all($9::bigint[]) as lost,
    case when j.alone then j.crashes + 1 else least(j.crashes + 1, greatest($6 - 1, 1)) end as counted
  from :"schema".job j
  where j.state = 'running' and (j.worker_id = any($3::uuid[])
    or j.lease_until < now() and pg_postmaster_start_time() < now() - make_interval(secs => $4))
    and j.id <> all($5::uuid[]) and j.seq > $7 and j.seq <= $8
  order by j.seq
  limit $2
  for update of j skip locked
)
update :"schema".job j
set fence = nextval(':"schema".fence_seq'), lost = j.lost + (expired.lost and not expired.crashed)::integer,
  crashes = case when expired.crashed then expired.counted else j.crashes end,
  alone = j.alone or expired.crashed and expired.counted >= $6 - 1
from unnest(array(select id from expired), array(select crashed from expired), array(select counted from expired),
  array(select was_alone from expired), array(select lost from expired)) as expired(id, crashed, counted, was_alone, lost)  -- see promote_due
where j.id = expired.id
returning j.id, j.fence, j.queue, j.task, j.attempt, j.max_attempts, j.crashes, j.lost, j.worker_id, expired.crashed,
  expired.was_alone;

-- name: strays
-- takes: worker_id uuid, last_claim_no bigint, fences bigint[], after bigint, upto bigint
-- gives: id uuid, fence bigint
-- What this worker's claims took without its knowledge: the answer was lost. Only running rows are read, by their index.
select id, fence from :"schema".job
where state = 'running' and worker_id = $1 and claim_no <= $2 and fence <> all($3::bigint[]) and seq > $4 and seq <= $5;

-- name: newest_seq
-- takes:
-- gives: seq bigint
-- The last place in the order of becoming ready that was given out.
select coalesce(pg_sequence_last_value(':"schema".job_seq'), 0) as seq;

-- name: pardon_jobs
-- takes: worker_id uuid, ids uuid[], ours boolean
-- gives: wake void
-- The worker lives after all: it was frozen, or cut off. What was counted against its jobs as a crash was a lost claim;
-- not even that if it was only cut off from here: want of a connection is never a job's fault.
with mine as materialized (
  select j.id from unnest($2::uuid[]) as g(id)
  cross join lateral (
    select j.id from :"schema".job j
    where j.id = g.id and j.crashes > 0
      and j.errors -> -1 ->> 'class' = 'WorkerCrashed' and j.errors -> -1 ->> 'worker' = $1::uuid::text
    for update skip locked
  ) as j
), pardoned as (
  update :"schema".job set crashes = crashes - 1, alone = false, lost = lost + $3::boolean::integer, errors = errors - (-1)
  where id = any(array(select id from mine))
  returning queue, state
)
select :"schema".wake(queue, null, false) as wake from pardoned where state = 'ready' group by queue;
