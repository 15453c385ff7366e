-- Put into the template of the tests' databases: what makes a used one as new, and what notices that it cannot be made so.

create schema jobqueue_tests;
create table jobqueue_tests.altered (what text not null);
create table jobqueue_tests.stock (place regclass primary key, rows jsonb not null);

create function jobqueue_tests.note() returns event_trigger language plpgsql security definer as $$
begin
  if current_setting('transaction_read_only') = 'off' then
    insert into jobqueue_tests.altered values (tg_tag);
  end if;
end $$;

-- False if something was done that is not undone by emptying the tables: then it must go.
create function jobqueue_tests.clean() returns boolean language plpgsql as $$
declare
  used regclass[];
  each record;
  has jsonb;
begin
  if exists (select from jobqueue_tests.altered)
    or exists (
      select from pg_stat_activity
      where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend')
    -- analysed or vacuumed: the planner knows something
    or exists (
      select from pg_class where relnamespace = 'jobqueue'::regnamespace and relkind in ('r', 'p') and reltuples >= 0)
    or exists (select from pg_statistic where starelid >= 16384)
    or exists (
      select from pg_db_role_setting as s join pg_database as d on d.oid = s.setdatabase
      where d.datname = current_database())
    or exists (select from pg_prepared_xacts where database = current_database())
    or exists (select from pg_replication_slots where database = current_database())
  then
    return false;
  end if;
  -- by size: rows that are gone, or never were committed, are no less in the way
  select array_agg(c.oid) into used from pg_class as c
  where c.relnamespace = 'jobqueue'::regnamespace and c.relkind = 'r' and pg_relation_size(c.oid) > 0
    and not exists (select from jobqueue_tests.stock where place = c.oid);
  if used is not null then
    execute (select 'truncate ' || string_agg(t::text, ', ') from unnest(used) as t);
  end if;
  for each in select place, rows from jobqueue_tests.stock loop
    execute format('select coalesce(jsonb_agg(t), ''[]'') from %s as t', each.place) into has;
    if has <> each.rows then
      execute format('truncate %s', each.place);
      execute format('insert into %1$s select * from jsonb_populate_recordset(null::%1$s, $1)', each.place)
        using each.rows;
    end if;
  end loop;
  perform setval(s.seqrelid, s.seqstart, false)
  from pg_sequence as s where pg_sequence_last_value(s.seqrelid) is not null;
  return true;
end $$;

do $$
declare
  each record;
begin
  for each in
    select oid::regclass as place from pg_class
    where relnamespace = 'jobqueue'::regnamespace and relkind = 'r' and pg_relation_size(oid) > 0
  loop
    execute format('insert into jobqueue_tests.stock select %L, jsonb_agg(t) from %s as t', each.place, each.place);
  end loop;
end $$;

create event trigger jobqueue_tests on ddl_command_end execute function jobqueue_tests.note();
