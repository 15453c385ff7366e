-- name: who_locks
-- takes: relation text, mode text
-- gives: pid integer, name text, seconds double precision
-- Who has kept a lock for longest on one of our tables, or on any; a prepared transaction has no process any more. What
-- others run, a role without pg_read_all_stats does not see: then their seconds are null.
select l.pid, coalesce(nullif(a.application_name, ''), a.usename::text, 'a prepared transaction') as name,
  extract(epoch from clock_timestamp() - a.xact_start)::double precision as seconds
from (
  select distinct pg_locks.pid from pg_locks
  join pg_class c on c.oid = pg_locks.relation
  join pg_namespace n on n.oid = c.relnamespace
  where pg_locks.database = (select oid from pg_database where datname = current_database())
    and n.nspname = :'schema' and granted and pg_locks.pid is distinct from pg_backend_pid()
    and ($1::text is null or c.relname = $1) and ($2::text is null or pg_locks.mode = $2)
) as l
left join pg_stat_activity a on a.pid = l.pid
order by a.xact_start nulls first limit 3;
