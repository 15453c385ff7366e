-- name: register_worker
-- takes: id uuid, app text, host text, pid integer, version text, queues text[], concurrency integer
-- gives:
insert into :"schema".worker (id, app, host, pid, version, queues, concurrency) values ($1, $2, $3, $4, $5, $6, $7);

-- name: stop_worker
-- takes: id uuid
-- gives:
-- The row goes with its sleep flags: an orderly end leaves no evidence to weigh.
with awake as (delete from :"schema".sleeper where worker_id = $1)
delete from :"schema".worker where id = $1;

-- name: list_workers
-- takes:
-- gives: id uuid, app text, host text, pid integer, version text, queues text[], concurrency integer, started_at timestamptz, seen_at timestamptz
select id, app, host, pid, version, queues, concurrency, started_at, seen_at from :"schema".worker order by started_at;
