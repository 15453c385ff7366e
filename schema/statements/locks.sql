-- name: wait_briefly
-- takes:
-- gives: limit text
-- For locks, for the rest of this transaction.
select set_config('lock_timeout', '100ms', true) as limit;

-- name: who_locks
-- takes: tables text[]
-- gives: pid integer, name text, seconds double precision
-- Who has kept a lock for longest on one of our tables: whoever writes or locks rows in these, or also reads in any. A
-- prepared transaction has no process. A role without pg_read_all_stats does not see since when others have theirs.
select l.pid, coalesce(nullif(a.application_name, ''), a.usename::text, a.backend_type, 'a prepared transaction') as name,
  extract(epoch from clock_timestamp() - a.xact_start)::double precision as seconds
from (
  select distinct pg_locks.pid from pg_locks
  join pg_class c on c.oid = pg_locks.relation
  join pg_namespace n on n.oid = c.relnamespace
  where pg_locks.database = (select oid from pg_database where datname = current_database())
    and n.nspname = :'schema' and granted and pg_locks.pid is distinct from pg_backend_pid()
    and ($1::text[] is null or c.relname = any($1) and pg_locks.mode <> 'AccessShareLock')
) as l
left join pg_stat_activity a on a.pid = l.pid
where a.xact_start is null or a.xact_start < clock_timestamp() - interval '1 second'
order by a.xact_start nulls first limit 3;
