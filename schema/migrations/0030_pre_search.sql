-- Jobs are found by what is in them, and failures are grouped by error.

-- Which failures are alike: those of a task by the same class of error in the same function, in 16 hex digits. The line is left
-- out of `place`, as in `shop/billing.py:88 charge`: every deploy moves lines, and a group must outlive it, for it is what people
-- file a ticket about. As `fingerprint_of` in `base/looking/search.py`. No md5: some servers forbid it. Only what is
-- immutable, or the planner would call it instead of taking it in, which took three times as long; nor a regular expression.
create function :"schema".fingerprint(task text, class text, place text) returns text language sql immutable parallel safe
return left(encode(sha256(decode(replace(task || E'\n' || coalesce(class, '') || E'\n' || coalesce(split_part(place, ':', 1) || ' ' ||
  substr(substr(place, strpos(place, ':') + 1), strpos(substr(place, strpos(place, ':') + 1), ' ') + 1), ' '),
  '\', '\\'), 'escape')), 'hex'), 16);

-- The text of the value at a path, a string without its quotes; null if there is none. JSON that has half a character, or NUL, in
-- whichever of its strings, cannot be looked into: those are taken for characters that nobody can read.
create function :"schema".text_at(document json, path text[]) returns text language plpgsql immutable parallel safe as $$
begin
  return coalesce(document #>> path, (document #> path)::text);
exception when others then
  return coalesce(readable #>> path, (readable #> path)::text)
  from (select regexp_replace(document::text, '(?<!\\)((?:\\\\)*)\\u(0000|[dD][89a-fA-F][0-9a-fA-F]{2})', '\1\\ufffd', 'g')::json as readable) as mended;
end $$;

-- Whether a job is meant by what is in it. `wanted` has any of: `reason`, `key` (without the task), `error` (the class of its last
-- error, with or without the module), `fingerprint`, `args` (pairs of a path, as text of an array, and the text of the value),
-- `text` (a part of the arguments' text, the last error's message, the message of its progress, or the key, in capitals or not)
-- and `escaped` (the same as it stands in JSON). No stored value makes it fail. `***=` makes the rest a text like any other: no
-- character of it is special. By `lower` and `position` it took twice as long.
create function :"schema".job_meant(
  wanted jsonb, task text, reason text, key text, errors jsonb, args json, progress json
) returns boolean language plpgsql immutable parallel safe as $$
declare
  last constant jsonb := errors -> -1;
  class constant text := last ->> 'class';
  pair jsonb;
  part text;
begin
  if wanted ? 'reason' and reason is distinct from wanted ->> 'reason'
    or wanted ? 'key' and substr(key, strpos(key, E'\n') + 1) is distinct from wanted ->> 'key'
    or wanted ? 'error' and right(concat('.', class), char_length(wanted ->> 'error') + 1) is distinct from '.' || (wanted ->> 'error')
    or wanted ? 'fingerprint'
      and :"schema".fingerprint(task, class, last ->> 'code_place') is distinct from wanted ->> 'fingerprint' then
    return false;
  end if;
  for number in 0 .. coalesce(jsonb_array_length(wanted -> 'args'), 0) - 1 loop
    pair := wanted -> 'args' -> number;
    if :"schema".text_at(args, (pair ->> 0)::text[]) is distinct from pair ->> 1 then
      return false;
    end if;
  end loop;
  if wanted ? 'text' then
    part := '***=' || (wanted ->> 'text');
    return args::text ~* part or coalesce(last ->> 'message' ~* part, false)
      or coalesce(substr(key, strpos(key, E'\n') + 1) ~* part, false)
      or progress is not null and coalesce(:"schema".text_at(progress, '{message}') ~* part, false)
      or wanted ? 'escaped' and args::text ~* ('***=' || (wanted ->> 'escaped'));
  end if;
  return true;
exception when others then
  return false;  -- such as JSON that is deeper than this session can follow
end $$;

-- Whether a job is meant by what stands in its columns. A plain expression, which the planner takes apart.
create function :"schema".fits(
  id uuid, state text, queue text, task text, origin text, states text[], in_queue text, of_task text, of_origin text, pattern text
) returns boolean language sql immutable parallel safe
return state = any(states) and (in_queue is null or queue = in_queue) and (of_task is null or task = of_task)
  and (of_origin is null or origin = of_origin) and (pattern is null or id::text like pattern);

-- As look_unfinished, but a job may be meant by what is in it, see job_meant, and as such values may be large no window goes on once
-- `seconds` are over: `edge` is then the last one that there was time for. `seen`: how many jobs stand from there on. Each arm has
-- seconds of its own, or one of them would never get to its first job; the clock is first read when they begin.
create function :"schema".search_unfinished(
  before uuid, room integer, page integer, states text[], in_queue text, of_task text, of_origin text, pattern text,
  wanted jsonb, seconds double precision
) returns table (edge uuid, seen bigint, place uuid, id uuid)
language sql stable set enable_sort = off set enable_bitmapscan = off
set enable_seqscan = off set max_parallel_workers_per_gather = 0 as $$
  with timed as materialized (
    select j.id as place, j.id, case
        when not :"schema".fits(j.id, j.state, j.queue, j.task, j.origin, states, in_queue, of_task, of_origin, pattern) then false
        when clock_timestamp() < (select clock_timestamp() + make_interval(secs => seconds))
          then :"schema".job_meant(wanted, j.task, null, j.key, j.errors, j.args, j.progress) end as meant
    from :"schema".job j
    where j.id < least(before, '04000000-0000-0000-0000-000000000000') order by j.id desc limit room
  ), untimed as materialized (
    select :"schema".place(j.id, j.created_at) as place, j.id, case
        when not :"schema".fits(j.id, j.state, j.queue, j.task, j.origin, states, in_queue, of_task, of_origin, pattern) then false
        when clock_timestamp() < (select clock_timestamp() + make_interval(secs => seconds))
          then :"schema".job_meant(wanted, j.task, null, j.key, j.errors, j.args, j.progress) end as meant
    from :"schema".job j
    where not :"schema".timed(j.id) and :"schema".place(j.id, j.created_at) < before order by 1 desc limit room
  ), jobs as materialized (
    select * from timed t where :"schema".timed(t.id) union all select * from untimed
  ), cut as materialized (
    select b.place from jobs b where b.meant is null order by b.place desc limit 1
  ), reached as materialized (
    select greatest(
      (select t.place from timed t order by t.place desc offset room - 1 limit 1),
      (select u.place from untimed u order by u.place desc offset room - 1 limit 1),
      (select coalesce((select b.place from jobs b where b.place > c.place order by b.place limit 1), before) from cut c)) as edge
  ), found as materialized (
    select b.place, b.id from jobs b cross join reached r
    where b.meant and (r.edge is null or b.place >= r.edge) order by b.place desc limit page
  ), counted as materialized (
    select count(*) as seen from jobs b cross join reached r where r.edge is null or b.place >= r.edge
  )
  select r.edge, n.seen, f.place, f.id from reached r cross join counted n left join found f on true order by f.place desc
$$;

-- The same of one piece, as look_finished in 0011.
create function :"schema".search_finished(
  kind text, since timestamptz, until timestamptz, top uuid, before uuid, floor uuid, room integer, page integer,
  states text[], in_queue text, of_task text, of_origin text, pattern text, payload boolean,
  wanted jsonb, seconds double precision
) returns table (
  edge uuid, seen bigint, more boolean, place uuid, id uuid, task text, queue text, state text, priority smallint, attempt integer,
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
  with jobs as materialized (
    select arm.place, arm.id, arm.meant from (
      (select a.id as place, a.id, case
          when not :"schema".fits(a.id, a.state, a.queue, a.task, a.origin, states, in_queue, of_task, of_origin, pattern) then false
          when clock_timestamp() < (select clock_timestamp() + make_interval(secs => seconds))
            then :"schema".job_meant(wanted, a.task, a.reason, a.key, a.errors, a.args, a.progress) end as meant
      from :"schema".job_archive a
      where a.state = any(half) and a.finished_at >= search_finished.since and a.finished_at < search_finished.until
        and a.id < least(search_finished.before, search_finished.top) and a.id >= search_finished.floor
      order by a.id desc limit search_finished.room)
      union all
      (select behind.place, ahead.id, case
          when not :"schema".fits(ahead.id, ahead.state, ahead.queue, ahead.task, ahead.origin, states, in_queue, of_task, of_origin, pattern) then false
          when clock_timestamp() < (select clock_timestamp() + make_interval(secs => seconds))
            then :"schema".job_meant(wanted, ahead.task, ahead.reason, ahead.key, ahead.errors, ahead.args, ahead.progress) end as meant
      from (
        select overlay(uuid_send(a.id) placing substring(uuid_send(search_finished.top) from 1 for 6) from 1 for 6) as bytes,
          a.*
        from :"schema".job_archive a
        where a.state = any(half) and a.finished_at >= search_finished.since and a.finished_at < search_finished.until
          and a.id >= search_finished.top and a.id < '04000000-0000-0000-0000-000000000000' and :"schema".timed(a.id)
        order by a.id desc limit 20000
      ) as ahead cross join lateral (
        select encode(ahead.bytes, 'hex')::uuid as place
      ) as behind where behind.place < search_finished.before and behind.place >= search_finished.floor)
      union all
      (select :"schema".place(a.id, a.created_at), a.id, case
          when not :"schema".fits(a.id, a.state, a.queue, a.task, a.origin, states, in_queue, of_task, of_origin, pattern) then false
          when clock_timestamp() < (select clock_timestamp() + make_interval(secs => seconds))
            then :"schema".job_meant(wanted, a.task, a.reason, a.key, a.errors, a.args, a.progress) end as meant
      from :"schema".job_archive a
      where a.state = any(half) and a.finished_at >= search_finished.since and a.finished_at < search_finished.until
        and not :"schema".timed(a.id) and :"schema".place(a.id, a.created_at) < search_finished.before
        and :"schema".place(a.id, a.created_at) >= search_finished.floor
      order by 1 desc limit search_finished.room)
    ) as arm order by arm.place desc limit search_finished.room
  ), cut as materialized (
    select s.place from jobs s where s.meant is null order by s.place desc limit 1
  ), reached as materialized (
    select greatest(
      (select s.place from jobs s order by s.place desc offset search_finished.room - 1 limit 1),
      (select coalesce((select s.place from jobs s where s.place > c.place order by s.place limit 1), search_finished.before)
        from cut c)) as place
  ), found as materialized (
    select s.place, s.id from jobs s cross join reached r
    where s.meant and (:"schema".timed(s.id) or s.id <> s.place) and (r.place is null or s.place >= r.place)
    order by s.place desc limit search_finished.page
  ), counted as materialized (
    select count(*) as seen from jobs s cross join reached r
    where (:"schema".timed(s.id) or s.id <> s.place) and (r.place is null or s.place >= r.place)
  )
  select r.place, n.seen, exists (
      select from :"schema".job_archive a
      where a.state = any(half) and a.finished_at >= search_finished.since and a.finished_at < search_finished.until
        and a.id < least(coalesce(r.place, search_finished.floor), search_finished.top))
    or search_finished.top < coalesce(r.place, search_finished.floor) and exists (
      select from :"schema".job_archive a
      where a.state = any(half) and a.finished_at >= search_finished.since and a.finished_at < search_finished.until
        and a.id >= search_finished.top and a.id < '04000000-0000-0000-0000-000000000000' and :"schema".timed(a.id))
    or exists (
      select from :"schema".job_archive a
      where a.state = any(half) and a.finished_at >= search_finished.since and a.finished_at < search_finished.until
        and not :"schema".timed(a.id) and :"schema".place(a.id, a.created_at) < coalesce(r.place, search_finished.floor)),
    f.place, j.id, j.task, j.queue, j.state, j.priority, j.attempt, j.max_attempts, j.crashes, j.lost, j.due_at, j.created_at,
    j.claimed_at, j.finished_at, j.timeout, j.deadline, j.expires_at, j.origin, j.worker_id, null::timestamptz,
    null::timestamptz, j.key, j.bundle_id, j.reason, j.errors::text, case when payload then j.args::text end,
    case when payload then j.result::text end, j.meta::text, j.progress::text, now()
  from reached r cross join counted n left join found f on true
  left join lateral (
    select a.* from :"schema".job_archive a
    where a.id = f.id and a.state = any(half) and a.finished_at >= search_finished.since
      and a.finished_at < search_finished.until limit 1
  ) as j on true
  order by f.place desc;
end $$;

-- For those who change jobs: only ids, the oldest first, as find_unfinished and find_finished in 0009.
create function :"schema".seek_unfinished(
  after uuid, room integer, page integer, states text[], in_queue text, of_task text, of_origin text, wanted jsonb,
  seconds double precision
) returns table (edge uuid, id uuid)
language sql stable set enable_sort = off set enable_bitmapscan = off
set enable_seqscan = off set max_parallel_workers_per_gather = 0 as $$
  with jobs as materialized (
    select j.id, case
        when not :"schema".fits(j.id, j.state, j.queue, j.task, j.origin, states, in_queue, of_task, of_origin, null) then false
        when clock_timestamp() < (select clock_timestamp() + make_interval(secs => seconds))
          then :"schema".job_meant(wanted, j.task, null, j.key, j.errors, j.args, j.progress) end as meant
    from :"schema".job j where j.id > after order by j.id limit room
  ), cut as materialized (
    select b.id from jobs b where b.meant is null order by b.id limit 1
  ), reached as materialized (
    select least(
      (select b.id from jobs b order by b.id offset room - 1 limit 1),
      (select coalesce((select b.id from jobs b where b.id < c.id order by b.id desc limit 1), after) from cut c)) as edge
  ), found as materialized (
    select b.id from jobs b cross join reached r
    where b.meant and (r.edge is null or b.id <= r.edge) order by b.id limit page
  )
  select r.edge, f.id from reached r left join found f on true order by f.id
$$;

create function :"schema".seek_finished(
  kind text, since timestamptz, until timestamptz, after uuid, room integer, page integer,
  states text[], in_queue text, of_task text, of_origin text, wanted jsonb, seconds double precision
) returns table (edge uuid, id uuid)
language plpgsql stable set plan_cache_mode = 'force_custom_plan' set enable_sort = off set enable_bitmapscan = off
set enable_seqscan = off set max_parallel_workers_per_gather = 0 as $$
#variable_conflict use_column
declare
  half constant text[] := case kind when 'completed' then array['completed'] else array['cancelled', 'dead'] end;
begin
  return query
  with jobs as materialized (
    select a.id, case
        when not :"schema".fits(a.id, a.state, a.queue, a.task, a.origin, states, in_queue, of_task, of_origin, null) then false
        when clock_timestamp() < (select clock_timestamp() + make_interval(secs => seconds))
          then :"schema".job_meant(wanted, a.task, a.reason, a.key, a.errors, a.args, a.progress) end as meant
    from :"schema".job_archive a
    where a.state = any(half) and a.finished_at >= seek_finished.since and a.finished_at < seek_finished.until
      and a.id > seek_finished.after
    order by a.id limit seek_finished.room
  ), cut as materialized (
    select b.id from jobs b where b.meant is null order by b.id limit 1
  ), reached as materialized (
    select least(
      (select b.id from jobs b order by b.id offset seek_finished.room - 1 limit 1),
      (select coalesce((select b.id from jobs b where b.id < c.id order by b.id desc limit 1), seek_finished.after)
        from cut c)) as edge
  ), found as materialized (
    select b.id from jobs b cross join reached r
    where b.meant and (r.edge is null or b.id <= r.edge) order by b.id limit seek_finished.page
  )
  select r.edge, f.id from reached r left join found f on true order by f.id;
end $$;

-- The latest `room` dead jobs, or fewer if `pages` are read or `seconds` are over, with the class and the place of their last error;
-- and one row without an id if there are no more. Dead jobs stand in their piece about in the order in which they ended, so it is
-- read from its end: by ids, one that was deferred long before it died would never be among them. A range of ctid needs its bounds
-- as values, see recent_ends in 0009. The clock is looked at once more for each job: errors may be large.
create function :"schema".recent_dead(room bigint, pages bigint, seconds double precision)
returns table (id uuid, queue text, task text, reason text, class text, place text, finished_at timestamptz)
language plpgsql stable set plan_cache_mode = 'force_custom_plan' set max_parallel_workers_per_gather = 0 as $$
#variable_conflict use_column
declare
  late constant timestamptz := clock_timestamp() + make_interval(secs => seconds);
  one record;
  low bigint;
  high bigint;
  found_now bigint;
begin
  for one in
    select p.since, p.until, pg_relation_size(p.piece) / current_setting('block_size')::bigint as size
    from :"schema".archive_pieces() p
    where p.kind = 'other' and p.since <= now() and pg_relation_size(p.piece) > 0
    order by p.until desc
  loop
    high := one.size;
    while high > 0 loop
      if room <= 0 or pages <= 0 or clock_timestamp() >= late then
        return;
      end if;
      low := greatest(high - 64, 0);
      return query
      select d.id, d.queue, d.task, d.reason, l.last ->> 'class', l.last ->> 'code_place', d.finished_at
      from (
        select a.id, a.queue, a.task, a.reason, a.errors, a.finished_at from :"schema".job_archive_other a
        where a.finished_at >= one.since and a.finished_at < one.until and a.state = 'dead'
          and a.ctid >= format('(%s,0)', low)::tid and a.ctid < format('(%s,0)', high)::tid
        order by a.ctid desc limit room
      ) as d cross join lateral (
        select case when clock_timestamp() < late then coalesce(d.errors -> -1, 'null') end as last offset 0
      ) as l where l.last is not null;
      get diagnostics found_now = row_count;
      room := room - found_now;
      pages := pages - (high - low);
      high := low;
    end loop;
  end loop;
  if room > 0 and clock_timestamp() < late then
    return next;
  end if;
end $$;
