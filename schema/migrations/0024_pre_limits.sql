-- Limits. A job passes its gates in their order, and holds a place at each until it ends, or comes back. Whoever changes a
-- job notes by a trigger what that means for its gates, in rows of their own; admit() alone touches gates, so that nobody
-- ever waits for another's commit.

alter table :"schema".job add column gates text[];
-- How many of its gates it has passed, and how many of these places stay its own when it runs again.
alter table :"schema".job add column passed smallint not null default 0;
alter table :"schema".job add column keeps smallint not null default 0;
-- Where it stands in line; null: in none. One that is blocked at no gate waits for other jobs.
alter table :"schema".job add column gate text collate "C";
-- Until when it may start by what a rate has given it.
alter table :"schema".job add column token_until timestamptz;
alter table :"schema".job_archive add column gates text[];

-- Nobody leaves a line but by a statement that knows of lines: not by one of a worker of older code, nor by hand.
alter table :"schema".job add constraint job_leaves_its_line check (gate is null or state = 'blocked') not valid;

create table :"schema"."limit" (
  name text collate "C" not null,
  declared jsonb not null,
  changed jsonb,
  -- what counts: as declared, then as changed by hand
  concurrency integer generated always as (((declared || coalesce(changed, '{}')) ->> 'concurrency')::integer) stored,
  count integer generated always as (((declared || coalesce(changed, '{}')) ->> 'count')::integer) stored,
  per double precision generated always as (((declared || coalesce(changed, '{}')) ->> 'per')::double precision) stored,
  burst integer generated always as (((declared || coalesce(changed, '{}')) ->> 'burst')::integer) stored,
  ordered boolean generated always as (coalesce((declared ->> 'ordered')::boolean, false)) stored,
  declared_by text,
  declared_at timestamptz not null default now(),
  changed_at timestamptz,
  constraint limit_pkey primary key (name),
  constraint limit_name_length check (char_length(name) between 1 and 150),
  constraint limit_concurrency_sane check (concurrency >= 0),
  constraint limit_rate_sane check ((count is null) = (per is null) and (count is null or count >= 1 and per > 0
    and burst is not null and burst between 1 and count))
);

-- A limit, for one key. `held` places are taken, less what its notes say.
create table :"schema".gate (
  name text collate "C" not null,
  "limit" text collate "C" not null,
  held integer not null default 0,
  -- of a rate: when it would be as if nobody had ever come
  tat timestamptz,
  -- of a fair order: the last place that was given
  tag bigint,
  used_at timestamptz not null default now(),
  constraint gate_pkey primary key (name)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);

-- A gate wants a look, from `due_at` on: so many of its places came free, or somebody has come. Notes are the timers too.
create table :"schema".gate_note (
  gate text collate "C" not null,
  freed integer not null default 0,
  due_at timestamptz not null default now()
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);
alter table :"schema".gate_note replica identity full;
create index gate_note_due on :"schema".gate_note (due_at);
create index gate_note_gate on :"schema".gate_note (gate);

create function :"schema".note_gates() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if tg_op <> 'INSERT' then
    insert into :"schema".gate_note (gate, freed)
    select g.name, 1 from unnest(old.gates[coalesce(new.passed, 0) + 1 : old.passed]) as g(name) where g.name not like '~%';
  end if;
  if tg_op = 'INSERT' or tg_op = 'UPDATE' and new.gate is distinct from old.gate then
    insert into :"schema".gate_note (gate) select new.gate where new.gate is not null;
  end if;
  return null;
end $$;
-- Plain jobs pay the look at these conditions, and claims and finishes of all not even that.
create trigger job_lines_up after insert on :"schema".job for each row when (new.gate is not null)
  execute function :"schema".note_gates();
create trigger job_gives_up after update of passed, gate on :"schema".job for each row
  when (new.passed < old.passed or new.gate is not null and new.gate is distinct from old.gate)
  execute function :"schema".note_gates();
create trigger job_has_gone after delete on :"schema".job for each row when (old.passed > 0)
  execute function :"schema".note_gates();
revoke execute on function :"schema".note_gates() from public;

-- The gates of a limit at which somebody waits, by a loose index scan.
create function :"schema".gates_in_line("limit" text) returns setof text
language sql stable set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off as $$
  with recursive line as (
    select (
        select j.gate from :"schema".job j where j.state = 'blocked' and j.gate is not null and j.gate >= p.name and j.gate < p.name || chr(11)
        order by j.gate limit 1) as gate, p.name || chr(11) as upto
    from (values ("limit"), ('~' || "limit")) as p(name)
    union all
    select (
        select j.gate from :"schema".job j where j.state = 'blocked' and j.gate is not null and j.gate > l.gate and j.gate < l.upto
        order by j.gate limit 1), l.upto
    from line l where l.gate is not null
  )
  select gate from line where gate is not null
$$;

-- Looks at gates that want it, of at most `room` notes, and lets go whom they let through. Gates that another looks at
-- are left to it (`busy`). Each lock is taken before anything is read that it guards, and each read has a newer snapshot
-- than the lock: so a place that came free, or somebody who came, is seen now, or has a note that is seen later.
-- A rate gives each job a time of its own, up to `horizon` seconds ahead. Of burst + 1 that follow each other within `per` the last
-- waits so long that no stretch of `per` has more than `count`, though each may start `slack` late.
create function :"schema".admit(room integer, horizon double precision,
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
  named := array(
    select distinct n.gate from (
      select n.gate from :"schema".gate_note n where n.due_at <= moment order by n.due_at limit room) as n
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
        case when f.name like '~%' then case when l.name is null and f.name not like '~fair:%' then 0 end
          when l.name is null then 0 else l.concurrency - (g.held - f.freed) end as places,
        least(1, l.per / 10) as slack, (l.per + least(1, l.per / 10)) / (l.count - l.burst + 1) as every, l.burst, coalesce(l.ordered, false) as ordered
      from folded f
      cross join lateral (select * from :"schema".gate g where g.name = f.name offset 0) as g
      left join lateral (select * from :"schema"."limit" l where l.name = g."limit" offset 0) as l on true
    ), timed as materialized (
      select k.*, k.every * (k.burst - 1) as grace,
        case when k.every is not null
          then greatest(0, least(500, floor((horizon + k.every * (k.burst - 1) - coalesce(k.ahead, 0)) / k.every) + 1))::integer end as tokens
      from known k
    )
    select array_agg(t.name order by t.name), array_agg(t.held order by t.name),
      array_agg(greatest(0, least(500, t.places, t.tokens)) order by t.name), array_agg(t.places order by t.name),
      array_agg(t.tokens order by t.name), array_agg(coalesce(t.ahead, 0) order by t.name), array_agg(t.every order by t.name),
      array_agg(t.grace order by t.name), array_agg(t.slack order by t.name), array_agg(t.ordered order by t.name)
    into mine, had, fits, places, tokens, ahead, every, grace, slack, ordered
    from timed t;

    with line as materialized (
      select o.place, o.name, o.ahead, o.every, o.grace, o.slack, o.ordered, j.id, j.queue, j.priority, j.seq
      from unnest((select mine), (select fits), (select ahead), (select every), (select grace), (select slack), (select ordered)) with ordinality
        as o(name, fit, ahead, every, grace, slack, ordered, place)
      cross join lateral (
        select j.id, j.queue, j.priority, j.seq from (
          select j.id from :"schema".job j
          where j.state = 'blocked' and j.gate is not null and j.gate = o.name
          order by j.priority desc, j.seq limit o.fit + 1000
        ) as w
        cross join lateral (
          select j.id, j.queue, j.priority, j.seq from :"schema".job j
          -- in words that fit no index but that of the ids: else the whole line was read for each
          where j.id = w.id and j.state || '' = 'blocked' and j.gate || '' = o.name
            and j.queue <> all(case when o.every is null then paused else behind end)
          for update skip locked
        ) as j
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

do $$
declare
  holder record;
begin
  -- Who runs jobs lets them go, and who may see jobs may see this.
  for holder in
    select case a.grantee when 0 then 'public' else a.grantee::regrole::text end as name, bool_or(a.privilege_type = 'DELETE') as works
    from pg_class c cross join lateral aclexplode(c.relacl) a
    where c.oid = ':"schema".job_archive'::regclass and a.grantee <> c.relowner and a.privilege_type in ('SELECT', 'DELETE')
    group by 1
  loop
    execute format('grant %2$s on %1$I."limit", %1$I.gate, %1$I.gate_note to %3$s', :'schema',
      case when holder.works then 'select, insert, update, delete' else 'select' end, holder.name);
  end loop;
end $$;
