-- A queue may keep only its newest finished jobs, so many of each outcome.
alter table :"schema".queue
  add column most_completed bigint,
  add column most_other bigint,
  add constraint queue_most_positive check (most_completed > 0 and most_other > 0);

-- Keys whose time is over are removed, the oldest first.
create index job_key_expiry on :"schema".job_key (expires_at) where expires_at is not null;

-- How many jobs finished in which second, for the queues that have such a limit for this half of the archive, in some
-- pages of one of its days. Of the owner: rights on the archive do not reach the days that come later.
create function :"schema".count_seconds(leaf text, first bigint, pages integer)
returns table (queue text, second timestamptz, jobs bigint)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
  if not exists (
    select from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent in (':"schema".job_archive_completed'::regclass, ':"schema".job_archive_other'::regclass)
      and c.relname = leaf
  ) then
    return;
  end if;
  return query execute format(
    'select a.queue::text, date_trunc(''second'', a.finished_at), count(*)
     from %1$I.%2$I a join %1$I.queue q on q.name = a.queue
     where a.ctid >= $1 and a.ctid < $2
       and case a.state when ''completed'' then q.most_completed else q.most_other end is not null
     group by 1, 2', :'schema', leaf)
    using format('(%s,0)', first)::tid, format('(%s,0)', first + pages)::tid;
end $$;

-- Deletes what each queue finished before its moment from some pages of one day of the archive, past rows that others
-- hold, and says how many jobs of each outcome that were. `dry`: how many it would be beside what is too old anyway.
create function :"schema".prune_before(
  leaf text, first bigint, pages integer, queues text[], moments timestamptz[], dry boolean
) returns table (state text, jobs bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '100ms' as $$
declare
  old text := format(
    'with old as materialized (
       select a.ctid as place, a.state from %1$I.%2$I a
       join unnest($3, $4) as f(queue, moment) on f.queue = a.queue and a.finished_at < f.moment
       where a.ctid >= $1 and a.ctid < $2', :'schema', leaf);
begin
  if not exists (
    select from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent in (':"schema".job_archive_completed'::regclass, ':"schema".job_archive_other'::regclass)
      and c.relname = leaf
  ) then
    return;
  end if;
  old := old || case when dry then format(
    ' and not exists (select from %I.queue q where q.name = a.queue and a.finished_at <
        now() - make_interval(secs => case a.state when ''completed'' then q.keep_completed else q.keep_other end)))',
    :'schema') else format(
    ' for update of a skip locked), gone as (delete from %I.%I where ctid = any(array(select place from old)))',
    :'schema', leaf) end;
  return query execute old || ' select old.state::text, count(*) from old group by old.state'
    using format('(%s,0)', first)::tid, format('(%s,0)', first + pages)::tid, queues, moments;
end $$;

-- A worker that is not the owner is granted both.
revoke execute on function :"schema".count_seconds(text, bigint, integer) from public;
revoke execute on function :"schema".prune_before(text, bigint, integer, text[], timestamptz[], boolean) from public;
