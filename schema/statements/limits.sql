-- name: admit
-- takes: room integer, horizon double precision
-- gives: admitted integer, ready integer, busy boolean, next_in double precision, any_limit boolean, by_limit text
-- No row: there is no limit, no gate and no note. Then the function is not even called: 42 us of the server instead of 113, and
-- 1.2 ms instead of 4.9 when a worker starts.
select * from :"schema".admit($1, $2)
where exists (select from :"schema"."limit") or exists (select from :"schema".gate) or exists (select from :"schema".gate_note);

-- name: declare_limits
-- takes: names text[], concurrencies integer[], counts integer[], pers double precision[], bursts integer[], ordereds boolean[], declared_by text, always boolean
-- gives: name text
-- Writes, and says, only what is news: then all who wait there are looked at anew. What was changed by hand counts on,
-- unless it is a limit of another kind now.
with declared as (
  insert into :"schema"."limit" as l (name, declared, declared_by)
  select r.name, jsonb_build_object('concurrency', r.concurrency, 'count', r.count, 'per', r.per, 'burst', r.burst, 'ordered', r.ordered), $7
  from unnest($1::text[], $2::integer[], $3::integer[], $4::double precision[], $5::integer[], $6::boolean[])
    as r(name, concurrency, count, per, burst, ordered)
  order by r.name
  on conflict on constraint limit_pkey do update
    set declared = excluded.declared, declared_by = excluded.declared_by, declared_at = now(),
      (changed, changed_at) = (select l.changed, l.changed_at
        where (l.declared ->> 'ordered', l.declared ->> 'concurrency' is null, l.declared ->> 'count' is null)
          = (excluded.declared ->> 'ordered', excluded.declared ->> 'concurrency' is null, excluded.declared ->> 'count' is null))
    where l.declared is distinct from excluded.declared
  returning name
), noted as (
  insert into :"schema".gate_note (gate) select chr(10) || name from declared
), woken as materialized (
  select :"schema".wake('', clock_timestamp(), $8) from declared limit 1
)
select name from declared where (select count(*) from woken) >= 0;

-- name: change_limit
-- takes: name text, changed text, always boolean
-- gives: name text
-- What is changed by hand, beyond what was before; null: nothing is any more.
with changed as (
  update :"schema"."limit" l
  set changed = case when $2::text is not null then coalesce(l.changed, '{}') || $2::text::jsonb end,
    changed_at = case when $2::text is not null then now() end
  where l.name = $1 returning l.name
), noted as (
  insert into :"schema".gate_note (gate) select chr(10) || name from changed
), woken as materialized (
  select :"schema".wake('', clock_timestamp(), $3) from changed
)
select name from changed where (select count(*) from woken) >= 0;

-- name: read_limits
-- takes: name text
-- gives: name text, declared text, changed text, declared_by text, declared_at timestamptz, changed_at timestamptz, held bigint, waiting bigint, gates bigint, oldest double precision
-- Each with all its lines. What its gates hold is less what their notes say.
select l.name, l.declared::text as declared, l.changed::text as changed, l.declared_by, l.declared_at, l.changed_at,
  coalesce(h.held, 0)::bigint as held, coalesce(w.waiting, 0)::bigint as waiting, coalesce(w.gates, 0)::bigint as gates, w.oldest
from :"schema"."limit" l
left join lateral (
  select sum(g.held - coalesce(n.freed, 0)) as held from :"schema".gate g
  left join lateral (select sum(n.freed) as freed from :"schema".gate_note n where n.gate = g.name) as n on true
  where g.name >= l.name and g.name < l.name || chr(11)
) as h on true
left join lateral (
  select sum(c.waiting) as waiting, count(*) as gates, max(c.oldest) as oldest
  from :"schema".gates_in_line(l.name) as g(gate)
  cross join lateral (
    select count(*) as waiting, (
        select date_part('epoch', clock_timestamp() - j.due_at) from :"schema".job j
        where j.state = 'blocked' and j.gate is not null and j.gate = g.gate order by j.priority desc, j.seq limit 1) as oldest
    from :"schema".job j where j.state = 'blocked' and j.gate is not null and j.gate = g.gate) as c
) as w on true
where $1::text is null or l.name = $1
order by l.name;

-- name: waiting_at_limits
-- takes: room bigint
-- gives: name text, waiting bigint
-- How many wait at each limit, counted up to `room` at gates with places, and as many at those without.
select l.name, (
    select count(*) from (
      select from :"schema".job j
      where j.state = 'blocked' and j.gate is not null and j.gate >= l.name and j.gate < l.name || chr(11) limit $1) as placed)
  + (
    select count(*) from (
      select from :"schema".job j
      where j.state = 'blocked' and j.gate is not null and j.gate >= '~' || l.name and j.gate < '~' || l.name || chr(11)
      limit $1) as timed) as waiting
from :"schema"."limit" l;

-- name: gate_lines
-- takes: name text, key text, room bigint
-- gives: gate text, held integer, waiting bigint, oldest double precision, free_in double precision
-- Of each of its keys how many hold a place, or wait; those with most to wait for first.
with gate as materialized (
  select g.gate as name from :"schema".gates_in_line($1) as g(gate)
  union
  select g.name from :"schema".gate g
  where g.name >= $1 and g.name < $1 || chr(11) and g.held > 0 or g.name >= '~' || $1 and g.name < '~' || $1 || chr(11)
)
select g.name as gate, coalesce(k.held - coalesce(n.freed, 0), 0)::integer as held, w.waiting, h.oldest,
  date_part('epoch', k.tat - clock_timestamp()) - r.grace as free_in
from gate g
left join lateral (select k.held, k.tat from :"schema".gate k where k.name = g.name offset 0) as k on true
left join (
  select :"schema".pace(count, per, burst) * (burst - 1) as grace from :"schema"."limit" where name = $1) as r on true
left join lateral (select sum(n.freed) as freed from :"schema".gate_note n where n.gate = g.name) as n on true
cross join lateral (
  select count(*) as waiting from :"schema".job j where j.state = 'blocked' and j.gate is not null and j.gate = g.name) as w
left join lateral (
  select date_part('epoch', clock_timestamp() - j.due_at) as oldest from :"schema".job j
  where j.state = 'blocked' and j.gate is not null and j.gate = g.name order by j.priority desc, j.seq limit 1) as h on true
where $2::text is null or g.name in ($1 || chr(10) || $2, '~' || $1 || chr(10) || $2)
order by w.waiting desc, 2 desc, g.name limit $3;

-- name: lock_gates
-- takes: name text
-- gives: name text
-- All that a recount is about: nobody looks at them meanwhile.
select g.name from :"schema".gate g where g.name >= $1 and g.name < $1 || chr(11) order by g.name for update;

-- name: recount_gates
-- takes: name text
-- gives: corrected bigint
-- With a newer snapshot than the lock. What notes say stays said: so much more is held.
with found as materialized (
  select p.gate, count(*) as held from :"schema".job j cross join lateral unnest(j.gates[1:j.passed]) as p(gate)
  where j.passed > 0 and p.gate >= $1 and p.gate < $1 || chr(11) group by p.gate
), freed as materialized (
  select n.gate, sum(n.freed) as freed from :"schema".gate_note n where n.gate >= $1 and n.gate < $1 || chr(11) group by n.gate
), counted as (
  insert into :"schema".gate as g (name, "limit", held)
  select name, $1, sum(held)::integer from (
    select g.name, 0 as held from :"schema".gate g where g.name >= $1 and g.name < $1 || chr(11)
    union all select gate, held from found union all select gate, freed from freed) as each
  group by name order by name
  on conflict on constraint gate_pkey do update set held = excluded.held where g.held <> excluded.held
  returning name
), noted as (
  insert into :"schema".gate_note (gate) select name from counted
)
select count(*) as corrected from counted;

-- name: note_age
-- takes:
-- gives: seconds double precision
select greatest(0, coalesce(date_part('epoch', clock_timestamp() - min(due_at)), 0)) as seconds from :"schema".gate_note;

-- name: note_lines
-- takes: after text, room integer
-- gives: next text
-- Lines at which nobody would look again, since somebody has changed them past our triggers: a note for each that has none.
with recursive line as (
  (select j.gate, 1 as place from :"schema".job j where j.state = 'blocked' and j.gate is not null and j.gate > $1
  order by j.gate limit 1)
  union all
  select next.gate, l.place + 1 from line l cross join lateral (
    select j.gate from :"schema".job j where j.state = 'blocked' and j.gate is not null and j.gate > l.gate
    order by j.gate limit 1) as next
  where l.place < $2
), noted as (
  insert into :"schema".gate_note (gate)
  select l.gate from line l where not exists (select from :"schema".gate_note n where n.gate = l.gate)
)
select max(gate) as next from line having count(*) >= $2;

-- name: forget_gates
-- takes: after text, room bigint, idle double precision
-- gives: next text
-- At which nobody holds a place. Whoever waits there, or comes meanwhile, has a note, and the look makes the gate anew. Under
-- its lock: who goes through it just now would hold a place that nobody counts.
with page as materialized (
  select g.name from :"schema".gate g where g.name > $1 order by g.name limit $2
), idle as materialized (
  select g.name from page p
  cross join lateral (
    select g.name from :"schema".gate g
    where g.name = p.name and g.held = 0 and greatest(g.used_at, g.tat) < now() - make_interval(secs => $3)
    for update skip locked) as g
), gone as (
  delete from :"schema".gate where name = any(array(select name from idle))
)
select max(name) as next from page having count(*) >= $2;
