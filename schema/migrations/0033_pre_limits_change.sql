-- Limits that change while jobs run. A note at a line feed and the name of a limit, in place of a gate, is of all its gates: the limit
-- is another one now.

-- Seconds from one start of a rate to the next, when the burst is used up: so many more than `per` has room for that no
-- stretch of `per` has more than `count` starts, though each may be late by a tenth of it, at most a second.
create or replace function :"schema".pace(count integer, per double precision, burst integer) returns double precision
language sql immutable as $$ select (per + least(1, per / 10)) / (count - burst + 1) $$;

-- Looks at gates that want it, of at most `room` notes, and lets go whom they let through. Gates that another looks at
-- are left to it (`busy`). Each lock is taken before anything is read that it guards, and each read has a newer snapshot
-- than the lock: so a place that came free, or somebody who came, is seen now, or has a note that is seen later.
-- A rate gives each job a time of its own, up to `horizon` seconds ahead. Of burst + 1 that follow each other within `per` the last
-- waits so long that no stretch of `per` has more than `count`, though each may start `slack` late.
create or replace function :"schema".admit(room integer, horizon double precision,
  out admitted integer, out ready integer, out busy boolean, out next_in double precision, out any_limit boolean, out by_limit text)
language plpgsql set search_path = pg_catalog, pg_temp
set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off set enable_bitmapscan = off as $$
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
  any_limit := exists (select from :"schema"."limit");
  paused := array(select q.name from :"schema".queue q
    where q.paused_at is not null and (q.resume_at is null or q.resume_at > moment));
  if cardinality(paused) > 0 then
    -- who cannot start lines up anew: others may need the places
    update :"schema".job j set passed = j.keeps, state = 'blocked', gate = j.gates[j.keeps + 1], token_until = null
    where j.id = any(array(
      select found.id from unnest((select paused)) as p(queue)
      cross join lateral (
        select j.id from :"schema".job j
        where j.state = 'ready' and j.passed > 0 and j.queue = p.queue and j.passed > j.keeps and j.keeps < cardinality(j.gates)
        limit 500 for update skip locked) as found));
  end if;
  -- all gates of a limit that was changed: named now, since whoever comes while a change is not committed is told by the old one
  with told as (
    delete from :"schema".gate_note where ctid = any(array(
      select n.ctid from :"schema".gate_note n where n.gate >= chr(10) and n.gate < chr(11) limit 100 for update skip locked))
    returning gate
  )
  insert into :"schema".gate_note (gate)
  select l.gate from (select distinct substr(gate, 2) as name from told) as t cross join lateral :"schema".gates_in_line(t.name) as l(gate);
  named := array(
    select distinct n.gate from (
      select n.gate from :"schema".gate_note n
      where n.due_at <= moment and n.gate not like E'\n%' order by n.due_at limit room) as n
    order by n.gate);
  if cardinality(named) > 0 then
    insert into :"schema".gate (name, "limit")
    select n.name, split_part(ltrim(n.name, '~'), E'\n', 1) from unnest((select named)) as n(name)
    where not exists (select from :"schema".gate g where g.name = n.name)
    order by n.name
    on conflict on constraint gate_pkey do nothing;
    mine := array(
      select g.name from unnest((select named)) as n(name)
      cross join lateral (select g.name from :"schema".gate g where g.name = n.name for update skip locked) as g);
    busy := cardinality(mine) < cardinality(named);
    -- queues whose jobs did not start in time: more of them would only come too late as well
    behind := array(
      with recursive late as (
        (select j.queue from :"schema".job j
        where j.state = 'ready' and j.passed > 0 and j.token_until < moment order by j.queue limit 1)
        union all
        select (select j.queue from :"schema".job j
          where j.state = 'ready' and j.passed > 0 and j.token_until < moment and j.queue > l.queue order by j.queue limit 1)
        from late l where l.queue is not null
      )
      select l.queue from late l where l.queue is not null) || paused;

    with old as materialized (
      select n.place from unnest((select mine)) as m(name)
      cross join lateral (select n.ctid as place from :"schema".gate_note n where n.gate = m.name limit 5000) as n
      limit 10000
    ), gone as (
      delete from :"schema".gate_note where ctid = any(array(select place from old)) returning gate, freed
    ), folded as materialized (
      select f.name, sum(f.freed)::integer as freed
      from (select m.name, 0 as freed from unnest((select mine)) as m(name) union all select gate, freed from gone) as f
      group by f.name
    ), known as materialized (
      select f.name, g.held - f.freed as held, greatest(date_part('epoch', g.tat - moment), 0) as ahead,
        date_part('epoch', moment - g.used_at) as unused,
        case when f.name like '~%' then case when l.name is null and f.name not like '~fair:%' then 0 end
          when l.name is null then 0 else l.concurrency - (g.held - f.freed) end as places,
        least(1, l.per / 10) as slack, :"schema".pace(l.count, l.per, l.burst) as every, l.burst, coalesce(l.ordered, false) as ordered
      from folded f
      cross join lateral (select * from :"schema".gate g where g.name = f.name offset 0) as g
      left join lateral (select * from :"schema"."limit" l where l.name = g."limit" offset 0) as l on true
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
          select j.id, j.queue from :"schema".job j
          where j.state = 'blocked' and j.gate is not null and j.gate = o.name
          order by j.priority desc, j.seq limit o.fit + 20000
        ) as w
        cross join lateral (
          select j.id, j.queue, j.priority, j.seq from :"schema".job j
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
      select n.name, greatest(g.tag, coalesce(head.seq, pg_sequence_last_value(':"schema".job_seq'))) as tag
      from (select name, queue, priority from numbered where number = 0 and name like '~fair:%') as n
      cross join lateral (select g.tag from :"schema".gate g where g.name = n.name offset 0) as g
      left join lateral (
        select j.seq from :"schema".job j
        where j.state = 'ready' and j.crashes = 0 and j.queue = n.queue and j.priority = n.priority
        order by j.seq limit 1) as head on true
    ), given as materialized (
      select n.id, n.name, n.slack, n.ordered,
        case when n.every is not null then moment + make_interval(secs => greatest(0, n.ahead + n.number * n.every - n.grace)) end as start,
        case when n.name like '~fair:%' then (select h.tag from heads h where h.name = n.name) + n.number + 1 end as tag
      from numbered n
    ), moved as (
      update :"schema".job j
      set passed = j.passed + 1, gate = j.gates[j.passed + 2],
        keeps = case when m.ordered and j.keeps = j.passed then j.passed + 1 else j.keeps end,
        due_at = coalesce(m.start, j.due_at), token_until = coalesce(m.start + make_interval(secs => m.slack), j.token_until),
        state = case when j.passed + 1 < cardinality(j.gates) then 'blocked'
          when coalesce(m.start, case when j.token_until is not null then j.due_at end) > moment + interval '1 ms' then 'scheduled' else 'ready' end,
        seq = case when m.tag is not null then m.tag
          when j.passed + 1 < cardinality(j.gates) or m.start is not null then j.seq else nextval(':"schema".job_seq') end
      from unnest(array(select id from given), array(select start from given), array(select tag from given),
        array(select slack from given), array(select ordered from given)) as m(id, start, tag, slack, ordered)
      where j.id = m.id
      returning j.queue, j.state, case when j.state = 'scheduled' then j.due_at end as due
    ), told as materialized (
      select :"schema".wake(queue, min(due), false) from moved where state <> 'blocked' group by queue, due is null
    ), counted as materialized (
      select c.name, max(c.place) as place, sum(c.one)::integer as number, max(c.tag) as tag
      from (
        select m.name, m.place, 0 as one, null::bigint as tag from unnest((select mine)) with ordinality as m(name, place)
        union all select name, 0, 1, tag from given) as c
      group by c.name
    ), kept as (
      update :"schema".gate g
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

    insert into :"schema".gate_note (gate, due_at)
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
      select from :"schema".job j where j.state = 'blocked' and j.gate is not null and j.gate = n.name limit 1) as somebody
    where n.due is not null;
  end if;
  next_in := date_part('epoch', (select min(n.due_at) from :"schema".gate_note n) - clock_timestamp());
end $$;

-- As before, but ordered limits come before all others, as in Python.
create or replace function :"schema".defer(
  task text,
  args text default '{}',
  queue text default 'default',
  priority integer default 0,
  delay double precision default 0,
  at timestamptz default null,
  max_attempts integer default 20,
  timeout double precision default null,
  origin text default null,
  meta text default null,
  id text default null,
  limits text default null
) returns uuid
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
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
  job_id := coalesce(defer.id::uuid, :"schema".new_id());
  due := coalesce(defer.at, clock_timestamp() + make_interval(secs => coalesce(defer.delay, 0)));
  waits := due > clock_timestamp();
  if defer.limits is not null then
    gates := array(
      select case when l.declared ->> 'concurrency' is null then '~' else '' end || l.name || coalesce(E'\n' || g.key, '')
      from (
        select e.place, case json_typeof(e.said) when 'string' then e.said #>> '{}' when 'array' then e.said ->> 0 end as name,
          case json_typeof(e.said) when 'array' then e.said ->> 1 end as key
        from json_array_elements(said) with ordinality as e(said, place)) as g
      join :"schema"."limit" l on l.name = g.name where char_length(coalesce(g.key, 'k')) between 1 and 200
      order by l.declared ->> 'count' is not null, not l.ordered, g.key is null, l.name limit 5);
    if cardinality(gates) > 4 or cardinality(gates) <> json_array_length(said) then
      raise exception 'limits: must be a JSON array of at most 4 limits that a worker has declared, each as "name" or ["name", "key"]'
        using errcode = 'invalid_parameter_value';
    end if;
    gates := nullif(gates, '{}');
  end if;
  insert into :"schema".job
    (id, queue, task, args, priority, state, due_at, max_attempts, timeout, origin, via, meta, gates, gate)
  values
    (job_id, defer.queue, defer.task, defer.args::json, defer.priority, case when waits then 'scheduled' when gates is not null then 'blocked' else 'ready' end,
     due, defer.max_attempts, defer.timeout, defer.origin, 'defer', defer.meta::json, gates, case when not waits then gates[1] end)
  on conflict on constraint job_pkey do nothing;
  if not found then
    perform :"schema".await_standby();
    return job_id;
  end if;
  if defer.id is not null then
    -- after the insert, with a newer snapshot: it may have run in between
    perform from :"schema".job_archive a where a.id = job_id;
    if found then
      delete from :"schema".job j where j.id = job_id;
      return job_id;
    end if;
  end if;
  perform :"schema".wake(defer.queue, case when waits or gates is not null then due end, true);
  return job_id;
end $$;
