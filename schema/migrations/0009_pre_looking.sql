-- Looking at jobs costs what it shows, however many there are; long retention makes no more partitions than short.

-- True for an id that tells when it was made: a UUIDv7. The bound is the year 2109; above it lie nearly all others.
create function :"schema".timed(id uuid) returns boolean language sql immutable parallel safe
return get_byte(uuid_send(id), 6) >> 4 = 7 and id < '04000000-0000-0000-0000-000000000000'::uuid;

-- Where a job stands in a list, by when it came: its id if that is by time, else one made of the time it was stored.
-- Immutable, though `extract` is not in general: the epoch depends on no time zone.
create function :"schema".place(id uuid, created_at timestamptz) returns uuid language sql immutable parallel safe
return case when :"schema".timed(id) then id else
  (select encode(int8send((floor(ms)::bigint << 16) | (7 << 12) | floor((ms - floor(ms)) * 4096)::bigint)
      || int8send(uuid_hash_extended(id, 0)), 'hex')::uuid
    from (select greatest(extract(epoch from created_at), 0) * 1000 as ms) as clock) end;

-- Only jobs whose caller chose another kind of id are in these; the others pay for nothing but one comparison.
create index job_untimed on :"schema".job (:"schema".place(id, created_at)) where not :"schema".timed(id);

-- Days first, the oldest before the others, so that today's is locked for the shortest time; the parents then take them in.
do $$
declare
  leaf regclass;
begin
  for leaf in
    select c.oid::regclass from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent in (':"schema".job_archive_completed'::regclass, ':"schema".job_archive_other'::regclass)
    order by right(c.relname, 8)
  loop
    execute format('create index on %s (%I.place(id, created_at)) where not %I.timed(id)', leaf, :'schema', :'schema');
  end loop;
end $$;
create index job_archive_untimed on :"schema".job_archive (:"schema".place(id, created_at)) where not :"schema".timed(id);

-- The pieces of the archive, with the time that each covers. Their names have the first day.
create function :"schema".archive_pieces()
returns table (piece oid, leaf text, kind text, since timestamptz, until timestamptz)
language sql stable set search_path = pg_catalog, pg_temp set timezone = 'UTC' set datestyle = 'ISO' as $$
  select piece, leaf, kind, bounds[1]::timestamptz, bounds[2]::timestamptz
  from (
    select c.oid as piece, c.relname::text as leaf,
      case i.inhparent when ':"schema".job_archive_completed'::regclass then 'completed' else 'other' end as kind,
      regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''([^'']+)''\) TO \(''([^'']+)''\)') as bounds
    from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent in (':"schema".job_archive_completed'::regclass, ':"schema".job_archive_other'::regclass)
      and c.relname ~ '_[0-9]{8}$'
  ) as found
  where bounds is not null
$$;

-- As in 0001, in pieces of so many days: about thirty make up what is kept, whether that is a month or two years. A
-- piece ends on a multiple of its length, or where the next one begins; what is covered stays as it is.
create function :"schema".extend_archive(days integer, completed integer, other integer) returns integer
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
  return made;
end $$;

-- It runs as the owner: who could make pieces so far may go on to.
do $$
declare
  holder record;
begin
  revoke execute on function :"schema".extend_archive(integer, integer, integer) from public;
  for holder in
    select distinct a.grantee from pg_proc p cross join lateral aclexplode(p.proacl) a
    where p.oid = ':"schema".extend_archive(integer)'::regprocedure and a.grantee not in (p.proowner, 0)
  loop
    execute format('grant execute on function %I.extend_archive(integer, integer, integer) to %s',
      :'schema', holder.grantee::regrole);
  end loop;
end $$;

-- For whoever knows nothing of ages: a finish that meets no piece, an older worker.
create or replace function :"schema".extend_archive(days integer) returns integer
language sql security definer set search_path = pg_catalog, pg_temp as $$
  select :"schema".extend_archive(days, 1, 1)
$$;

-- As in 0003, for pieces of any length.
create or replace function :"schema".drop_archive(leaf text, wait boolean) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '100ms' as $$
declare
  parent text := (select 'job_archive_' || p.kind from :"schema".archive_pieces() p
    where p.leaf = drop_archive.leaf and p.until <= now() - interval '1 day');
begin
  if parent is null then
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

-- A window: of the `room` newest jobs before a place at most `page` of those that are meant. `edge` is where it stopped, unless
-- it got to the end. So one look reads so many rows and no more, whatever is asked for. It reads in order and stops, by the
-- settings below: with a guess at what a condition leaves, the planner would rather read and sort the whole table.
create function :"schema".look_unfinished(
  before uuid, room integer, page integer, states text[], in_queue text, of_task text, of_origin text, pattern text
) returns table (edge uuid, place uuid, id uuid)
language sql stable set enable_sort = off set enable_bitmapscan = off
set enable_seqscan = off set max_parallel_workers_per_gather = 0 as $$
  with timed as materialized (
    select j.id as place, j.id, j.state, j.queue, j.task, j.origin from :"schema".job j
    where j.id < least(before, '04000000-0000-0000-0000-000000000000') order by j.id desc limit room
  ), untimed as materialized (
    select :"schema".place(j.id, j.created_at) as place, j.id, j.state, j.queue, j.task, j.origin from :"schema".job j
    where not :"schema".timed(j.id) and :"schema".place(j.id, j.created_at) < before order by 1 desc limit room
  ), reached as materialized (
    select greatest(
      (select t.place from timed t order by t.place desc offset room - 1 limit 1),
      (select u.place from untimed u order by u.place desc offset room - 1 limit 1)) as edge
  ), found as materialized (
    -- all of it is in memory by now: which filters are given changes no plan
    select b.place, b.id
    from (select * from timed t where :"schema".timed(t.id) union all select * from untimed) as b cross join reached r
    where (r.edge is null or b.place >= r.edge) and b.state = any(states) and (in_queue is null or b.queue = in_queue)
      and (of_task is null or b.task = of_task) and (of_origin is null or b.origin = of_origin)
      and (pattern is null or b.id::text like pattern)
    order by b.place desc limit page
  )
  select r.edge, f.place, f.id from reached r left join found f on true order by f.place desc
$$;

-- For those who change jobs: only ids, the oldest first by id.
create function :"schema".find_unfinished(
  after uuid, room integer, page integer, states text[], in_queue text, of_task text, of_origin text
) returns table (edge uuid, id uuid)
language sql stable set enable_sort = off set enable_bitmapscan = off
set enable_seqscan = off set max_parallel_workers_per_gather = 0 as $$
  with seen as materialized (
    select j.id, j.state, j.queue, j.task, j.origin from :"schema".job j where j.id > after order by j.id limit room
  ), found as materialized (
    select s.id from seen s
    where s.state = any(states) and (in_queue is null or s.queue = in_queue) and (of_task is null or s.task = of_task)
      and (of_origin is null or s.origin = of_origin)
    order by s.id limit page
  )
  select (select s.id from seen s order by s.id offset room - 1 limit 1), f.id
  from (select) as always left join found f on true order by f.id
$$;

-- A window of one piece, see look_unfinished, newest first: at most `page` of the jobs that are meant, among `room`. `edge`
-- is where it stopped if it did not get to `floor`; `more`, whether anything lies below that. An id that claims to be from
-- after `top`, when the piece was long over, stands right behind it. A plan of its own each time, so that no other piece is
-- opened or locked: a plan for any would lock them all.
create function :"schema".look_finished(
  kind text, since timestamptz, until timestamptz, top uuid, before uuid, floor uuid, room integer, page integer,
  states text[], in_queue text, of_task text, of_origin text, pattern text, payload boolean
) returns table (
  edge uuid, more boolean, place uuid, id uuid, task text, queue text, state text, priority smallint, attempt integer,
  max_attempts integer, crashes smallint, lost smallint, due_at timestamptz, created_at timestamptz, claimed_at timestamptz,
  finished_at timestamptz, timeout double precision, deadline timestamptz, expires_at timestamptz, origin text, worker_id uuid,
  lease_until timestamptz, cancel_asked timestamptz, key text, bundle_id uuid, reason text, errors text, args text, result text,
  meta text, progress text, read_at timestamptz)
language plpgsql stable set plan_cache_mode = 'force_custom_plan' set enable_sort = off set enable_bitmapscan = off
set enable_seqscan = off set max_parallel_workers_per_gather = 0 as $$
#variable_conflict use_column
declare
  half constant text[] := case kind when 'completed' then array['completed'] else array['cancelled', 'dead'] end;
begin
  return query
  with seen as materialized (
    select arm.place, arm.id, arm.state, arm.queue, arm.task, arm.origin from (
      (select a.id as place, a.id, a.state, a.queue, a.task, a.origin from :"schema".job_archive a
      where a.state = any(half) and a.finished_at >= look_finished.since and a.finished_at < look_finished.until
        and a.id < least(look_finished.before, look_finished.top) and a.id >= look_finished.floor
      order by a.id desc limit look_finished.room)
      union all
      (select late.place, late.id, late.state, late.queue, late.task, late.origin from (
        select overlay(uuid_send(a.id) placing substring(uuid_send(look_finished.top) from 1 for 6) from 1 for 6) as bytes,
          a.id, a.state, a.queue, a.task, a.origin
        from :"schema".job_archive a
        where a.state = any(half) and a.finished_at >= look_finished.since and a.finished_at < look_finished.until
          and a.id >= look_finished.top and a.id < '04000000-0000-0000-0000-000000000000'
        order by a.id desc limit 20000
      ) as ahead cross join lateral (
        select encode(ahead.bytes, 'hex')::uuid as place, ahead.id, ahead.state, ahead.queue, ahead.task, ahead.origin
      ) as late where late.place < look_finished.before and late.place >= look_finished.floor)
      union all
      (select :"schema".place(a.id, a.created_at), a.id, a.state, a.queue, a.task, a.origin from :"schema".job_archive a
      where a.state = any(half) and a.finished_at >= look_finished.since and a.finished_at < look_finished.until
        and not :"schema".timed(a.id) and :"schema".place(a.id, a.created_at) < look_finished.before
        and :"schema".place(a.id, a.created_at) >= look_finished.floor
      order by 1 desc limit look_finished.room)
    ) as arm order by arm.place desc limit look_finished.room
  ), reached as materialized (
    select (select s.place from seen s order by s.place desc offset look_finished.room - 1 limit 1) as place
  ), found as materialized (
    -- all of it is in memory by now: which filters are given changes no plan
    select s.place, s.id from seen s
    where (:"schema".timed(s.id) or s.id <> s.place) and s.state = any(look_finished.states) and (in_queue is null or s.queue = in_queue)
      and (of_task is null or s.task = of_task) and (of_origin is null or s.origin = of_origin)
      and (pattern is null or s.id::text like pattern)
    order by s.place desc limit look_finished.page
  )
  select r.place, exists (
      select from :"schema".job_archive a
      where a.state = any(half) and a.finished_at >= look_finished.since and a.finished_at < look_finished.until
        and a.id < least(coalesce(r.place, look_finished.floor), look_finished.top))
    or look_finished.top < coalesce(r.place, look_finished.floor) and exists (
      select from :"schema".job_archive a
      where a.state = any(half) and a.finished_at >= look_finished.since and a.finished_at < look_finished.until
        and a.id >= look_finished.top)
    or exists (
      select from :"schema".job_archive a
      where a.state = any(half) and a.finished_at >= look_finished.since and a.finished_at < look_finished.until
        and not :"schema".timed(a.id) and :"schema".place(a.id, a.created_at) < coalesce(r.place, look_finished.floor)),
    f.place, j.id, j.task, j.queue, j.state, j.priority, j.attempt, j.max_attempts, j.crashes, j.lost, j.due_at, j.created_at,
    j.claimed_at, j.finished_at, j.timeout, j.deadline, j.expires_at, j.origin, j.worker_id, null::timestamptz,
    null::timestamptz, j.key, j.bundle_id, j.reason, j.errors::text, case when payload then j.args::text end,
    case when payload then j.result::text end, j.meta::text, j.progress::text, now()
  from reached r left join found f on true
  left join lateral (
    select a.* from :"schema".job_archive a
    where a.id = f.id and a.state = any(half) and a.finished_at >= look_finished.since
      and a.finished_at < look_finished.until limit 1
  ) as j on true
  order by f.place desc;
end $$;

-- The same for those who change jobs: the oldest first by id, and only ids.
create function :"schema".find_finished(
  kind text, since timestamptz, until timestamptz, after uuid, room integer, page integer,
  states text[], in_queue text, of_task text, of_origin text
) returns table (edge uuid, id uuid)
language plpgsql stable set plan_cache_mode = 'force_custom_plan' set enable_sort = off set enable_bitmapscan = off
set enable_seqscan = off set max_parallel_workers_per_gather = 0 as $$
#variable_conflict use_column
declare
  half constant text[] := case kind when 'completed' then array['completed'] else array['cancelled', 'dead'] end;
begin
  return query
  with seen as materialized (
    select a.id, a.state, a.queue, a.task, a.origin from :"schema".job_archive a
    where a.state = any(half) and a.finished_at >= find_finished.since and a.finished_at < find_finished.until
      and a.id > find_finished.after
    order by a.id limit find_finished.room
  ), found as materialized (
    select s.id from seen s
    where s.state = any(find_finished.states) and (in_queue is null or s.queue = in_queue)
      and (of_task is null or s.task = of_task) and (of_origin is null or s.origin = of_origin)
    order by s.id limit find_finished.page
  )
  select (select s.id from seen s order by s.id offset find_finished.room - 1 limit 1), f.id
  from (select) as always left join found f on true order by f.id;
end $$;

-- How many jobs died or were cancelled after the end of this number. They stand at the end of their piece, which is read from
-- behind, so many pages at most; `since` only leaves out other pieces: a finish is as old as its transaction.
create function :"schema".recent_ends(after bigint, since timestamptz, pages bigint)
returns table (dead bigint, cancelled bigint)
language plpgsql stable set plan_cache_mode = 'force_custom_plan' as $$
declare
  one record;
  low tid;
  found record;
begin
  dead := 0;
  cancelled := 0;
  for one in
    select p.since, p.until, pg_relation_size(p.piece) / current_setting('block_size')::bigint as size
    from :"schema".archive_pieces() p
    where p.kind = 'other' and p.until > recent_ends.since - interval '1 minute' and p.since <= now()
      and pg_relation_size(p.piece) > 0
  loop
    low := format('(%s,0)', greatest(one.size - pages, 0))::tid;
    select count(*) filter (where a.state = 'dead') as dead, count(*) filter (where a.state = 'cancelled') as cancelled
    into found from :"schema".job_archive_other a
    where a.finished_at >= one.since and a.finished_at < one.until and a.ctid >= low and a.seq > after;
    dead := dead + found.dead;
    cancelled := cancelled + found.cancelled;
  end loop;
  return next;
end $$;

-- Whether a worker lives that serves this queue: its row has what it was told, as `mail`, `mail:5`, `*` or `-mail`.
create function :"schema".served(queue text) returns boolean language sql stable
return exists (
  select from :"schema".worker w
  where w.alive_until > now() and w.stopped_at is null and not '-' || served.queue = any(w.queues)
    and exists (select from unnest(w.queues) as told(name) where name = '*' or regexp_replace(name, ':[0-9]+$', '') = served.queue));
