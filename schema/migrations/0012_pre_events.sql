-- The log: what became of jobs, written by the statement that moves them. One row says it of all jobs of a batch that
-- made the same move.

create sequence :"schema".event_seq;

create table :"schema".event (
  seq bigint not null default nextval(':"schema".event_seq'),
  at timestamptz not null default now(),
  type text collate "C" not null,
  task text,
  queue text collate "C",
  origin text,
  bundle_id uuid,
  jobs uuid[],
  attempts integer[],
  error text,
  reason text,
  data json
) partition by range (at);
-- Not compressed: ids do not shrink, and trying to was half of what a row costs.
alter table :"schema".event alter column jobs set storage external, alter column attempts set storage external;
create index event_seq_index on :"schema".event (seq);

-- What a transaction of a caller's has to say: it may stay open for hours, and readers would wait for its number.
create table :"schema".event_late (
  place bigint generated always as identity,
  type text collate "C" not null,
  task text,
  queue text collate "C",
  origin text,
  bundle_id uuid,
  jobs uuid[],
  attempts integer[],
  error text,
  reason text,
  data json,
  constraint event_late_pkey primary key (place)
);

-- The last number that retention has dropped: whoever reads on from an earlier one has lost something.
create table :"schema".event_floor (seq bigint not null);
insert into :"schema".event_floor values (0);
alter table :"schema".event_floor replica identity full;  -- or a publication of all tables would keep its days for ever

-- The pieces of the log, a day each, as `archive_pieces` gives those of the archive.
create function :"schema".event_pieces()
returns table (piece oid, leaf text, kind text, since timestamptz, until timestamptz)
language sql stable set search_path = pg_catalog, pg_temp set timezone = 'UTC' set datestyle = 'ISO' as $$
  select piece, leaf, 'event', bounds[1]::timestamptz, bounds[2]::timestamptz
  from (
    select c.oid as piece, c.relname::text as leaf,
      regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''([^'']+)''\) TO \(''([^'']+)''\)') as bounds
    from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = ':"schema".event'::regclass and c.relname ~ '_[0-9]{8}$'
  ) as found
  where bounds is not null
$$;

-- Makes the days of the log, as `extend_archive` those of the archive, which calls it.
create function :"schema".extend_events(days integer) returns integer
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  today constant date := (now() at time zone 'UTC')::date;
  day date;
  leaf text;
  made integer := 0;
begin
  for day in
    select d::date from generate_series(today - 1, today + least(greatest(days, 0), 31), interval '1 day') as d
    where not exists (select from :"schema".event_pieces() p where p.since = d::timestamp at time zone 'UTC')
  loop
    leaf := 'event_' || to_char(day, 'YYYYMMDD');
    execute format('create table %I.%I (like %I.event including defaults including storage)', :'schema', leaf, :'schema');
    execute format('alter table %I.event attach partition %I.%I for values from (%L) to (%L)',
      :'schema', :'schema', leaf, day || ' 00:00+00', (day + 1) || ' 00:00+00');
    made := made + 1;
  end loop;
  return made;
end $$;
revoke execute on function :"schema".extend_events(integer) from public;

-- As in 0009, and the log's days with it.
create or replace function :"schema".extend_archive(days integer, completed integer, other integer) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  today constant date := (now() at time zone 'UTC')::date;
  last constant date := today + least(greatest(days, 0), 31);
  half text;
  span integer;
  day date;
  next date;
  leaf text;
  made integer := 0;
begin
  perform pg_advisory_xact_lock(:'wake_class', :'archive_key');
  foreach half in array array['completed', 'other'] loop
    span := least(greatest(case half when 'completed' then completed else other end, 1), 366);
    day := today - 1;
    while day <= last loop
      next := (select (p.until at time zone 'UTC')::date from :"schema".archive_pieces() p
        where p.kind = half and p.since <= day::timestamp at time zone 'UTC' and p.until > day::timestamp at time zone 'UTC');
      if next is null then
        next := least(day + span - mod(day - date '1970-01-01', span),
          (select min((p.since at time zone 'UTC')::date) from :"schema".archive_pieces() p
            where p.kind = half and p.since > day::timestamp at time zone 'UTC'));
        leaf := format('job_archive_%s_%s', half, to_char(day, 'YYYYMMDD'));
        execute format('create table %I.%I (like %I.%I including defaults including constraints)',
          :'schema', leaf, :'schema', 'job_archive_' || half);
        execute format('alter table %I.%I replica identity full', :'schema', leaf);
        -- The check spares ATTACH a scan; it goes again at once, the partition's own bound says the same.
        execute format('alter table %I.%I add constraint bound check (finished_at >= %L and finished_at < %L)',
          :'schema', leaf, day || ' 00:00+00', next || ' 00:00+00');
        execute format('alter table %I.%I attach partition %I.%I for values from (%L) to (%L)',
          :'schema', 'job_archive_' || half, :'schema', leaf, day || ' 00:00+00', next || ' 00:00+00');
        execute format('alter table %I.%I drop constraint bound', :'schema', leaf);
        made := made + 1;
      end if;
      day := next;
    end loop;
  end loop;
  return made + :"schema".extend_events(days);
end $$;

-- As in 0009, for the days of the log as well: what they hold is noted as gone.
create or replace function :"schema".drop_archive(leaf text, wait boolean) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '100ms' as $$
declare
  parent text := (select case p.kind when 'event' then 'event' else 'job_archive_' || p.kind end
    from (select * from :"schema".archive_pieces() union all select * from :"schema".event_pieces()) as p
    where p.leaf = drop_archive.leaf and p.until <= now() - interval '1 day');
begin
  if parent is null then
    return false;
  end if;
  execute format('lock table only %I.%I in access exclusive mode %s',
    :'schema', parent, case when not wait then 'nowait' end);
  execute format('lock table only %I.%I in access exclusive mode nowait', :'schema', leaf);
  if parent = 'event' then
    execute format('update %1$I.event_floor set seq = greatest(seq, (select max(e.seq) from %1$I.%2$I e))', :'schema', leaf);
  end if;
  execute format('drop table %I.%I', :'schema', leaf);
  return true;
exception when lock_not_available or undefined_table then
  return false;  -- in use, or dropped by another just now
end $$;

-- At the commit of a caller's transaction: now its events get their numbers. The clock's time, not the transaction's: it
-- may have begun on a day that is gone.
create function :"schema".log_late() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  delete from :"schema".event_late where place = new.place;
  if not found then
    return null;  -- taken back: a savepoint
  end if;
  perform pg_advisory_xact_lock_shared(:'wake_class', :'log_key');
  begin
    insert into :"schema".event (at, type, task, queue, origin, bundle_id, jobs, attempts, error, reason, data)
    values (clock_timestamp(), new.type, new.task, new.queue, new.origin, new.bundle_id, new.jobs, new.attempts, new.error,
      new.reason, new.data);
  exception when check_violation then  -- no worker has made the day
    perform :"schema".extend_archive(1);
    insert into :"schema".event (at, type, task, queue, origin, bundle_id, jobs, attempts, error, reason, data)
    values (clock_timestamp(), new.type, new.task, new.queue, new.origin, new.bundle_id, new.jobs, new.attempts, new.error,
      new.reason, new.data);
  end;
  return null;
end $$;
revoke execute on function :"schema".log_late() from public;

create constraint trigger event_late_moves after insert on :"schema".event_late
  deferrable initially deferred for each row execute function :"schema".log_late();

-- The last number that was drawn, and who may still be writing: every writer locks the log before it draws a number, and its
-- lock ends after its commit is to be seen. In this order: whoever draws a number up to the edge has the lock by then, or
-- has ended. So all up to the edge is settled once none of these writers is there any more.
create function :"schema".event_edge() returns table (edge bigint, writers text[])
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
  edge := (select case when is_called then last_value else 0 end from :"schema".event_seq);
  writers := array(
    select distinct l.virtualtransaction from pg_locks l
    where l.locktype = 'advisory' and l.classid = (:'wake_class')::oid and l.objsubid = 2
      and l.objid = ((:'log_key')::bigint & 4294967295)::oid
      and l.database = (select d.oid from pg_database d where d.datname = current_database()));
  return next;
end $$;

select :"schema".extend_events(7);

-- Pages of the log, in its order and back. Functions for their settings, see look_unfinished: read in order and stop.
create function :"schema".event_page(first bigint, last bigint, room bigint) returns setof :"schema".event
language sql stable set enable_sort = off set enable_bitmapscan = off
set enable_seqscan = off set max_parallel_workers_per_gather = 0 as $$
  select * from :"schema".event e where e.seq >= first and e.seq <= last order by e.seq limit room
$$;
create function :"schema".event_page_back(before bigint, since timestamptz, room bigint) returns setof :"schema".event
language sql stable set enable_sort = off set enable_bitmapscan = off
set enable_seqscan = off set max_parallel_workers_per_gather = 0 as $$
  select * from :"schema".event e where e.seq < before and e.at >= since order by e.seq desc limit room
$$;

-- Who could finish jobs so far writes the log now, and who could look at them may read it.
revoke execute on function :"schema".event_edge() from public;
do $$
declare
  holder record;
begin
  for holder in
    select a.grantee::regrole as name, bool_or(a.privilege_type = 'INSERT') as writes
    from pg_class c cross join lateral aclexplode(c.relacl) a
    where c.oid = ':"schema".job_archive'::regclass and a.grantee not in (c.relowner, 0)
      and a.privilege_type in ('SELECT', 'INSERT')
    group by a.grantee
  loop
    execute format('grant select on %1$I.event, %1$I.event_late, %1$I.event_floor to %2$s', :'schema', holder.name);
    execute format('grant execute on function %I.event_edge() to %s', :'schema', holder.name);
    if holder.writes then
      execute format('grant insert on %1$I.event, %1$I.event_late to %2$s', :'schema', holder.name);
      execute format('grant usage on sequence %I.event_seq to %s', :'schema', holder.name);
    end if;
  end loop;
end $$;
