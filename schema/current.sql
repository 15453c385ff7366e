-- The whole schema as the migrations make it. Written by `make schema-snapshot`; never edit it.

CREATE SCHEMA jobqueue;

CREATE FUNCTION jobqueue.admit(room integer, horizon double precision, OUT admitted integer, OUT ready integer, OUT busy boolean, OUT next_in double precision, OUT any_limit boolean, OUT by_limit text) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
#variable_conflict use_column
-- `(select ...)` hides how long an array is: the planner expects ten rows then, and probes for each, see promote_due
declare
  moment constant timestamptz := clock_timestamp();
  paused text[];
  behind text[];
  named text[];
  mine text[];
  had integer[];
  fits integer[];
  places integer[];
  tokens integer[];
  ahead double precision[];
  every double precision[];
  grace double precision[];
  slack double precision[];
  ordered boolean[];
  counts integer[];
  woken record;
begin
  admitted := 0;
  ready := 0;
  busy := false;
  any_limit := exists (select from "jobqueue"."limit");
  paused := array(select q.name from "jobqueue".queue q
    where q.paused_at is not null and (q.resume_at is null or q.resume_at > moment));
  if cardinality(paused) > 0 then
    -- who cannot start lines up anew: others may need the places
    update "jobqueue".job j set passed = j.keeps, state = 'blocked', gate = j.gates[j.keeps + 1], token_until = null
    where j.id = any(array(
      select found.id from unnest((select paused)) as p(queue)
      cross join lateral (
        select j.id from "jobqueue".job j
        where j.state = 'ready' and j.passed > 0 and j.queue = p.queue and j.passed > j.keeps and j.keeps < cardinality(j.gates)
        limit 500 for update skip locked) as found));
  end if;
  -- all gates of a limit that was changed: named now, since whoever comes while a change is not committed is told by the old one
  with told as (
    delete from "jobqueue".gate_note where ctid = any(array(
      select n.ctid from "jobqueue".gate_note n where n.gate >= chr(10) and n.gate < chr(11) limit 100 for update skip locked))
    returning gate
  )
  insert into "jobqueue".gate_note (gate)
  select l.gate from (select distinct substr(gate, 2) as name from told) as t cross join lateral "jobqueue".gates_in_line(t.name) as l(gate);
  named := array(
    select distinct n.gate from (
      select n.gate from "jobqueue".gate_note n
      where n.due_at <= moment and n.gate not like E'\n%' order by n.due_at limit room) as n
    order by n.gate);
  if cardinality(named) > 0 then
    insert into "jobqueue".gate (name, "limit")
    select n.name, split_part(ltrim(n.name, '~'), E'\n', 1) from unnest((select named)) as n(name)
    where not exists (select from "jobqueue".gate g where g.name = n.name)
    order by n.name
    on conflict on constraint gate_pkey do nothing;
    mine := array(
      select g.name from unnest((select named)) as n(name)
      cross join lateral (select g.name from "jobqueue".gate g where g.name = n.name for update skip locked) as g);
    busy := cardinality(mine) < cardinality(named);
    -- queues whose jobs did not start in time: more of them would only come too late as well
    behind := array(
      with recursive late as (
        (select j.queue from "jobqueue".job j
        where j.state = 'ready' and j.passed > 0 and j.token_until < moment order by j.queue limit 1)
        union all
        select (select j.queue from "jobqueue".job j
          where j.state = 'ready' and j.passed > 0 and j.token_until < moment and j.queue > l.queue order by j.queue limit 1)
        from late l where l.queue is not null
      )
      select l.queue from late l where l.queue is not null) || paused;

    with old as materialized (
      select n.place from unnest((select mine)) as m(name)
      cross join lateral (select n.ctid as place from "jobqueue".gate_note n where n.gate = m.name limit 5000) as n
      limit 10000
    ), gone as (
      delete from "jobqueue".gate_note where ctid = any(array(select place from old)) returning gate, freed
    ), folded as materialized (
      select f.name, sum(f.freed)::integer as freed
      from (select m.name, 0 as freed from unnest((select mine)) as m(name) union all select gate, freed from gone) as f
      group by f.name
    ), known as materialized (
      select f.name, g.held - f.freed as held, greatest(date_part('epoch', g.tat - moment), 0) as ahead,
        date_part('epoch', moment - g.used_at) as unused,
        case when f.name like '~%' then case when l.name is null and f.name not like '~fair:%' then 0 end
          when l.name is null then 0 else l.concurrency - (g.held - f.freed) end as places,
        least(1, l.per / 10) as slack, "jobqueue".pace(l.count, l.per, l.burst) as every, l.burst, coalesce(l.ordered, false) as ordered
      from folded f
      cross join lateral (select * from "jobqueue".gate g where g.name = f.name offset 0) as g
      left join lateral (select * from "jobqueue"."limit" l where l.name = g."limit" offset 0) as l on true
    ), timed as materialized (
      select k.*, case when k.every is not null
        then greatest(0, least(500, floor((horizon + k.grace - k.near) / k.every) + 1))::integer end as tokens
      from (
        -- no further ahead than this rate could have got it when it was last used: it may have been a slower one then
        select k.*, k.every * (k.burst - 1) as grace,
          greatest(0, least(k.ahead, horizon + k.every * k.burst - k.unused)) as near from known k) as k
    )
    select array_agg(t.name order by t.name), array_agg(t.held order by t.name),
      array_agg(greatest(0, least(500, t.places, t.tokens)) order by t.name), array_agg(t.places order by t.name),
      array_agg(t.tokens order by t.name), array_agg(t.near order by t.name), array_agg(t.every order by t.name),
      array_agg(t.grace order by t.name), array_agg(t.slack order by t.name), array_agg(t.ordered order by t.name)
    into mine, had, fits, places, tokens, ahead, every, grace, slack, ordered
    from timed t;

    with line as materialized (
      select o.place, o.name, o.ahead, o.every, o.grace, o.slack, o.ordered, j.id, j.queue, j.priority, j.seq
      from unnest((select mine), (select fits), (select ahead), (select every), (select grace), (select slack), (select ordered)) with ordinality
        as o(name, fit, ahead, every, grace, slack, ordered, place)
      cross join lateral (
        select j.id, j.queue, j.priority, j.seq from (
          select j.id, j.queue from "jobqueue".job j
          where j.state = 'blocked' and j.gate is not null and j.gate = o.name
          order by j.priority desc, j.seq limit o.fit + 20000
        ) as w
        cross join lateral (
          select j.id, j.queue, j.priority, j.seq from "jobqueue".job j
          -- in words that fit no index but that of the ids: else the whole line was read for each
          where j.id = w.id and j.state || '' = 'blocked' and j.gate || '' = o.name
            and j.queue <> all(case when o.every is null then paused else behind end)
          for update skip locked
        ) as j
        where w.queue <> all(case when o.every is null then paused else behind end)
        limit o.fit
      ) as j
      where o.fit > 0
      limit 2000  -- the gates are locked meanwhile
    ), numbered as materialized (
      select l.*, row_number() over (partition by l.name order by l.priority desc, l.seq) - 1 as number from line l
    ), heads as materialized (
      -- the place of who is next in the line that is ready: nobody is given one before that
      select n.name, greatest(g.tag, coalesce(head.seq, pg_sequence_last_value('"jobqueue".job_seq'))) as tag
      from (select name, queue, priority from numbered where number = 0 and name like '~fair:%') as n
      cross join lateral (select g.tag from "jobqueue".gate g where g.name = n.name offset 0) as g
      left join lateral (
        select j.seq from "jobqueue".job j
        where j.state = 'ready' and j.crashes = 0 and j.queue = n.queue and j.priority = n.priority
        order by j.seq limit 1) as head on true
    ), given as materialized (
      select n.id, n.name, n.slack, n.ordered,
        case when n.every is not null then moment + make_interval(secs => greatest(0, n.ahead + n.number * n.every - n.grace)) end as start,
        case when n.name like '~fair:%' then (select h.tag from heads h where h.name = n.name) + n.number + 1 end as tag
      from numbered n
    ), moved as (
      update "jobqueue".job j
      set passed = j.passed + 1, gate = j.gates[j.passed + 2],
        keeps = case when m.ordered and j.keeps = j.passed then j.passed + 1 else j.keeps end,
        due_at = coalesce(m.start, j.due_at), token_until = coalesce(m.start + make_interval(secs => m.slack), j.token_until),
        state = case when j.passed + 1 < cardinality(j.gates) then 'blocked'
          when coalesce(m.start, case when j.token_until is not null then j.due_at end) > moment + interval '1 ms' then 'scheduled' else 'ready' end,
        seq = case when m.tag is not null then m.tag
          when j.passed + 1 < cardinality(j.gates) or m.start is not null then j.seq else nextval('"jobqueue".job_seq') end
      from unnest(array(select id from given), array(select start from given), array(select tag from given),
        array(select slack from given), array(select ordered from given)) as m(id, start, tag, slack, ordered)
      where j.id = m.id
      returning j.queue, j.state, case when j.state = 'scheduled' then j.due_at end as due
    ), told as materialized (
      select "jobqueue".wake(queue, min(due), false) from moved where state <> 'blocked' group by queue, due is null
    ), counted as materialized (
      select c.name, max(c.place) as place, sum(c.one)::integer as number, max(c.tag) as tag
      from (
        select m.name, m.place, 0 as one, null::bigint as tag from unnest((select mine)) with ordinality as m(name, place)
        union all select name, 0, 1, tag from given) as c
      group by c.name
    ), kept as (
      update "jobqueue".gate g
      set held = case when g.name like '~%' then 0 else c.held + c.number end, tag = coalesce(c.tag, g.tag), used_at = moment,
        tat = case when c.every is not null and c.number > 0
          then moment + make_interval(secs => c.ahead + c.number * c.every) else g.tat end
      from unnest(array(select name from counted order by place), array(select number from counted order by place),
        array(select tag from counted order by place), (select had), (select ahead), (select every)) as c(name, number, tag, held, ahead, every)
      where g.name = c.name and (g.held <> c.held + c.number or c.number > 0 and g.name like '~%' or c.number > 0 and c.every is not null)
    )
    select array(select number from counted order by place), coalesce((select sum(number) from counted), 0),
      (select count(*) from moved where state = 'ready') + 0 * (select count(*) from told),
      (select json_object_agg(s.name, s.number)::text from (
        select split_part(ltrim(name, '~'), E'\n', 1) as name, sum(number) as number from counted where number > 0 group by 1) as s)
    into counts, admitted, ready, by_limit;

    insert into "jobqueue".gate_note (gate, due_at)
    select n.name, n.due from (
      select m.name, case
          -- who is there is locked, or his queue is paused; or it was too much for one look
          when m.number < m.fit then moment + case when admitted < 2000 then interval '1 s' else '0' end
          when m.places <= m.number then null  -- whoever gives a place up will say so
          when m.tokens <= m.number and m.tokens < 500
            then moment + make_interval(secs => greatest(0.01, m.ahead + m.number * m.every - m.grace - horizon))
          else moment end as due
      from unnest((select mine), (select fits), (select counts), (select places), (select tokens), (select ahead), (select every), (select grace))
        as m(name, fit, number, places, tokens, ahead, every, grace)) as n
    cross join lateral (
      select from "jobqueue".job j where j.state = 'blocked' and j.gate is not null and j.gate = n.name limit 1) as somebody
    where n.due is not null;
  end if;
  next_in := date_part('epoch', (select min(n.due_at) from "jobqueue".gate_note n) - clock_timestamp());
end $$;

CREATE FUNCTION jobqueue.and_gone(leaf text) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
  select format(
    ', gone as (
       delete from %1$I.%2$I where ctid = any(array(select place from old))
       returning bundle_id, id, task, case when bundle_id is not null then result end as result, follow
     ), members as materialized (
       select * from gone where bundle_id is not null and result is not null and follow & 4 = 0
     ), needed as materialized (
       select n.id from %1$I.needed_bundles(array(select distinct bundle_id from members)) as n(id)
     ), kept as (
       insert into %1$I.node (bundle_id, job_id, task, outcome, result, kept)
       select m.bundle_id, m.id, m.task, ''completed'', m.result, true from members m
       where m.bundle_id = any(array(select id from needed)) order by m.bundle_id, m.id
       on conflict on constraint node_pkey do update set outcome = excluded.outcome, result = excluded.result, kept = true
     )', 'jobqueue', leaf)
$_$;

CREATE FUNCTION jobqueue.archive_pieces() RETURNS TABLE(piece oid, leaf text, kind text, since timestamp with time zone, until timestamp with time zone)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET "DateStyle" TO 'ISO'
    AS $_$
  select piece, leaf, kind, bounds[1]::timestamptz, bounds[2]::timestamptz
  from (
    select c.oid as piece, c.relname::text as leaf,
      case i.inhparent when '"jobqueue".job_archive_completed'::regclass then 'completed' else 'other' end as kind,
      regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''([^'']+)''\) TO \(''([^'']+)''\)') as bounds
    from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent in ('"jobqueue".job_archive_completed'::regclass, '"jobqueue".job_archive_other'::regclass)
      and c.relname ~ '_[0-9]{8}$'
  ) as found
  where bounds is not null
$_$;

CREATE FUNCTION jobqueue.await_standby() RETURNS boolean
    LANGUAGE sql
    RETURN ((current_setting('synchronous_standby_names'::text) <> ''::text) AND (pg_logical_emit_message(true, 'jobqueue'::text, ''::text) IS NOT NULL));

COMMENT ON FUNCTION jobqueue.await_standby() IS 'Makes this commit wait for the standby, though nothing else was written.';

CREATE FUNCTION jobqueue.count_archive(pages integer) RETURNS TABLE(leaf text, queue text, state text, jobs bigint, exact boolean)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
declare
  day record;
begin
  for day in
    select c.relname, pg_relation_size(c.oid) / current_setting('block_size')::bigint as size
    from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent in ('"jobqueue".job_archive_completed'::regclass, '"jobqueue".job_archive_other'::regclass)
      and pg_relation_size(c.oid) > 0
  loop
    begin
      if day.size <= pages then
        return query execute format(
          'select %L, a.queue::text, a.state::text, count(*), true from %I.%I a group by a.queue, a.state',
          day.relname, 'jobqueue', day.relname);
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
          day.relname, 'jobqueue', day.relname) using day.size, pages;
      end if;
    exception when undefined_table then
      null;  -- dropped since
    end;
  end loop;
end $_$;

CREATE FUNCTION jobqueue.count_seconds(leaf text, first bigint, pages integer) RETURNS TABLE(queue text, second timestamp with time zone, jobs bigint)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
begin
  if not exists (
    select from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent in ('"jobqueue".job_archive_completed'::regclass, '"jobqueue".job_archive_other'::regclass)
      and c.relname = leaf
  ) then
    return;
  end if;
  return query execute format(
    'select a.queue::text, date_trunc(''second'', a.finished_at), count(*)
     from %1$I.%2$I a join %1$I.queue q on q.name = a.queue
     where a.ctid >= $1 and a.ctid < $2
       and case a.state when ''completed'' then q.most_completed else q.most_other end is not null
     group by 1, 2', 'jobqueue', leaf)
    using format('(%s,0)', first)::tid, format('(%s,0)', first + pages)::tid;
end $_$;

CREATE FUNCTION jobqueue.defer(task text, args text DEFAULT '{}'::text, queue text DEFAULT 'default'::text, priority integer DEFAULT 0, delay double precision DEFAULT 0, at timestamp with time zone DEFAULT NULL::timestamp with time zone, max_attempts integer DEFAULT 20, timeout double precision DEFAULT NULL::double precision, origin text DEFAULT NULL::text, meta text DEFAULT NULL::text, id text DEFAULT NULL::text, limits text DEFAULT NULL::text) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  job_id uuid;
  due timestamptz;
  waits boolean;
  gates text[];
  said json := case json_typeof(defer.limits::json) when 'array' then defer.limits::json else '[null]' end;
  fault text := case
    when char_length(defer.task) between 1 and 100 is not true then 'task: must have 1 to 100 characters'
    when char_length(defer.queue) between 1 and 100 is not true then 'queue: must have 1 to 100 characters'
    when defer.queue = '*' then 'queue: * means all queues of a worker; a job goes to one, by name'
    when not char_length(defer.origin) between 1 and 100 then 'origin: must have 1 to 100 characters'
    when defer.priority between -32768 and 32767 is not true then 'priority: must be from -32768 to 32767'
    when defer.max_attempts between 1 and 32767 is not true then 'max_attempts: must be from 1 to 32767'
    when not defer.delay between 0 and 316224000 then 'delay: must be between 0 seconds and ten years'
    when not (defer.timeout > 0 and defer.timeout <= 316224000) then 'timeout: must be above 0 seconds, and at most ten years'
    when not defer.at between '1970-01-01 00:00+00' and '3000-01-01 00:00+00' then 'at: must be between the years 1970 and 3000'
  end;
begin
  if fault is not null then
    raise exception '%', fault using errcode = 'invalid_parameter_value';
  end if;
  job_id := coalesce(defer.id::uuid, "jobqueue".new_id());
  due := coalesce(defer.at, clock_timestamp() + make_interval(secs => coalesce(defer.delay, 0)));
  waits := due > clock_timestamp();
  if defer.limits is not null then
    gates := array(
      select case when l.declared ->> 'concurrency' is null then '~' else '' end || l.name || coalesce(E'\n' || g.key, '')
      from (
        select e.place, case json_typeof(e.said) when 'string' then e.said #>> '{}' when 'array' then e.said ->> 0 end as name,
          case json_typeof(e.said) when 'array' then e.said ->> 1 end as key
        from json_array_elements(said) with ordinality as e(said, place)) as g
      join "jobqueue"."limit" l on l.name = g.name where char_length(coalesce(g.key, 'k')) between 1 and 200
      order by l.declared ->> 'count' is not null, not l.ordered, g.key is null, l.name limit 5);
    if cardinality(gates) > 4 or cardinality(gates) <> json_array_length(said) then
      raise exception 'limits: must be a JSON array of at most 4 limits that a worker has declared, each as "name" or ["name", "key"]'
        using errcode = 'invalid_parameter_value';
    end if;
    gates := nullif(gates, '{}');
  end if;
  insert into "jobqueue".job
    (id, queue, task, args, priority, state, due_at, max_attempts, timeout, origin, via, meta, gates, gate)
  values
    (job_id, defer.queue, defer.task, defer.args::json, defer.priority, case when waits then 'scheduled' when gates is not null then 'blocked' else 'ready' end,
     due, defer.max_attempts, defer.timeout, defer.origin, 'defer', defer.meta::json, gates, case when not waits then gates[1] end)
  on conflict on constraint job_pkey do nothing;
  if not found then
    perform "jobqueue".await_standby();
    return job_id;
  end if;
  if defer.id is not null then
    -- after the insert, with a newer snapshot: it may have run in between
    perform from "jobqueue".job_archive a where a.id = job_id;
    if found then
      delete from "jobqueue".job j where j.id = job_id;
      return job_id;
    end if;
  end if;
  perform "jobqueue".wake(defer.queue, case when waits or gates is not null then due end, true);
  return job_id;
end $$;

CREATE FUNCTION jobqueue.drop_archive(leaf text, wait boolean) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '100ms'
    AS $_$
declare
  parent text := (select case p.kind when 'event' then 'event' else 'job_archive_' || p.kind end
    from (select * from "jobqueue".archive_pieces() union all select * from "jobqueue".event_pieces()) as p
    where p.leaf = drop_archive.leaf and p.until <= now() - interval '1 day');
begin
  if parent is null then
    return false;
  end if;
  execute format('lock table only %I.%I in access exclusive mode %s',
    'jobqueue', parent, case when not wait then 'nowait' end);
  execute format('lock table only %I.%I in access exclusive mode nowait', 'jobqueue', leaf);
  if parent = 'event' then
    execute format('update %1$I.event_floor set seq = greatest(seq, (select max(e.seq) from %1$I.%2$I e))', 'jobqueue', leaf);
  end if;
  execute format('drop table %I.%I', 'jobqueue', leaf);
  return true;
exception when lock_not_available or undefined_table then
  return false;  -- in use, or dropped by another just now
end $_$;

CREATE FUNCTION jobqueue.event_edge() RETURNS TABLE(edge bigint, writers text[])
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  edge := (select case when is_called then last_value else 0 end from "jobqueue".event_seq);
  writers := array(
    select distinct l.virtualtransaction from pg_locks l
    where l.locktype = 'advisory' and l.classid = ('27249')::oid and l.objsubid = 2
      and l.objid = (('-877230771')::bigint & 4294967295)::oid
      and l.database = (select d.oid from pg_database d where d.datname = current_database()));
  return next;
end $$;

CREATE SEQUENCE jobqueue.event_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE TABLE jobqueue.event (
    seq bigint DEFAULT nextval('jobqueue.event_seq'::regclass) NOT NULL,
    at timestamp with time zone DEFAULT now() NOT NULL,
    type text NOT NULL COLLATE pg_catalog."C",
    task text,
    queue text COLLATE pg_catalog."C",
    origin text,
    bundle_id uuid,
    jobs uuid[],
    attempts integer[],
    error text,
    reason text,
    data json
)
PARTITION BY RANGE (at);
ALTER TABLE ONLY jobqueue.event ALTER COLUMN jobs SET STORAGE EXTERNAL;
ALTER TABLE ONLY jobqueue.event ALTER COLUMN attempts SET STORAGE EXTERNAL;

CREATE FUNCTION jobqueue.event_page(first bigint, last bigint, room bigint) RETURNS SETOF jobqueue.event
    LANGUAGE sql STABLE
    SET enable_sort TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_seqscan TO 'off'
    SET max_parallel_workers_per_gather TO '0'
    AS $$
  select * from "jobqueue".event e where e.seq >= first and e.seq <= last order by e.seq limit room
$$;

CREATE FUNCTION jobqueue.event_page_back(before bigint, since timestamp with time zone, room bigint) RETURNS SETOF jobqueue.event
    LANGUAGE sql STABLE
    SET enable_sort TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_seqscan TO 'off'
    SET max_parallel_workers_per_gather TO '0'
    AS $$
  select * from "jobqueue".event e where e.seq < before and e.at >= since order by e.seq desc limit room
$$;

CREATE FUNCTION jobqueue.event_pieces() RETURNS TABLE(piece oid, leaf text, kind text, since timestamp with time zone, until timestamp with time zone)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET "DateStyle" TO 'ISO'
    AS $_$
  select piece, leaf, 'event', bounds[1]::timestamptz, bounds[2]::timestamptz
  from (
    select c.oid as piece, c.relname::text as leaf,
      regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''([^'']+)''\) TO \(''([^'']+)''\)') as bounds
    from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = '"jobqueue".event'::regclass and c.relname ~ '_[0-9]{8}$'
  ) as found
  where bounds is not null
$_$;

CREATE FUNCTION jobqueue.extend_archive(days integer) RETURNS integer
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select "jobqueue".extend_archive(days, 1, 1)
$$;

CREATE FUNCTION jobqueue.extend_archive(days integer, completed integer, other integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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
  perform pg_advisory_xact_lock('27249', '2060614640');
  foreach half in array array['completed', 'other'] loop
    span := least(greatest(case half when 'completed' then completed else other end, 1), 366);
    day := today - 1;
    while day <= last loop
      next := (select (p.until at time zone 'UTC')::date from "jobqueue".archive_pieces() p
        where p.kind = half and p.since <= day::timestamp at time zone 'UTC' and p.until > day::timestamp at time zone 'UTC');
      if next is null then
        next := least(day + span - mod(day - date '1970-01-01', span),
          (select min((p.since at time zone 'UTC')::date) from "jobqueue".archive_pieces() p
            where p.kind = half and p.since > day::timestamp at time zone 'UTC'));
        leaf := format('job_archive_%s_%s', half, to_char(day, 'YYYYMMDD'));
        execute format('create table %I.%I (like %I.%I including defaults including constraints)',
          'jobqueue', leaf, 'jobqueue', 'job_archive_' || half);
        execute format('alter table %I.%I replica identity full', 'jobqueue', leaf);
        -- The check spares ATTACH a scan; it goes again at once, the partition's own bound says the same.
        execute format('alter table %I.%I add constraint bound check (finished_at >= %L and finished_at < %L)',
          'jobqueue', leaf, day || ' 00:00+00', next || ' 00:00+00');
        execute format('alter table %I.%I attach partition %I.%I for values from (%L) to (%L)',
          'jobqueue', 'job_archive_' || half, 'jobqueue', leaf, day || ' 00:00+00', next || ' 00:00+00');
        execute format('alter table %I.%I drop constraint bound', 'jobqueue', leaf);
        made := made + 1;
      end if;
      day := next;
    end loop;
  end loop;
  return made + "jobqueue".extend_events(days);
end $$;

CREATE FUNCTION jobqueue.extend_events(days integer) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  today constant date := (now() at time zone 'UTC')::date;
  day date;
  leaf text;
  made integer := 0;
begin
  for day in
    select d::date from generate_series(today - 1, today + least(greatest(days, 0), 31), interval '1 day') as d
    where not exists (select from "jobqueue".event_pieces() p where p.since = d::timestamp at time zone 'UTC')
  loop
    leaf := 'event_' || to_char(day, 'YYYYMMDD');
    execute format('create table %I.%I (like %I.event including defaults including storage)', 'jobqueue', leaf, 'jobqueue');
    execute format('alter table %I.event attach partition %I.%I for values from (%L) to (%L)',
      'jobqueue', 'jobqueue', leaf, day || ' 00:00+00', (day + 1) || ' 00:00+00');
    made := made + 1;
  end loop;
  return made;
end $$;

CREATE FUNCTION jobqueue.find_finished(kind text, since timestamp with time zone, until timestamp with time zone, after uuid, room integer, page integer, states text[], in_queue text, of_task text, of_origin text) RETURNS TABLE(edge uuid, id uuid)
    LANGUAGE plpgsql STABLE
    SET plan_cache_mode TO 'force_custom_plan'
    SET enable_sort TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_seqscan TO 'off'
    SET max_parallel_workers_per_gather TO '0'
    AS $$
#variable_conflict use_column
declare
  half constant text[] := case kind when 'completed' then array['completed'] else array['cancelled', 'dead'] end;
begin
  return query
  with seen as materialized (
    select a.id, a.state, a.queue, a.task, a.origin from "jobqueue".job_archive a
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

CREATE FUNCTION jobqueue.find_unfinished(after uuid, room integer, page integer, states text[], in_queue text, of_task text, of_origin text) RETURNS TABLE(edge uuid, id uuid)
    LANGUAGE sql STABLE
    SET enable_sort TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_seqscan TO 'off'
    SET max_parallel_workers_per_gather TO '0'
    AS $$
  with seen as materialized (
    select j.id, j.state, j.queue, j.task, j.origin from "jobqueue".job j where j.id > after order by j.id limit room
  ), found as materialized (
    select s.id from seen s
    where s.state = any(states) and (in_queue is null or s.queue = in_queue) and (of_task is null or s.task = of_task)
      and (of_origin is null or s.origin = of_origin)
    order by s.id limit page
  )
  select (select s.id from seen s order by s.id offset room - 1 limit 1), f.id
  from (select) as always left join found f on true order by f.id
$$;

CREATE FUNCTION jobqueue.fingerprint(task text, class text, place text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN "left"(encode(sha256(decode(replace(((((task || '
'::text) || COALESCE(class, ''::text)) || '
'::text) || COALESCE(((split_part(place, ':'::text, 1) || ' '::text) || substr(substr(place, (strpos(place, ':'::text) + 1)), (strpos(substr(place, (strpos(place, ':'::text) + 1)), ' '::text) + 1))), ' '::text)), '\'::text, '\\'::text), 'escape'::text)), 'hex'::text), 16);

CREATE FUNCTION jobqueue.fits(id uuid, state text, queue text, task text, origin text, states text[], in_queue text, of_task text, of_origin text, pattern text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ((state = ANY (states)) AND ((in_queue IS NULL) OR (queue = in_queue)) AND ((of_task IS NULL) OR (task = of_task)) AND ((of_origin IS NULL) OR (origin = of_origin)) AND ((pattern IS NULL) OR ((id)::text ~~ pattern)));

CREATE FUNCTION jobqueue.gates_in_line("limit" text) RETURNS SETOF text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_sort TO 'off'
    AS $$
  with recursive line as (
    select (
        select j.gate from "jobqueue".job j where j.state = 'blocked' and j.gate is not null and j.gate >= p.name and j.gate < p.name || chr(11)
        order by j.gate limit 1) as gate, p.name || chr(11) as upto
    from (values ("limit"), ('~' || "limit")) as p(name)
    union all
    select (
        select j.gate from "jobqueue".job j where j.state = 'blocked' and j.gate is not null and j.gate > l.gate and j.gate < l.upto
        order by j.gate limit 1), l.upto
    from line l where l.gate is not null
  )
  select gate from line where gate is not null
$$;

CREATE FUNCTION jobqueue.job_meant(wanted jsonb, task text, reason text, key text, errors jsonb, args json, progress json) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE
    AS $$
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
      and "jobqueue".fingerprint(task, class, last ->> 'code_place') is distinct from wanted ->> 'fingerprint' then
    return false;
  end if;
  for number in 0 .. coalesce(jsonb_array_length(wanted -> 'args'), 0) - 1 loop
    pair := wanted -> 'args' -> number;
    if "jobqueue".text_at(args, (pair ->> 0)::text[]) is distinct from pair ->> 1 then
      return false;
    end if;
  end loop;
  if wanted ? 'text' then
    part := '***=' || (wanted ->> 'text');
    return args::text ~* part or coalesce(last ->> 'message' ~* part, false)
      or coalesce(substr(key, strpos(key, E'\n') + 1) ~* part, false)
      or progress is not null and coalesce("jobqueue".text_at(progress, '{message}') ~* part, false)
      or wanted ? 'escaped' and args::text ~* ('***=' || (wanted ->> 'escaped'));
  end if;
  return true;
exception when others then
  return false;  -- such as JSON that is deeper than this session can follow
end $$;

CREATE FUNCTION jobqueue.keep_results(leaf text, bundle uuid, job uuid, room integer) RETURNS TABLE(bundle_id uuid, job_id uuid)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '100ms'
    SET enable_sort TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_seqscan TO 'off'
    AS $_$
declare
  copied integer;
begin
  if not exists (select from "jobqueue".archive_pieces() p where p.leaf = keep_results.leaf and p.kind = 'completed') then
    return;
  end if;
  loop
    if exists (select from "jobqueue".needed_bundles(array[bundle])) then
      execute format(
        'with page as materialized (
           select a.bundle_id, a.id, a.task, a.result from %1$I.%2$I a
           where a.bundle_id <= $1 and (a.bundle_id, a.id) > ($1, $2) and a.follow & 4 = 0
           order by a.bundle_id, a.id limit $3
         ), kept as (
           insert into %1$I.node (bundle_id, job_id, task, outcome, result, kept)
           select p.bundle_id, p.id, p.task, ''completed'', p.result, true from page p
           on conflict on constraint node_pkey do update set outcome = excluded.outcome, result = excluded.result, kept = true
           where (node.kept, node.outcome, node.result::text) is distinct from (true, excluded.outcome, excluded.result::text)
         )
         select count(*), (array_agg(p.id order by p.id desc))[1] from page p', 'jobqueue', leaf)
        into copied, job using bundle, job, room;
      room := room - copied;
      if room <= 0 then
        return query select bundle, job;
        return;
      end if;
    end if;
    execute format('select a.bundle_id from %I.%I a where a.bundle_id > $1 order by a.bundle_id, a.id limit 1', 'jobqueue', leaf)
      into bundle using bundle;
    job := '00000000-0000-0000-0000-000000000000';
    room := room - 1;
    if bundle is null or room <= 0 then
      return query select bundle, job where bundle is not null;
      return;
    end if;
  end loop;
end $_$;

CREATE FUNCTION jobqueue.log_late() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  delete from "jobqueue".event_late where place = new.place;
  if not found then
    return null;  -- taken back: a savepoint
  end if;
  perform pg_advisory_xact_lock_shared('27249', '-877230771');
  begin
    insert into "jobqueue".event (at, type, task, queue, origin, bundle_id, jobs, attempts, error, reason, data)
    values (clock_timestamp(), new.type, new.task, new.queue, new.origin, new.bundle_id, new.jobs, new.attempts, new.error,
      new.reason, new.data);
  exception when check_violation then  -- no worker has made the day
    perform "jobqueue".extend_archive(1);
    insert into "jobqueue".event (at, type, task, queue, origin, bundle_id, jobs, attempts, error, reason, data)
    values (clock_timestamp(), new.type, new.task, new.queue, new.origin, new.bundle_id, new.jobs, new.attempts, new.error,
      new.reason, new.data);
  end;
  return null;
end $$;

CREATE FUNCTION jobqueue.look_finished(kind text, since timestamp with time zone, until timestamp with time zone, top uuid, before uuid, floor uuid, room integer, page integer, states text[], in_queue text, of_task text, of_origin text, pattern text, payload boolean) RETURNS TABLE(edge uuid, more boolean, place uuid, id uuid, task text, queue text, state text, priority smallint, attempt integer, max_attempts integer, crashes smallint, lost smallint, due_at timestamp with time zone, created_at timestamp with time zone, claimed_at timestamp with time zone, finished_at timestamp with time zone, timeout double precision, deadline timestamp with time zone, expires_at timestamp with time zone, origin text, worker_id uuid, lease_until timestamp with time zone, cancel_asked timestamp with time zone, key text, bundle_id uuid, reason text, errors text, args text, result text, meta text, progress text, read_at timestamp with time zone)
    LANGUAGE plpgsql STABLE
    SET plan_cache_mode TO 'force_custom_plan'
    SET enable_sort TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_seqscan TO 'off'
    SET max_parallel_workers_per_gather TO '0'
    AS $$
#variable_conflict use_column
declare
  half constant text[] := case kind when 'completed' then array['completed'] else array['cancelled', 'dead'] end;
begin
  return query
  with seen as materialized (
    select arm.place, arm.id, arm.state, arm.queue, arm.task, arm.origin from (
      (select a.id as place, a.id, a.state, a.queue, a.task, a.origin from "jobqueue".job_archive a
      where a.state = any(half) and a.finished_at >= look_finished.since and a.finished_at < look_finished.until
        and a.id < least(look_finished.before, look_finished.top) and a.id >= look_finished.floor
      order by a.id desc limit look_finished.room)
      union all
      (select late.place, late.id, late.state, late.queue, late.task, late.origin from (
        select overlay(uuid_send(a.id) placing substring(uuid_send(look_finished.top) from 1 for 6) from 1 for 6) as bytes,
          a.id, a.state, a.queue, a.task, a.origin
        from "jobqueue".job_archive a
        where a.state = any(half) and a.finished_at >= look_finished.since and a.finished_at < look_finished.until
          and a.id >= look_finished.top and a.id < '04000000-0000-0000-0000-000000000000' and "jobqueue".timed(a.id)
        order by a.id desc limit 20000
      ) as ahead cross join lateral (
        select encode(ahead.bytes, 'hex')::uuid as place, ahead.id, ahead.state, ahead.queue, ahead.task, ahead.origin
      ) as late where late.place < look_finished.before and late.place >= look_finished.floor)
      union all
      (select "jobqueue".place(a.id, a.created_at), a.id, a.state, a.queue, a.task, a.origin from "jobqueue".job_archive a
      where a.state = any(half) and a.finished_at >= look_finished.since and a.finished_at < look_finished.until
        and not "jobqueue".timed(a.id) and "jobqueue".place(a.id, a.created_at) < look_finished.before
        and "jobqueue".place(a.id, a.created_at) >= look_finished.floor
      order by 1 desc limit look_finished.room)
    ) as arm order by arm.place desc limit look_finished.room
  ), reached as materialized (
    select (select s.place from seen s order by s.place desc offset look_finished.room - 1 limit 1) as place
  ), found as materialized (
    -- all of it is in memory by now: which filters are given changes no plan
    select s.place, s.id from seen s
    where ("jobqueue".timed(s.id) or s.id <> s.place) and s.state = any(look_finished.states) and (in_queue is null or s.queue = in_queue)
      and (of_task is null or s.task = of_task) and (of_origin is null or s.origin = of_origin)
      and (pattern is null or s.id::text like pattern)
    order by s.place desc limit look_finished.page
  )
  select r.place, exists (
      select from "jobqueue".job_archive a
      where a.state = any(half) and a.finished_at >= look_finished.since and a.finished_at < look_finished.until
        and a.id < least(coalesce(r.place, look_finished.floor), look_finished.top))
    or look_finished.top < coalesce(r.place, look_finished.floor) and exists (
      select from "jobqueue".job_archive a
      where a.state = any(half) and a.finished_at >= look_finished.since and a.finished_at < look_finished.until
        and a.id >= look_finished.top and a.id < '04000000-0000-0000-0000-000000000000' and "jobqueue".timed(a.id))
    or exists (
      select from "jobqueue".job_archive a
      where a.state = any(half) and a.finished_at >= look_finished.since and a.finished_at < look_finished.until
        and not "jobqueue".timed(a.id) and "jobqueue".place(a.id, a.created_at) < coalesce(r.place, look_finished.floor)),
    f.place, j.id, j.task, j.queue, j.state, j.priority, j.attempt, j.max_attempts, j.crashes, j.lost, j.due_at, j.created_at,
    j.claimed_at, j.finished_at, j.timeout, j.deadline, j.expires_at, j.origin, j.worker_id, null::timestamptz,
    null::timestamptz, j.key, j.bundle_id, j.reason, j.errors::text, case when payload then j.args::text end,
    case when payload then j.result::text end, j.meta::text, j.progress::text, now()
  from reached r left join found f on true
  left join lateral (
    select a.* from "jobqueue".job_archive a
    where a.id = f.id and a.state = any(half) and a.finished_at >= look_finished.since
      and a.finished_at < look_finished.until limit 1
  ) as j on true
  order by f.place desc;
end $$;

CREATE FUNCTION jobqueue.look_unfinished(before uuid, room integer, page integer, states text[], in_queue text, of_task text, of_origin text, pattern text) RETURNS TABLE(edge uuid, place uuid, id uuid)
    LANGUAGE sql STABLE
    SET enable_sort TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_seqscan TO 'off'
    SET max_parallel_workers_per_gather TO '0'
    AS $$
  with timed as materialized (
    select j.id as place, j.id, j.state, j.queue, j.task, j.origin from "jobqueue".job j
    where j.id < least(before, '04000000-0000-0000-0000-000000000000') order by j.id desc limit room
  ), untimed as materialized (
    select "jobqueue".place(j.id, j.created_at) as place, j.id, j.state, j.queue, j.task, j.origin from "jobqueue".job j
    where not "jobqueue".timed(j.id) and "jobqueue".place(j.id, j.created_at) < before order by 1 desc limit room
  ), reached as materialized (
    select greatest(
      (select t.place from timed t order by t.place desc offset room - 1 limit 1),
      (select u.place from untimed u order by u.place desc offset room - 1 limit 1)) as edge
  ), found as materialized (
    -- all of it is in memory by now: which filters are given changes no plan
    select b.place, b.id
    from (select * from timed t where "jobqueue".timed(t.id) union all select * from untimed) as b cross join reached r
    where (r.edge is null or b.place >= r.edge) and b.state = any(states) and (in_queue is null or b.queue = in_queue)
      and (of_task is null or b.task = of_task) and (of_origin is null or b.origin = of_origin)
      and (pattern is null or b.id::text like pattern)
    order by b.place desc limit page
  )
  select r.edge, f.place, f.id from reached r left join found f on true order by f.place desc
$$;

CREATE FUNCTION jobqueue.needed_bundles(ids uuid[]) RETURNS SETOF uuid
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select b.id from "jobqueue".bundle b
  where b.id = any(ids) and (b.finished_at is null or b.finished_at > now() - interval '1 day'
    or (select j.bundle_id from "jobqueue".job j where j.bundle_id >= b.id order by j.bundle_id, j.id limit 1) = b.id)
  order by b.id for key share of b
$$;

CREATE FUNCTION jobqueue.new_id() RETURNS uuid
    LANGUAGE sql
    RETURN (encode(OVERLAY(uuid_send(gen_random_uuid()) PLACING int8send((SELECT ((((floor(clock.ms))::bigint << 16) | ((7 << 12))::bigint) | (floor(((clock.ms - floor(clock.ms)) * (4096)::numeric)))::bigint) FROM (SELECT (EXTRACT(epoch FROM clock_timestamp()) * (1000)::numeric) AS ms) clock)) FROM 1 FOR 8), 'hex'::text))::uuid;

COMMENT ON FUNCTION jobqueue.new_id() IS 'A UUIDv7: the time in milliseconds, then random bits.';

CREATE FUNCTION jobqueue.note_gates() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if tg_op <> 'INSERT' then
    insert into "jobqueue".gate_note (gate, freed)
    select g.name, 1 from unnest(old.gates[coalesce(new.passed, 0) + 1 : old.passed]) as g(name) where g.name not like '~%';
  end if;
  if tg_op = 'INSERT' or tg_op = 'UPDATE' and new.gate is distinct from old.gate then
    insert into "jobqueue".gate_note (gate) select new.gate where new.gate is not null;
  end if;
  return null;
end $$;

CREATE FUNCTION jobqueue.pace(count integer, per double precision, burst integer) RETURNS double precision
    LANGUAGE sql IMMUTABLE
    AS $$ select (per + least(1, per / 10)) / (count - burst + 1) $$;

CREATE FUNCTION jobqueue.timed(id uuid) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (((get_byte(uuid_send(id), 6) >> 4) = 7) AND (id < '04000000-0000-0000-0000-000000000000'::uuid));

CREATE FUNCTION jobqueue.place(id uuid, created_at timestamp with time zone) RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN jobqueue.timed(id) THEN id ELSE (SELECT (encode((int8send(((((floor(clock.ms))::bigint << 16) | ((7 << 12))::bigint) | (floor(((clock.ms - floor(clock.ms)) * (4096)::numeric)))::bigint)) || int8send(uuid_hash_extended(place.id, (0)::bigint))), 'hex'::text))::uuid AS encode FROM (SELECT (GREATEST(EXTRACT(epoch FROM place.created_at), (0)::numeric) * (1000)::numeric) AS ms) clock) END;

CREATE FUNCTION jobqueue.prune_archive(leaf text, first bigint, pages integer, of_queue text, completed double precision, other double precision, dry boolean) RETURNS TABLE(state text, jobs bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '100ms'
    AS $_$
declare
  old text := format(
    'with old as materialized (
       select a.ctid as place, a.state from %1$I.%2$I a cross join lateral (
         select $4 as completed, $5 as other where ($4 is not null or $5 is not null) and ($3 is null or a.queue = $3)
         union all
         select q.keep_completed, q.keep_other from %1$I.queue q where $4 is null and $5 is null and q.name = a.queue
       ) as keep
       where a.ctid >= $1 and a.ctid < $2 and a.finished_at <
         now() - make_interval(secs => case a.state when ''completed'' then keep.completed else keep.other end)',
    'jobqueue', leaf);
begin
  if not exists (
    select from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent in ('"jobqueue".job_archive_completed'::regclass, '"jobqueue".job_archive_other'::regclass)
      and c.relname = leaf
  ) then
    return;
  end if;
  old := old || case when dry then ')' else ' for update of a skip locked)' || "jobqueue".and_gone(leaf) end;
  return query execute old || ' select old.state::text, count(*) from old group by old.state'
    using format('(%s,0)', first)::tid, format('(%s,0)', first + pages)::tid, of_queue, completed, other;
end $_$;

CREATE FUNCTION jobqueue.prune_before(leaf text, first bigint, pages integer, queues text[], moments timestamp with time zone[], dry boolean) RETURNS TABLE(state text, jobs bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '100ms'
    AS $_$
declare
  old text := format(
    'with old as materialized (
       select a.ctid as place, a.state from %1$I.%2$I a
       join unnest($3, $4) as f(queue, moment) on f.queue = a.queue and a.finished_at < f.moment
       where a.ctid >= $1 and a.ctid < $2', 'jobqueue', leaf);
begin
  if not exists (
    select from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent in ('"jobqueue".job_archive_completed'::regclass, '"jobqueue".job_archive_other'::regclass)
      and c.relname = leaf
  ) then
    return;
  end if;
  old := old || case when dry then format(
    ' and not exists (select from %I.queue q where q.name = a.queue and a.finished_at <
        now() - make_interval(secs => case a.state when ''completed'' then q.keep_completed else q.keep_other end)))',
    'jobqueue') else ' for update of a skip locked)' || "jobqueue".and_gone(leaf) end;
  return query execute old || ' select old.state::text, count(*) from old group by old.state'
    using format('(%s,0)', first)::tid, format('(%s,0)', first + pages)::tid, queues, moments;
end $_$;

CREATE FUNCTION jobqueue.recent_dead(room bigint, pages bigint, seconds double precision) RETURNS TABLE(id uuid, queue text, task text, reason text, class text, place text, finished_at timestamp with time zone)
    LANGUAGE plpgsql STABLE
    SET plan_cache_mode TO 'force_custom_plan'
    SET max_parallel_workers_per_gather TO '0'
    AS $$
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
    from "jobqueue".archive_pieces() p
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
        select a.id, a.queue, a.task, a.reason, a.errors, a.finished_at from "jobqueue".job_archive_other a
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

CREATE FUNCTION jobqueue.recent_ends(after bigint, since timestamp with time zone, pages bigint) RETURNS TABLE(dead bigint, cancelled bigint)
    LANGUAGE plpgsql STABLE
    SET plan_cache_mode TO 'force_custom_plan'
    AS $$
declare
  step constant bigint := 128;
  one record;
  low bigint;
  high bigint;
  last bigint;
  found record;
begin
  dead := 0;
  cancelled := 0;
  for one in
    select p.since, p.until, pg_relation_size(p.piece) / current_setting('block_size')::bigint as size
    from "jobqueue".archive_pieces() p
    where p.kind = 'other' and p.until > recent_ends.since - interval '1 minute' and p.since <= now()
      and pg_relation_size(p.piece) > 0
  loop
    high := one.size;
    last := greatest(one.size - pages, 0);
    while high > last loop
      low := greatest(high - step, last);
      select count(*) filter (where a.state = 'dead') as dead, count(*) filter (where a.state = 'cancelled') as cancelled
      into found from "jobqueue".job_archive_other a
      where a.finished_at >= one.since and a.finished_at < one.until and a.seq > after
        and a.ctid >= format('(%s,0)', low)::tid and a.ctid < format('(%s,0)', high)::tid;
      exit when found.dead + found.cancelled = 0;
      dead := dead + found.dead;
      cancelled := cancelled + found.cancelled;
      high := low;
    end loop;
  end loop;
  return next;
end $$;

CREATE FUNCTION jobqueue.search_finished(kind text, since timestamp with time zone, until timestamp with time zone, top uuid, before uuid, floor uuid, room integer, page integer, states text[], in_queue text, of_task text, of_origin text, pattern text, payload boolean, wanted jsonb, seconds double precision) RETURNS TABLE(edge uuid, seen bigint, more boolean, place uuid, id uuid, task text, queue text, state text, priority smallint, attempt integer, max_attempts integer, crashes smallint, lost smallint, due_at timestamp with time zone, created_at timestamp with time zone, claimed_at timestamp with time zone, finished_at timestamp with time zone, timeout double precision, deadline timestamp with time zone, expires_at timestamp with time zone, origin text, worker_id uuid, lease_until timestamp with time zone, cancel_asked timestamp with time zone, key text, bundle_id uuid, reason text, errors text, args text, result text, meta text, progress text, read_at timestamp with time zone)
    LANGUAGE plpgsql STABLE
    SET plan_cache_mode TO 'force_custom_plan'
    SET enable_sort TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_seqscan TO 'off'
    SET max_parallel_workers_per_gather TO '0'
    AS $$
#variable_conflict use_column
declare
  half constant text[] := case kind when 'completed' then array['completed'] else array['cancelled', 'dead'] end;
begin
  return query
  with jobs as materialized (
    select arm.place, arm.id, arm.meant from (
      (select a.id as place, a.id, case
          when not "jobqueue".fits(a.id, a.state, a.queue, a.task, a.origin, states, in_queue, of_task, of_origin, pattern) then false
          when clock_timestamp() < (select clock_timestamp() + make_interval(secs => seconds))
            then "jobqueue".job_meant(wanted, a.task, a.reason, a.key, a.errors, a.args, a.progress) end as meant
      from "jobqueue".job_archive a
      where a.state = any(half) and a.finished_at >= search_finished.since and a.finished_at < search_finished.until
        and a.id < least(search_finished.before, search_finished.top) and a.id >= search_finished.floor
      order by a.id desc limit search_finished.room)
      union all
      (select behind.place, ahead.id, case
          when not "jobqueue".fits(ahead.id, ahead.state, ahead.queue, ahead.task, ahead.origin, states, in_queue, of_task, of_origin, pattern) then false
          when clock_timestamp() < (select clock_timestamp() + make_interval(secs => seconds))
            then "jobqueue".job_meant(wanted, ahead.task, ahead.reason, ahead.key, ahead.errors, ahead.args, ahead.progress) end as meant
      from (
        select overlay(uuid_send(a.id) placing substring(uuid_send(search_finished.top) from 1 for 6) from 1 for 6) as bytes,
          a.*
        from "jobqueue".job_archive a
        where a.state = any(half) and a.finished_at >= search_finished.since and a.finished_at < search_finished.until
          and a.id >= search_finished.top and a.id < '04000000-0000-0000-0000-000000000000' and "jobqueue".timed(a.id)
        order by a.id desc limit 20000
      ) as ahead cross join lateral (
        select encode(ahead.bytes, 'hex')::uuid as place
      ) as behind where behind.place < search_finished.before and behind.place >= search_finished.floor)
      union all
      (select "jobqueue".place(a.id, a.created_at), a.id, case
          when not "jobqueue".fits(a.id, a.state, a.queue, a.task, a.origin, states, in_queue, of_task, of_origin, pattern) then false
          when clock_timestamp() < (select clock_timestamp() + make_interval(secs => seconds))
            then "jobqueue".job_meant(wanted, a.task, a.reason, a.key, a.errors, a.args, a.progress) end as meant
      from "jobqueue".job_archive a
      where a.state = any(half) and a.finished_at >= search_finished.since and a.finished_at < search_finished.until
        and not "jobqueue".timed(a.id) and "jobqueue".place(a.id, a.created_at) < search_finished.before
        and "jobqueue".place(a.id, a.created_at) >= search_finished.floor
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
    where s.meant and ("jobqueue".timed(s.id) or s.id <> s.place) and (r.place is null or s.place >= r.place)
    order by s.place desc limit search_finished.page
  ), counted as materialized (
    select count(*) as seen from jobs s cross join reached r
    where ("jobqueue".timed(s.id) or s.id <> s.place) and (r.place is null or s.place >= r.place)
  )
  select r.place, n.seen, exists (
      select from "jobqueue".job_archive a
      where a.state = any(half) and a.finished_at >= search_finished.since and a.finished_at < search_finished.until
        and a.id < least(coalesce(r.place, search_finished.floor), search_finished.top))
    or search_finished.top < coalesce(r.place, search_finished.floor) and exists (
      select from "jobqueue".job_archive a
      where a.state = any(half) and a.finished_at >= search_finished.since and a.finished_at < search_finished.until
        and a.id >= search_finished.top and a.id < '04000000-0000-0000-0000-000000000000' and "jobqueue".timed(a.id))
    or exists (
      select from "jobqueue".job_archive a
      where a.state = any(half) and a.finished_at >= search_finished.since and a.finished_at < search_finished.until
        and not "jobqueue".timed(a.id) and "jobqueue".place(a.id, a.created_at) < coalesce(r.place, search_finished.floor)),
    f.place, j.id, j.task, j.queue, j.state, j.priority, j.attempt, j.max_attempts, j.crashes, j.lost, j.due_at, j.created_at,
    j.claimed_at, j.finished_at, j.timeout, j.deadline, j.expires_at, j.origin, j.worker_id, null::timestamptz,
    null::timestamptz, j.key, j.bundle_id, j.reason, j.errors::text, case when payload then j.args::text end,
    case when payload then j.result::text end, j.meta::text, j.progress::text, now()
  from reached r cross join counted n left join found f on true
  left join lateral (
    select a.* from "jobqueue".job_archive a
    where a.id = f.id and a.state = any(half) and a.finished_at >= search_finished.since
      and a.finished_at < search_finished.until limit 1
  ) as j on true
  order by f.place desc;
end $$;

CREATE FUNCTION jobqueue.search_unfinished(before uuid, room integer, page integer, states text[], in_queue text, of_task text, of_origin text, pattern text, wanted jsonb, seconds double precision) RETURNS TABLE(edge uuid, seen bigint, place uuid, id uuid)
    LANGUAGE sql STABLE
    SET enable_sort TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_seqscan TO 'off'
    SET max_parallel_workers_per_gather TO '0'
    AS $$
  with timed as materialized (
    select j.id as place, j.id, case
        when not "jobqueue".fits(j.id, j.state, j.queue, j.task, j.origin, states, in_queue, of_task, of_origin, pattern) then false
        when clock_timestamp() < (select clock_timestamp() + make_interval(secs => seconds))
          then "jobqueue".job_meant(wanted, j.task, null, j.key, j.errors, j.args, j.progress) end as meant
    from "jobqueue".job j
    where j.id < least(before, '04000000-0000-0000-0000-000000000000') order by j.id desc limit room
  ), untimed as materialized (
    select "jobqueue".place(j.id, j.created_at) as place, j.id, case
        when not "jobqueue".fits(j.id, j.state, j.queue, j.task, j.origin, states, in_queue, of_task, of_origin, pattern) then false
        when clock_timestamp() < (select clock_timestamp() + make_interval(secs => seconds))
          then "jobqueue".job_meant(wanted, j.task, null, j.key, j.errors, j.args, j.progress) end as meant
    from "jobqueue".job j
    where not "jobqueue".timed(j.id) and "jobqueue".place(j.id, j.created_at) < before order by 1 desc limit room
  ), jobs as materialized (
    select * from timed t where "jobqueue".timed(t.id) union all select * from untimed
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

CREATE FUNCTION jobqueue.seek_finished(kind text, since timestamp with time zone, until timestamp with time zone, after uuid, room integer, page integer, states text[], in_queue text, of_task text, of_origin text, wanted jsonb, seconds double precision) RETURNS TABLE(edge uuid, id uuid)
    LANGUAGE plpgsql STABLE
    SET plan_cache_mode TO 'force_custom_plan'
    SET enable_sort TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_seqscan TO 'off'
    SET max_parallel_workers_per_gather TO '0'
    AS $$
#variable_conflict use_column
declare
  half constant text[] := case kind when 'completed' then array['completed'] else array['cancelled', 'dead'] end;
begin
  return query
  with jobs as materialized (
    select a.id, case
        when not "jobqueue".fits(a.id, a.state, a.queue, a.task, a.origin, states, in_queue, of_task, of_origin, null) then false
        when clock_timestamp() < (select clock_timestamp() + make_interval(secs => seconds))
          then "jobqueue".job_meant(wanted, a.task, a.reason, a.key, a.errors, a.args, a.progress) end as meant
    from "jobqueue".job_archive a
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

CREATE FUNCTION jobqueue.seek_unfinished(after uuid, room integer, page integer, states text[], in_queue text, of_task text, of_origin text, wanted jsonb, seconds double precision) RETURNS TABLE(edge uuid, id uuid)
    LANGUAGE sql STABLE
    SET enable_sort TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_seqscan TO 'off'
    SET max_parallel_workers_per_gather TO '0'
    AS $$
  with jobs as materialized (
    select j.id, case
        when not "jobqueue".fits(j.id, j.state, j.queue, j.task, j.origin, states, in_queue, of_task, of_origin, null) then false
        when clock_timestamp() < (select clock_timestamp() + make_interval(secs => seconds))
          then "jobqueue".job_meant(wanted, j.task, null, j.key, j.errors, j.args, j.progress) end as meant
    from "jobqueue".job j where j.id > after order by j.id limit room
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

CREATE TABLE jobqueue.worker (
    id uuid NOT NULL,
    app text NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    version text NOT NULL,
    queues text[] NOT NULL,
    concurrency integer NOT NULL,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    seen_at timestamp with time zone DEFAULT now() NOT NULL,
    stopped_at timestamp with time zone,
    alive_until timestamp with time zone DEFAULT (now() + '00:01:00'::interval) NOT NULL,
    machine text,
    born text,
    stuck json,
    stuck_at timestamp with time zone
);

CREATE FUNCTION jobqueue.served(queue text) RETURNS boolean
    LANGUAGE sql STABLE
    RETURN (EXISTS (SELECT FROM jobqueue.worker w WHERE ((w.alive_until > now()) AND (w.stopped_at IS NULL) AND (NOT (('-'::text || served.queue) = ANY (w.queues))) AND (EXISTS (SELECT FROM unnest(w.queues) told(name) WHERE ((told.name = '*'::text) OR (regexp_replace(told.name, ':[0-9]+$'::text, ''::text) = served.queue)))))));

CREATE FUNCTION jobqueue.signal(id uuid, name text, payload text DEFAULT 'null'::text, most_bytes integer DEFAULT 1048576) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  found_job record;
  sleeps boolean;
  fault text := case
    when signal.id is null then 'id: must be the id of a job'
    when char_length(signal.name) between 1 and 100 is not true then 'name: must have 1 to 100 characters'
    when octet_length(signal.payload) <= signal.most_bytes is not true
      then format('payload: must be JSON of at most %s bytes', signal.most_bytes)
  end;
begin
  if fault is not null then
    raise exception '%', fault using errcode = 'invalid_parameter_value';
  end if;
  for look in 1 .. 2 loop  -- once more: it may have come back from the archive between the two looks
    select j.state = 'scheduled' and j.hears as hears, j.queue,
      coalesce(j.passed < cardinality(j.gates), false) as limited into found_job from "jobqueue".job j
    where j.id = signal.id for no key update;
    exit when found;
    perform from "jobqueue".job_archive a where a.id = signal.id;
    if found then
      return 'too_late';
    end if;
  end loop;
  if found_job.queue is null then
    return 'not_found';
  end if;
  if (select count(*) from (select from "jobqueue".signal s where s.job_id = signal.id limit 1000) as unread) = 1000 then
    return 'full';
  end if;
  insert into "jobqueue".signal (job_id, name, payload) values (signal.id, signal.name, signal.payload::json);
  -- with a newer snapshot than the lock: what the job was put to sleep with is there to be seen
  sleeps := found_job.hears and exists (
    select from "jobqueue".phase p
    where p.job_id = signal.id and p.kind = 'wait' and p.signal = signal.name and p.ended_at is null);
  update "jobqueue".job j set signals = j.signals + 1,
    state = case when not sleeps then j.state when j.passed < cardinality(j.gates) then 'blocked' else 'ready' end,
    gate = case when sleeps then j.gates[j.passed + 1] else j.gate end,
    due_at = case when sleeps then clock_timestamp() else j.due_at end,
    seq = case when sleeps then nextval('"jobqueue".job_seq') else j.seq end
  where j.id = signal.id;
  if sleeps then
    perform "jobqueue".wake(found_job.queue, case when found_job.limited then clock_timestamp() end, true);
  end if;
  return 'done';
end $$;

CREATE FUNCTION jobqueue.text_at(document json, path text[]) RETURNS text
    LANGUAGE plpgsql IMMUTABLE
    AS $$
begin
  return coalesce(document #>> path, (document #> path)::text);
exception when others then
  return coalesce(readable #>> path, (readable #> path)::text)
  from (select regexp_replace(document::text, '(?<!\\)((?:\\\\)*)\\u(0000|[dD][89a-fA-F][0-9a-fA-F]{2})', '\1\\ufffd', 'g')::json as readable) as mended;
end $$;

CREATE FUNCTION jobqueue.wake(queue text, due timestamp with time zone, always boolean) RETURNS void
    LANGUAGE plpgsql
    AS $$
begin
  if not always and current_setting('transaction_isolation') = 'read committed' then
    perform pg_advisory_xact_lock_shared('27249', '-2019113388');
    if due is null and not exists (
      select from "jobqueue".sleeper s where s.queue in (wake.queue, '*')
    ) or due is not null and not exists (
      select from "jobqueue".sleeper s where s.queue = '' and s.wake_at > wake.due
    ) then
      return;
    end if;
  end if;
  if pg_notification_queue_usage() < 0.9 then
    perform pg_notify('jobqueue_wake_bc1e7390e31a79711f1d', case when due is null then 'r:' else 'd:' end || queue);
  end if;
end $$;

CREATE FUNCTION jobqueue.wake_for_insert() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
  perform "jobqueue".wake(new.queue, case when new.state = 'scheduled' then new.due_at end, true);
  return null;
end $$;

CREATE SEQUENCE jobqueue.archive_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE TABLE jobqueue.audit (
    id bigint NOT NULL,
    at timestamp with time zone DEFAULT now() NOT NULL,
    who text NOT NULL,
    via text,
    action text NOT NULL,
    what json NOT NULL,
    matched bigint DEFAULT 0 NOT NULL,
    changed bigint DEFAULT 0 NOT NULL,
    refused json,
    jobs uuid[],
    CONSTRAINT audit_action_length CHECK (((char_length(action) >= 1) AND (char_length(action) <= 100))),
    CONSTRAINT audit_jobs_bound CHECK ((cardinality(jobs) <= 1000)),
    CONSTRAINT audit_times_range CHECK (((at >= '1970-01-01 00:00:00+00'::timestamp with time zone) AND (at <= '3000-01-01 00:00:00+00'::timestamp with time zone))),
    CONSTRAINT audit_via_length CHECK (((char_length(via) >= 1) AND (char_length(via) <= 200))),
    CONSTRAINT audit_who_length CHECK (((char_length(who) >= 1) AND (char_length(who) <= 200)))
);

ALTER TABLE jobqueue.audit ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME jobqueue.audit_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE jobqueue.bulk (
    id uuid NOT NULL,
    at timestamp with time zone DEFAULT now() NOT NULL,
    who text,
    via text,
    action text NOT NULL,
    filter json NOT NULL,
    target json DEFAULT '{}'::json NOT NULL,
    state text DEFAULT 'waiting'::text NOT NULL,
    matched bigint DEFAULT 0 NOT NULL,
    changed bigint DEFAULT 0 NOT NULL,
    refused json,
    place json DEFAULT '{}'::json NOT NULL,
    locked uuid[],
    round smallint DEFAULT 0 NOT NULL,
    due_at timestamp with time zone DEFAULT now() NOT NULL,
    audit_id bigint,
    finished_at timestamp with time zone,
    error text,
    CONSTRAINT bulk_finish_agrees CHECK (((finished_at IS NOT NULL) = (state = ANY (ARRAY['finished'::text, 'cancelled'::text, 'failed'::text])))),
    CONSTRAINT bulk_state_known CHECK ((state = ANY (ARRAY['waiting'::text, 'running'::text, 'finished'::text, 'cancelled'::text, 'failed'::text]))),
    CONSTRAINT bulk_times_range CHECK (((LEAST(at, due_at, finished_at) >= '1970-01-01 00:00:00+00'::timestamp with time zone) AND (GREATEST(at, due_at, finished_at) <= '3000-01-01 00:00:00+00'::timestamp with time zone)))
);

CREATE TABLE jobqueue.bundle (
    id uuid DEFAULT jobqueue.new_id() NOT NULL,
    name text NOT NULL,
    origin text,
    parent_id uuid,
    open boolean DEFAULT false NOT NULL,
    added bigint DEFAULT 0 NOT NULL,
    completed bigint DEFAULT 0 NOT NULL,
    cancelled bigint DEFAULT 0 NOT NULL,
    dead bigint DEFAULT 0 NOT NULL,
    round integer DEFAULT 0 NOT NULL,
    callbacks json DEFAULT '[]'::json NOT NULL,
    cancel_asked timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    finished_at timestamp with time zone,
    CONSTRAINT bundle_callbacks_list CHECK ((json_typeof(callbacks) = 'array'::text)),
    CONSTRAINT bundle_name_length CHECK (((char_length(name) >= 1) AND (char_length(name) <= 100))),
    CONSTRAINT bundle_origin_length CHECK (((char_length(origin) >= 1) AND (char_length(origin) <= 100)))
)
WITH (fillfactor='50');

CREATE TABLE jobqueue.dependency (
    on_id uuid NOT NULL,
    job_id uuid NOT NULL,
    any_end boolean DEFAULT false NOT NULL
);

CREATE TABLE jobqueue.depth (
    at timestamp with time zone NOT NULL,
    queue text NOT NULL COLLATE pg_catalog."C",
    ready bigint,
    scheduled bigint,
    blocked bigint,
    running bigint,
    oldest_due double precision,
    deferred bigint
);

CREATE TABLE jobqueue.event_floor (
    seq bigint NOT NULL
);

ALTER TABLE ONLY jobqueue.event_floor REPLICA IDENTITY FULL;

CREATE TABLE jobqueue.event_late (
    place bigint NOT NULL,
    type text NOT NULL COLLATE pg_catalog."C",
    task text,
    queue text COLLATE pg_catalog."C",
    origin text,
    bundle_id uuid,
    jobs uuid[],
    attempts integer[],
    error text,
    reason text,
    data json
);

ALTER TABLE jobqueue.event_late ALTER COLUMN place ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME jobqueue.event_late_place_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE jobqueue.fact (
    target uuid NOT NULL,
    added integer DEFAULT 0 NOT NULL,
    completed integer DEFAULT 0 NOT NULL,
    cancelled integer DEFAULT 0 NOT NULL,
    dead integer DEFAULT 0 NOT NULL,
    of_job boolean DEFAULT false NOT NULL
);

ALTER TABLE ONLY jobqueue.fact REPLICA IDENTITY FULL;

CREATE SEQUENCE jobqueue.fence_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE TABLE jobqueue.gate (
    name text NOT NULL COLLATE pg_catalog."C",
    "limit" text NOT NULL COLLATE pg_catalog."C",
    held integer DEFAULT 0 NOT NULL,
    tat timestamp with time zone,
    tag bigint,
    used_at timestamp with time zone DEFAULT now() NOT NULL
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='20000', autovacuum_vacuum_cost_delay='0');

CREATE TABLE jobqueue.gate_note (
    gate text NOT NULL COLLATE pg_catalog."C",
    freed integer DEFAULT 0 NOT NULL,
    due_at timestamp with time zone DEFAULT now() NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='20000', autovacuum_vacuum_cost_delay='0');

ALTER TABLE ONLY jobqueue.gate_note REPLICA IDENTITY FULL;

CREATE TABLE jobqueue.hour (
    at timestamp with time zone NOT NULL,
    queue text NOT NULL COLLATE pg_catalog."C",
    task text NOT NULL COLLATE pg_catalog."C",
    claimed bigint NOT NULL,
    completed bigint NOT NULL,
    cancelled bigint NOT NULL,
    dead bigint NOT NULL,
    retried bigint NOT NULL,
    snoozed bigint NOT NULL,
    suspended bigint NOT NULL,
    released bigint NOT NULL,
    put_aside bigint NOT NULL,
    lined_up bigint NOT NULL,
    refused bigint NOT NULL,
    lost bigint NOT NULL,
    seconds double precision NOT NULL,
    run bigint[] NOT NULL,
    wait bigint[] NOT NULL
)
WITH (fillfactor='50');

CREATE SEQUENCE jobqueue.job_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE TABLE jobqueue.job (
    id uuid DEFAULT jobqueue.new_id() NOT NULL,
    seq bigint DEFAULT nextval('jobqueue.job_seq'::regclass) NOT NULL,
    queue text DEFAULT 'default'::text NOT NULL COLLATE pg_catalog."C",
    task text NOT NULL,
    args json DEFAULT '{}'::json NOT NULL,
    priority smallint DEFAULT 0 NOT NULL,
    state text DEFAULT 'ready'::text NOT NULL COLLATE pg_catalog."C",
    due_at timestamp with time zone DEFAULT now() NOT NULL,
    attempt integer DEFAULT 0 NOT NULL,
    max_attempts integer DEFAULT 20 NOT NULL,
    crashes smallint DEFAULT 0 NOT NULL,
    lost smallint DEFAULT 0 NOT NULL,
    fence bigint DEFAULT 0 NOT NULL,
    worker_id uuid,
    claim_no bigint,
    lease_until timestamp with time zone,
    started boolean DEFAULT false NOT NULL,
    timeout double precision,
    deadline timestamp with time zone,
    expires_at timestamp with time zone,
    origin text,
    via text DEFAULT 'sql'::text NOT NULL,
    meta json,
    key text,
    bundle_id uuid,
    follow smallint DEFAULT 0 NOT NULL,
    awaited boolean DEFAULT false NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    claimed_at timestamp with time zone,
    aside_since timestamp with time zone,
    progress json,
    errors jsonb,
    returned bigint,
    cancel_asked timestamp with time zone,
    budget double precision,
    returned_by uuid,
    alone boolean DEFAULT false NOT NULL,
    signals integer DEFAULT 0 NOT NULL,
    hears boolean DEFAULT false NOT NULL,
    gates text[],
    passed smallint DEFAULT 0 NOT NULL,
    keeps smallint DEFAULT 0 NOT NULL,
    gate text COLLATE pg_catalog."C",
    token_until timestamp with time zone,
    CONSTRAINT job_args_object CHECK ((json_typeof(args) = 'object'::text)),
    CONSTRAINT job_attempts_sane CHECK (((attempt >= 0) AND ((max_attempts >= 1) AND (max_attempts <= 32767)) AND (crashes >= 0) AND (lost >= 0))),
    CONSTRAINT job_claim_whole CHECK ((((state = 'running'::text) AND (fence > 0) AND (worker_id IS NOT NULL) AND (lease_until IS NOT NULL)) OR ((state <> 'running'::text) AND (fence = 0) AND (worker_id IS NULL) AND (lease_until IS NULL)))),
    CONSTRAINT job_key_length CHECK (((char_length(key) >= 1) AND (char_length(key) <= 250))),
    CONSTRAINT job_origin_length CHECK (((char_length(origin) >= 1) AND (char_length(origin) <= 100))),
    CONSTRAINT job_queue_length CHECK (((char_length(queue) >= 1) AND (char_length(queue) <= 100))),
    CONSTRAINT job_state_known CHECK ((state = ANY (ARRAY['scheduled'::text, 'blocked'::text, 'ready'::text, 'running'::text]))),
    CONSTRAINT job_task_length CHECK (((char_length(task) >= 1) AND (char_length(task) <= 100))),
    CONSTRAINT job_timeout_positive CHECK ((timeout > (0)::double precision))
)
WITH (fillfactor='70', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='20000', autovacuum_vacuum_cost_delay='0', autovacuum_vacuum_insert_scale_factor='0', autovacuum_vacuum_insert_threshold='100000');

CREATE TABLE jobqueue.job_archive (
    id uuid NOT NULL,
    queue text NOT NULL COLLATE pg_catalog."C",
    task text NOT NULL,
    args json NOT NULL,
    priority smallint NOT NULL,
    state text NOT NULL COLLATE pg_catalog."C",
    due_at timestamp with time zone NOT NULL,
    attempt integer NOT NULL,
    max_attempts integer NOT NULL,
    crashes smallint NOT NULL,
    lost smallint NOT NULL,
    fence bigint NOT NULL,
    worker_id uuid,
    timeout double precision,
    deadline timestamp with time zone,
    expires_at timestamp with time zone,
    origin text,
    via text NOT NULL,
    meta json,
    key text,
    bundle_id uuid,
    follow smallint NOT NULL,
    created_at timestamp with time zone NOT NULL,
    claimed_at timestamp with time zone,
    finished_at timestamp with time zone NOT NULL,
    result json,
    reason text,
    progress json,
    errors jsonb,
    seq bigint DEFAULT nextval('jobqueue.archive_seq'::regclass) NOT NULL,
    xact xid8 DEFAULT pg_current_xact_id() NOT NULL,
    budget double precision,
    gates text[],
    CONSTRAINT job_archive_result_if_completed CHECK (((result IS NOT NULL) = (state = 'completed'::text))),
    CONSTRAINT job_archive_state_final CHECK ((state = ANY (ARRAY['completed'::text, 'cancelled'::text, 'dead'::text])))
)
PARTITION BY LIST (state);

CREATE TABLE jobqueue.job_archive_completed (
    id uuid NOT NULL,
    queue text NOT NULL COLLATE pg_catalog."C",
    task text NOT NULL,
    args json NOT NULL,
    priority smallint NOT NULL,
    state text NOT NULL COLLATE pg_catalog."C",
    due_at timestamp with time zone NOT NULL,
    attempt integer NOT NULL,
    max_attempts integer NOT NULL,
    crashes smallint NOT NULL,
    lost smallint NOT NULL,
    fence bigint NOT NULL,
    worker_id uuid,
    timeout double precision,
    deadline timestamp with time zone,
    expires_at timestamp with time zone,
    origin text,
    via text NOT NULL,
    meta json,
    key text,
    bundle_id uuid,
    follow smallint NOT NULL,
    created_at timestamp with time zone NOT NULL,
    claimed_at timestamp with time zone,
    finished_at timestamp with time zone NOT NULL,
    result json,
    reason text,
    progress json,
    errors jsonb,
    seq bigint DEFAULT nextval('jobqueue.archive_seq'::regclass) NOT NULL,
    xact xid8 DEFAULT pg_current_xact_id() NOT NULL,
    budget double precision,
    gates text[],
    CONSTRAINT job_archive_result_if_completed CHECK (((result IS NOT NULL) = (state = 'completed'::text))),
    CONSTRAINT job_archive_state_final CHECK ((state = ANY (ARRAY['completed'::text, 'cancelled'::text, 'dead'::text])))
)
PARTITION BY RANGE (finished_at);

CREATE TABLE jobqueue.job_archive_other (
    id uuid NOT NULL,
    queue text NOT NULL COLLATE pg_catalog."C",
    task text NOT NULL,
    args json NOT NULL,
    priority smallint NOT NULL,
    state text NOT NULL COLLATE pg_catalog."C",
    due_at timestamp with time zone NOT NULL,
    attempt integer NOT NULL,
    max_attempts integer NOT NULL,
    crashes smallint NOT NULL,
    lost smallint NOT NULL,
    fence bigint NOT NULL,
    worker_id uuid,
    timeout double precision,
    deadline timestamp with time zone,
    expires_at timestamp with time zone,
    origin text,
    via text NOT NULL,
    meta json,
    key text,
    bundle_id uuid,
    follow smallint NOT NULL,
    created_at timestamp with time zone NOT NULL,
    claimed_at timestamp with time zone,
    finished_at timestamp with time zone NOT NULL,
    result json,
    reason text,
    progress json,
    errors jsonb,
    seq bigint DEFAULT nextval('jobqueue.archive_seq'::regclass) NOT NULL,
    xact xid8 DEFAULT pg_current_xact_id() NOT NULL,
    budget double precision,
    gates text[],
    CONSTRAINT job_archive_result_if_completed CHECK (((result IS NOT NULL) = (state = 'completed'::text))),
    CONSTRAINT job_archive_state_final CHECK ((state = ANY (ARRAY['completed'::text, 'cancelled'::text, 'dead'::text])))
)
PARTITION BY RANGE (finished_at);

CREATE TABLE jobqueue.job_key (
    key text NOT NULL COLLATE pg_catalog."C",
    job_id uuid NOT NULL,
    scope text NOT NULL,
    expires_at timestamp with time zone,
    CONSTRAINT job_key_expiry CHECK (((scope = 'period'::text) = (expires_at IS NOT NULL))),
    CONSTRAINT job_key_scope_known CHECK ((scope = ANY (ARRAY['waiting'::text, 'unfinished'::text, 'period'::text])))
);

CREATE TABLE jobqueue."limit" (
    name text NOT NULL COLLATE pg_catalog."C",
    declared jsonb NOT NULL,
    changed jsonb,
    concurrency integer GENERATED ALWAYS AS ((((declared || COALESCE(changed, '{}'::jsonb)) ->> 'concurrency'::text))::integer) STORED,
    count integer GENERATED ALWAYS AS ((((declared || COALESCE(changed, '{}'::jsonb)) ->> 'count'::text))::integer) STORED,
    per double precision GENERATED ALWAYS AS ((((declared || COALESCE(changed, '{}'::jsonb)) ->> 'per'::text))::double precision) STORED,
    burst integer GENERATED ALWAYS AS ((((declared || COALESCE(changed, '{}'::jsonb)) ->> 'burst'::text))::integer) STORED,
    ordered boolean GENERATED ALWAYS AS (COALESCE(((declared ->> 'ordered'::text))::boolean, false)) STORED,
    declared_by text,
    declared_at timestamp with time zone DEFAULT now() NOT NULL,
    changed_at timestamp with time zone,
    CONSTRAINT limit_concurrency_sane CHECK ((concurrency >= 0)),
    CONSTRAINT limit_name_length CHECK (((char_length(name) >= 1) AND (char_length(name) <= 150))),
    CONSTRAINT limit_rate_sane CHECK ((((count IS NULL) = (per IS NULL)) AND ((count IS NULL) OR ((count >= 1) AND (per > (0)::double precision) AND (burst IS NOT NULL) AND ((burst >= 1) AND (burst <= count))))))
);

CREATE TABLE jobqueue.migration (
    name text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE jobqueue.minute (
    at timestamp with time zone NOT NULL,
    queue text NOT NULL COLLATE pg_catalog."C",
    task text NOT NULL COLLATE pg_catalog."C",
    claimed bigint NOT NULL,
    completed bigint NOT NULL,
    cancelled bigint NOT NULL,
    dead bigint NOT NULL,
    retried bigint NOT NULL,
    snoozed bigint NOT NULL,
    suspended bigint NOT NULL,
    released bigint NOT NULL,
    put_aside bigint NOT NULL,
    lined_up bigint NOT NULL,
    refused bigint NOT NULL,
    lost bigint NOT NULL,
    seconds double precision NOT NULL,
    run bigint[] NOT NULL,
    wait bigint[] NOT NULL
)
WITH (fillfactor='80');

CREATE TABLE jobqueue.node (
    bundle_id uuid NOT NULL,
    job_id uuid NOT NULL,
    task text NOT NULL,
    after uuid[] DEFAULT '{}'::uuid[] NOT NULL,
    outcome text,
    result json,
    kept boolean DEFAULT false NOT NULL,
    CONSTRAINT node_outcome_known CHECK ((outcome = ANY (ARRAY['completed'::text, 'cancelled'::text, 'dead'::text])))
)
WITH (fillfactor='60');

CREATE TABLE jobqueue.noted (
    worker_id uuid NOT NULL,
    number bigint NOT NULL,
    at timestamp with time zone NOT NULL
)
WITH (fillfactor='50');

CREATE TABLE jobqueue.phase (
    job_id uuid NOT NULL,
    name text NOT NULL,
    kind text NOT NULL,
    signal text,
    place integer NOT NULL,
    attempt integer NOT NULL,
    fence bigint NOT NULL,
    worker_id uuid,
    began_at timestamp with time zone NOT NULL,
    ended_at timestamp with time zone,
    wake_at timestamp with time zone,
    result json,
    error json,
    CONSTRAINT phase_kind_known CHECK ((kind = ANY (ARRAY['phase'::text, 'sleep'::text, 'wait'::text]))),
    CONSTRAINT phase_name_length CHECK (((char_length(name) >= 1) AND (char_length(name) <= 100))),
    CONSTRAINT phase_times_in_range CHECK (((LEAST(began_at, ended_at, wake_at) >= '1970-01-01 00:00:00+00'::timestamp with time zone) AND (GREATEST(began_at, ended_at, wake_at) <= '3000-01-01 00:00:00+00'::timestamp with time zone)))
)
WITH (fillfactor='80');
ALTER TABLE ONLY jobqueue.phase ALTER COLUMN job_id SET (n_distinct=-0.1);

CREATE TABLE jobqueue.queue (
    name text NOT NULL COLLATE pg_catalog."C",
    paused_at timestamp with time zone,
    resume_at timestamp with time zone,
    concurrency integer,
    keep_completed double precision,
    keep_other double precision,
    most_completed bigint,
    most_other bigint,
    CONSTRAINT queue_keep_in_range CHECK (((keep_completed <= (316224000)::double precision) AND (keep_other <= (316224000)::double precision))),
    CONSTRAINT queue_keep_positive CHECK (((keep_completed > (0)::double precision) AND (keep_other > (0)::double precision))),
    CONSTRAINT queue_most_positive CHECK (((most_completed > 0) AND (most_other > 0))),
    CONSTRAINT queue_name_length CHECK (((char_length(name) >= 1) AND (char_length(name) <= 100))),
    CONSTRAINT queue_times_in_range CHECK (((LEAST(paused_at, resume_at) >= '1970-01-01 00:00:00+00'::timestamp with time zone) AND (GREATEST(paused_at, resume_at) <= '3000-01-01 00:00:00+00'::timestamp with time zone)))
);

CREATE TABLE jobqueue.schedule (
    name text NOT NULL COLLATE pg_catalog."C",
    source text NOT NULL,
    task text NOT NULL,
    queue text NOT NULL COLLATE pg_catalog."C",
    args json NOT NULL,
    options json NOT NULL,
    cron text NOT NULL,
    tz text NOT NULL,
    missed text NOT NULL,
    overlap text NOT NULL,
    jitter double precision DEFAULT 0 NOT NULL,
    starts_at timestamp with time zone,
    ends_at timestamp with time zone,
    next_at timestamp with time zone,
    last_at timestamp with time zone,
    last_job uuid,
    paused_at timestamp with time zone,
    paused_until timestamp with time zone,
    seen_at timestamp with time zone,
    broken text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT schedule_jitter_range CHECK (((jitter >= (0)::double precision) AND (jitter <= (86400)::double precision))),
    CONSTRAINT schedule_missed_known CHECK ((missed = ANY (ARRAY['skip'::text, 'once'::text, 'all'::text]))),
    CONSTRAINT schedule_overlap_known CHECK ((overlap = ANY (ARRAY['allow'::text, 'skip'::text, 'queue'::text]))),
    CONSTRAINT schedule_source_known CHECK ((source = ANY (ARRAY['code'::text, 'stored'::text]))),
    CONSTRAINT schedule_times_range CHECK (((LEAST(starts_at, ends_at, next_at, last_at, paused_at, paused_until, seen_at, created_at) >= '1970-01-01 00:00:00+00'::timestamp with time zone) AND (GREATEST(starts_at, ends_at, next_at, last_at, paused_at, paused_until, seen_at, created_at) <= '3000-01-01 00:00:00+00'::timestamp with time zone)))
);

CREATE TABLE jobqueue.signal (
    job_id uuid NOT NULL,
    name text NOT NULL,
    seq bigint NOT NULL,
    payload json NOT NULL,
    sent_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT signal_name_length CHECK (((char_length(name) >= 1) AND (char_length(name) <= 100))),
    CONSTRAINT signal_times_in_range CHECK (((sent_at >= '1970-01-01 00:00:00+00'::timestamp with time zone) AND (sent_at <= '3000-01-01 00:00:00+00'::timestamp with time zone)))
);
ALTER TABLE ONLY jobqueue.signal ALTER COLUMN job_id SET (n_distinct=-0.1);

ALTER TABLE jobqueue.signal ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME jobqueue.signal_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE UNLOGGED TABLE jobqueue.sleeper (
    worker_id uuid NOT NULL,
    queue text NOT NULL COLLATE pg_catalog."C",
    wake_at timestamp with time zone NOT NULL
);

CREATE TABLE jobqueue.sweep (
    name text NOT NULL COLLATE pg_catalog."C",
    begun_at timestamp with time zone NOT NULL
);

CREATE TABLE jobqueue.webhook (
    id uuid NOT NULL,
    url text NOT NULL,
    types text[] NOT NULL,
    task text,
    queue text COLLATE pg_catalog."C",
    origin text,
    bundle_id uuid,
    job_id uuid,
    secret_env text,
    version integer DEFAULT 1 NOT NULL,
    rotated_at timestamp with time zone,
    cursor bigint NOT NULL,
    failures integer DEFAULT 0 NOT NULL,
    failing_since timestamp with time zone,
    paused_at timestamp with time zone,
    disabled_reason text,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);

ALTER TABLE ONLY jobqueue.job_archive ATTACH PARTITION jobqueue.job_archive_completed FOR VALUES IN ('completed');

ALTER TABLE ONLY jobqueue.job_archive ATTACH PARTITION jobqueue.job_archive_other FOR VALUES IN ('cancelled', 'dead');

ALTER TABLE ONLY jobqueue.audit
    ADD CONSTRAINT audit_pkey PRIMARY KEY (id);

ALTER TABLE ONLY jobqueue.bulk
    ADD CONSTRAINT bulk_pkey PRIMARY KEY (id);

ALTER TABLE ONLY jobqueue.bundle
    ADD CONSTRAINT bundle_pkey PRIMARY KEY (id);

ALTER TABLE jobqueue.bundle
    ADD CONSTRAINT bundle_times_range CHECK (((LEAST(created_at, cancel_asked, finished_at) >= '1970-01-01 00:00:00+00'::timestamp with time zone) AND (GREATEST(created_at, cancel_asked, finished_at) <= '3000-01-01 00:00:00+00'::timestamp with time zone))) NOT VALID;

ALTER TABLE ONLY jobqueue.dependency
    ADD CONSTRAINT dependency_pkey PRIMARY KEY (on_id, job_id);

ALTER TABLE ONLY jobqueue.depth
    ADD CONSTRAINT depth_pkey PRIMARY KEY (queue, at);

ALTER TABLE ONLY jobqueue.event_late
    ADD CONSTRAINT event_late_pkey PRIMARY KEY (place);

ALTER TABLE ONLY jobqueue.gate
    ADD CONSTRAINT gate_pkey PRIMARY KEY (name);

ALTER TABLE ONLY jobqueue.hour
    ADD CONSTRAINT hour_pkey PRIMARY KEY (queue, at, task);

ALTER TABLE jobqueue.job
    ADD CONSTRAINT job_attempt_in_range CHECK ((attempt <= 32768)) NOT VALID;

ALTER TABLE jobqueue.job
    ADD CONSTRAINT job_errors_list CHECK ((jsonb_typeof(errors) = 'array'::text)) NOT VALID;

ALTER TABLE ONLY jobqueue.job_key
    ADD CONSTRAINT job_key_pkey PRIMARY KEY (key);

ALTER TABLE jobqueue.job
    ADD CONSTRAINT job_leaves_its_line CHECK (((gate IS NULL) OR (state = 'blocked'::text))) NOT VALID;

ALTER TABLE jobqueue.job
    ADD CONSTRAINT job_lengths_in_range CHECK (((timeout <= (316224000)::double precision) AND (budget > (0)::double precision) AND (budget <= (316224000)::double precision))) NOT VALID;

ALTER TABLE ONLY jobqueue.job
    ADD CONSTRAINT job_pkey PRIMARY KEY (id);

ALTER TABLE jobqueue.job
    ADD CONSTRAINT job_times_in_range CHECK (((LEAST(due_at, created_at, deadline, expires_at, claimed_at, lease_until, aside_since, cancel_asked) >= '1970-01-01 00:00:00+00'::timestamp with time zone) AND (GREATEST(due_at, created_at, deadline, expires_at, claimed_at, lease_until, aside_since, cancel_asked) <= '3000-01-01 00:00:00+00'::timestamp with time zone))) NOT VALID;

ALTER TABLE ONLY jobqueue."limit"
    ADD CONSTRAINT limit_pkey PRIMARY KEY (name);

ALTER TABLE jobqueue."limit"
    ADD CONSTRAINT limit_rule_range CHECK (((GREATEST(concurrency, count, burst) <= 1000000) AND (per <= (316224000)::double precision))) NOT VALID;

ALTER TABLE jobqueue."limit"
    ADD CONSTRAINT limit_rules_objects CHECK (((jsonb_typeof(declared) = 'object'::text) AND (jsonb_typeof(COALESCE(changed, '{}'::jsonb)) = 'object'::text))) NOT VALID;

ALTER TABLE jobqueue."limit"
    ADD CONSTRAINT limit_times_range CHECK (((LEAST(declared_at, changed_at) >= '1970-01-01 00:00:00+00'::timestamp with time zone) AND (GREATEST(declared_at, changed_at) <= '3000-01-01 00:00:00+00'::timestamp with time zone))) NOT VALID;

ALTER TABLE ONLY jobqueue.migration
    ADD CONSTRAINT migration_pkey PRIMARY KEY (name);

ALTER TABLE ONLY jobqueue.minute
    ADD CONSTRAINT minute_pkey PRIMARY KEY (queue, at, task);

ALTER TABLE ONLY jobqueue.node
    ADD CONSTRAINT node_pkey PRIMARY KEY (bundle_id, job_id);

ALTER TABLE ONLY jobqueue.noted
    ADD CONSTRAINT noted_pkey PRIMARY KEY (worker_id);

ALTER TABLE ONLY jobqueue.phase
    ADD CONSTRAINT phase_pkey PRIMARY KEY (job_id, name);

ALTER TABLE ONLY jobqueue.queue
    ADD CONSTRAINT queue_pkey PRIMARY KEY (name);

ALTER TABLE ONLY jobqueue.schedule
    ADD CONSTRAINT schedule_pkey PRIMARY KEY (name);

ALTER TABLE ONLY jobqueue.signal
    ADD CONSTRAINT signal_pkey PRIMARY KEY (job_id, name, seq);

ALTER TABLE ONLY jobqueue.sleeper
    ADD CONSTRAINT sleeper_pkey PRIMARY KEY (worker_id, queue);

ALTER TABLE ONLY jobqueue.sweep
    ADD CONSTRAINT sweep_pkey PRIMARY KEY (name);

ALTER TABLE ONLY jobqueue.webhook
    ADD CONSTRAINT webhook_pkey PRIMARY KEY (id);

ALTER TABLE jobqueue.webhook
    ADD CONSTRAINT webhook_times_range CHECK (((LEAST(created_at, rotated_at, failing_since, paused_at) >= '1970-01-01 00:00:00+00'::timestamp with time zone) AND (GREATEST(created_at, rotated_at, failing_since, paused_at) <= '3000-01-01 00:00:00+00'::timestamp with time zone))) NOT VALID;

ALTER TABLE ONLY jobqueue.worker
    ADD CONSTRAINT worker_pkey PRIMARY KEY (id);

ALTER TABLE jobqueue.worker
    ADD CONSTRAINT worker_times_range CHECK (((LEAST(started_at, seen_at, stopped_at, alive_until, stuck_at) >= '1970-01-01 00:00:00+00'::timestamp with time zone) AND (GREATEST(started_at, seen_at, stopped_at, alive_until, stuck_at) <= '3000-01-01 00:00:00+00'::timestamp with time zone))) NOT VALID;

CREATE INDEX audit_action ON jobqueue.audit USING btree (action, id);

CREATE INDEX audit_at ON jobqueue.audit USING btree (at);

CREATE INDEX audit_jobs ON jobqueue.audit USING gin (jobs) WHERE (jobs IS NOT NULL);

CREATE INDEX audit_who ON jobqueue.audit USING btree (who, id);

CREATE INDEX bulk_finished ON jobqueue.bulk USING btree (finished_at) WHERE (finished_at IS NOT NULL);

CREATE INDEX bulk_unfinished ON jobqueue.bulk USING btree (at) WHERE (finished_at IS NULL);

CREATE INDEX bundle_finished ON jobqueue.bundle USING btree (finished_at) WHERE (finished_at IS NOT NULL);

CREATE INDEX bundle_parent ON jobqueue.bundle USING btree (parent_id) WHERE (parent_id IS NOT NULL);

CREATE INDEX bundle_unfinished ON jobqueue.bundle USING btree (created_at) WHERE (finished_at IS NULL);

CREATE INDEX dependency_job ON jobqueue.dependency USING btree (job_id);

CREATE INDEX depth_at ON jobqueue.depth USING btree (at);

CREATE INDEX event_seq_index ON ONLY jobqueue.event USING btree (seq);

CREATE INDEX fact_of_job ON jobqueue.fact USING btree (target) WHERE of_job;

CREATE INDEX fact_target ON jobqueue.fact USING btree (target);

CREATE INDEX gate_note_due ON jobqueue.gate_note USING btree (due_at);

CREATE INDEX gate_note_gate ON jobqueue.gate_note USING btree (gate);

CREATE INDEX hour_at ON jobqueue.hour USING btree (at);

CREATE INDEX hour_task ON jobqueue.hour USING btree (task, at);

CREATE INDEX job_admitted ON jobqueue.job USING btree (queue, token_until) WHERE ((state = 'ready'::text) AND (passed > 0));

CREATE INDEX job_archive_bundle ON ONLY jobqueue.job_archive USING btree (bundle_id, id) WHERE (bundle_id IS NOT NULL);

CREATE INDEX job_archive_completed_bundle_id_id_idx ON ONLY jobqueue.job_archive_completed USING btree (bundle_id, id) WHERE (bundle_id IS NOT NULL);

CREATE INDEX job_archive_id ON ONLY jobqueue.job_archive USING btree (id);

CREATE INDEX job_archive_completed_id_idx ON ONLY jobqueue.job_archive_completed USING btree (id);

CREATE INDEX job_archive_untimed ON ONLY jobqueue.job_archive USING btree (jobqueue.place(id, created_at)) WHERE (NOT jobqueue.timed(id));

CREATE INDEX job_archive_completed_place_idx ON ONLY jobqueue.job_archive_completed USING btree (jobqueue.place(id, created_at)) WHERE (NOT jobqueue.timed(id));

CREATE INDEX job_archive_other_bundle_id_id_idx ON ONLY jobqueue.job_archive_other USING btree (bundle_id, id) WHERE (bundle_id IS NOT NULL);

CREATE INDEX job_archive_other_id_idx ON ONLY jobqueue.job_archive_other USING btree (id);

CREATE INDEX job_archive_other_place_idx ON ONLY jobqueue.job_archive_other USING btree (jobqueue.place(id, created_at)) WHERE (NOT jobqueue.timed(id));

CREATE INDEX job_aside ON jobqueue.job USING btree (task) WHERE ((state = 'scheduled'::text) AND (aside_since IS NOT NULL));

CREATE INDEX job_blocked ON jobqueue.job USING btree (queue, id) WHERE (state = 'blocked'::text);

CREATE INDEX job_bundle ON jobqueue.job USING btree (bundle_id, id) WHERE (bundle_id IS NOT NULL);

CREATE INDEX job_delivery ON jobqueue.job USING btree (origin) WHERE (task = 'jobqueue.webhook'::text);

CREATE INDEX job_due ON jobqueue.job USING btree (due_at) WHERE (state = 'scheduled'::text);

CREATE INDEX job_due_in_queue ON jobqueue.job USING btree (queue, due_at) WHERE ((state <> 'ready'::text) AND (state <> 'running'::text) AND (state <> 'blocked'::text));

CREATE INDEX job_gate ON jobqueue.job USING btree (gate, priority DESC, seq) WHERE ((state = 'blocked'::text) AND (gate IS NOT NULL));

CREATE INDEX job_key_expiry ON jobqueue.job_key USING btree (expires_at) WHERE (expires_at IS NOT NULL);

CREATE INDEX job_ready ON jobqueue.job USING btree (queue, priority DESC, seq) WHERE ((state = 'ready'::text) AND (crashes = 0));

CREATE INDEX job_running ON jobqueue.job USING btree (seq) WHERE (state = 'running'::text);

CREATE INDEX job_suspect ON jobqueue.job USING btree (queue, priority DESC, seq) WHERE ((state = 'ready'::text) AND (crashes > 0));

CREATE INDEX job_untimed ON jobqueue.job USING btree (jobqueue.place(id, created_at)) WHERE (NOT jobqueue.timed(id));

CREATE INDEX minute_at ON jobqueue.minute USING btree (at);

CREATE INDEX minute_task ON jobqueue.minute USING btree (task, at);

CREATE INDEX node_job ON jobqueue.node USING btree (job_id);

CREATE INDEX node_kept ON jobqueue.node USING btree (bundle_id, task, job_id) WHERE kept;

CREATE INDEX schedule_next ON jobqueue.schedule USING btree (next_at) WHERE (next_at IS NOT NULL);

CREATE INDEX schedule_seen ON jobqueue.schedule USING btree (seen_at) WHERE (source = 'code'::text);

ALTER INDEX jobqueue.job_archive_bundle ATTACH PARTITION jobqueue.job_archive_completed_bundle_id_id_idx;

ALTER INDEX jobqueue.job_archive_id ATTACH PARTITION jobqueue.job_archive_completed_id_idx;

ALTER INDEX jobqueue.job_archive_untimed ATTACH PARTITION jobqueue.job_archive_completed_place_idx;

ALTER INDEX jobqueue.job_archive_bundle ATTACH PARTITION jobqueue.job_archive_other_bundle_id_id_idx;

ALTER INDEX jobqueue.job_archive_id ATTACH PARTITION jobqueue.job_archive_other_id_idx;

ALTER INDEX jobqueue.job_archive_untimed ATTACH PARTITION jobqueue.job_archive_other_place_idx;

CREATE CONSTRAINT TRIGGER event_late_moves AFTER INSERT ON jobqueue.event_late DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION jobqueue.log_late();

CREATE TRIGGER job_gives_up AFTER UPDATE OF passed, gate ON jobqueue.job FOR EACH ROW WHEN (((new.passed < old.passed) OR ((new.gate IS NOT NULL) AND (new.gate IS DISTINCT FROM old.gate)))) EXECUTE FUNCTION jobqueue.note_gates();

CREATE TRIGGER job_has_gone AFTER DELETE ON jobqueue.job FOR EACH ROW WHEN ((old.passed > 0)) EXECUTE FUNCTION jobqueue.note_gates();

CREATE TRIGGER job_inserted AFTER INSERT ON jobqueue.job FOR EACH ROW WHEN (((new.via = 'sql'::text) AND (new.state = ANY (ARRAY['ready'::text, 'scheduled'::text])))) EXECUTE FUNCTION jobqueue.wake_for_insert();

CREATE TRIGGER job_lines_up AFTER INSERT ON jobqueue.job FOR EACH ROW WHEN ((new.gate IS NOT NULL)) EXECUTE FUNCTION jobqueue.note_gates();
