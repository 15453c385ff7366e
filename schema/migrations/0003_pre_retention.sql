-- Old jobs go: by outcome, whole days at a time; by queue, with a shorter age, row by row. Only ever from the archive.

-- How long this queue's finished jobs stay, in seconds, if less long than the workers' settings say. A day is dropped as
-- a whole: no queue can keep its jobs for longer.
alter table :"schema".queue
  add column keep_completed double precision,
  add column keep_other double precision,
  add constraint queue_keep_positive check (keep_completed > 0 and keep_other > 0);

-- Whose turn it is: one worker sweeps for all.
create table :"schema".sweep (
  name text collate "C" not null,
  begun_at timestamptz not null,
  constraint sweep_pkey primary key (name)
);

-- Drops one day of the archive, if it ended at least a day ago; false if it cannot be had now. Of the owner, so that a
-- worker needs no right to drop tables.
--
-- The drop needs the parent for itself, and whoever waits for that holds up every finish behind it: without `wait` it
-- never stands in the queue; with it for 100 ms, enough for the finishes under way to end.
create function :"schema".drop_archive(leaf text, wait boolean) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '100ms' as $$
declare
  parent text := (
    select p.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid join pg_class p on p.oid = i.inhparent
    where i.inhparent in (':"schema".job_archive_completed'::regclass, ':"schema".job_archive_other'::regclass)
      and c.relname = leaf and leaf ~ '_[0-9]{8}$');
begin
  if parent is null or to_date(right(leaf, 8), 'YYYYMMDD') >= (now() at time zone 'UTC')::date - 1 then
    return false;
  end if;
  execute format('lock table only %I.%I in access exclusive mode %s',
    :'schema', parent, case when not wait then 'nowait' end);
  execute format('lock table only %I.%I in access exclusive mode nowait', :'schema', leaf);
  execute format('drop table %I.%I', :'schema', leaf);
  return true;
exception when lock_not_available or undefined_table then
  return false;  -- in use, or dropped by another just now
end $$;

-- Deletes what is too old from some pages of one day of the archive, past rows that others hold, and says how many jobs
-- of each outcome that were; `dry`: how many it would be. Without ages each queue's own count. There is no index by
-- queue or time: by pages each call reads a bounded part of the table.
create function :"schema".prune_archive(
  leaf text, first bigint, pages integer, of_queue text, completed double precision, other double precision, dry boolean
) returns table (state text, jobs bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '100ms' as $$
declare
  old text := format(
    'select a.ctid as place, a.state from %1$I.%2$I a cross join lateral (
       select $4 as completed, $5 as other where ($4 is not null or $5 is not null) and ($3 is null or a.queue = $3)
       union all
       select q.keep_completed, q.keep_other from %1$I.queue q where $4 is null and $5 is null and q.name = a.queue
     ) as keep
     where a.ctid >= $1 and a.ctid < $2 and a.finished_at <
       now() - make_interval(secs => case a.state when ''completed'' then keep.completed else keep.other end)',
    :'schema', leaf);
begin
  if not exists (
    select from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent in (':"schema".job_archive_completed'::regclass, ':"schema".job_archive_other'::regclass)
      and c.relname = leaf
  ) then
    return;
  end if;
  if not dry then
    old := old || ' for update of a skip locked';
  end if;
  old := 'with old as materialized (' || old || ')';
  if not dry then
    old := old || format(', gone as (delete from %I.%I where ctid = any(array(select place from old)))', :'schema', leaf);
  end if;
  return query execute old || ' select old.state::text, count(*) from old group by old.state'
    using format('(%s,0)', first)::tid, format('(%s,0)', first + pages)::tid, of_queue, completed, other;
end $$;

-- What removes for good is not for everybody who may defer. A worker that is not the owner is granted both.
revoke execute on function :"schema".drop_archive(text, boolean) from public;
revoke execute on function :"schema".prune_archive(
  text, bigint, integer, text, double precision, double precision, boolean) from public;

-- The archive's jobs by day, queue and outcome. A day of more than `pages` is not counted but estimated, from so many
-- pages spread over it: reading five million rows takes a second, this some milliseconds. Stable, so that all is seen by
-- the snapshot of the query that asks. Of the owner: rights on the archive do not reach the days that come later.
create function :"schema".count_archive(pages integer)
returns table (leaf text, queue text, state text, jobs bigint, exact boolean)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
  day record;
begin
  for day in
    select c.relname, pg_relation_size(c.oid) / current_setting('block_size')::bigint as size
    from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent in (':"schema".job_archive_completed'::regclass, ':"schema".job_archive_other'::regclass)
      and pg_relation_size(c.oid) > 0
  loop
    begin
      if day.size <= pages then
        return query execute format(
          'select %L, a.queue::text, a.state::text, count(*), true from %I.%I a group by a.queue, a.state',
          day.relname, :'schema', day.relname);
      else
        return query execute format(
          'select %L, a.queue::text, a.state::text, (count(*) * $1::double precision / $2)::bigint, false
           from (
             -- one page of each stretch, always the same, at no regular distance from the next
             select n * $1 / $2 + (hashint4(n)::bigint & 2147483647) %% ($1 / $2) as page
             from generate_series(0, $2 - 1) as n
           ) as chosen
           cross join lateral (select s.queue, s.state from %I.%I s
             where s.ctid >= format(''(%%s,0)'', page)::tid and s.ctid < format(''(%%s,0)'', page + 1)::tid offset 0) as a
           group by a.queue, a.state',
          day.relname, :'schema', day.relname) using day.size, pages;
      end if;
    exception when undefined_table then
      null;  -- dropped since
    end;
  end loop;
end $$;
