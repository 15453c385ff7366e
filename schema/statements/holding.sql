-- name: running_jobs
-- takes: queues text[], worker_id uuid, limit_name text, room bigint
-- gives: id uuid, task text, queue text, attempt integer, max_attempts integer, seconds double precision, ahead boolean, cancelling boolean, fraction double precision, message text, worker_id uuid
-- Those that run, the longest first: of some queues, of a worker, or with a place in a limit; null: whichever. No payload but
-- the message, see longest_running. It reads all that run, which are as many as there are slots.
select id, task, queue, attempt, max_attempts, extract(epoch from now() - claimed_at)::double precision as seconds,
  not started as ahead, cancel_asked is not null as cancelling,
  case when json_typeof(report -> 'fraction') = 'number' then
    case when report ->> 'fraction' ~ '^-?\d{1,9}(\.\d{1,40})?([eE]-\d{1,2})?$' then (report ->> 'fraction')::double precision end end
    as fraction,
  left(report ->> 'message', 300) as message, worker_id
from (
  select * from :"schema".job
  where state = 'running' and ($1::text[] is null or queue = any($1)) and ($2::uuid is null or worker_id = $2)
    and ($3::text is null or exists (
      select from unnest(gates[1:passed]) as g(gate) where g.gate >= $3 and g.gate < $3 || chr(11)))
  order by started desc, claimed_at, id limit $4) as j
cross join lateral (
  select case when progress::text !~ '\\u(0000|[dD][89a-fA-F])' then progress end as report
) as r
order by started desc, claimed_at, id;

-- name: held_by_workers
-- takes: queues text[]
-- gives: worker_id uuid, running bigint, ahead bigint
-- How many jobs of these queues each worker has: running, and claimed ahead of a free slot.
select worker_id, count(*) filter (where started) as running, count(*) filter (where not started) as ahead
from :"schema".job where state = 'running' and queue = any($1::text[]) group by worker_id;

-- name: first_in_line
-- takes: gate text, room bigint
-- gives: id uuid, task text, queue text, waits double precision
-- Who is next at a gate, with a place to get there or without; and for how many seconds each has been due.
select id, task, queue, waits
from (
  (select j.id, j.task, j.queue, j.priority, j.seq, date_part('epoch', clock_timestamp() - j.due_at) as waits
  from :"schema".job j where j.state = 'blocked' and j.gate is not null and j.gate = $1
  order by j.priority desc, j.seq limit $2)
  union all
  (select j.id, j.task, j.queue, j.priority, j.seq, date_part('epoch', clock_timestamp() - j.due_at) as waits
  from :"schema".job j where j.state = 'blocked' and j.gate is not null and j.gate = '~' || $1
  order by j.priority desc, j.seq limit $2)
) as line
order by priority desc, seq limit $2;
