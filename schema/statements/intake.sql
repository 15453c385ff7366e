-- name: insert_jobs
-- takes: ids text, args text, kinds text, metas text, keys text, queues text[], tasks text[], priorities integer[], delays double precision[], ats text[], max_attempts integer[], timeouts double precision[], budgets double precision[], expires double precision[], origins text[], follows boolean[], bundles text[], blocked boolean[], needed boolean[], always boolean
-- gives: id text
-- Text, numbers and one flag only: a caller's connection keeps whatever codecs it has for uuid, json or times. The first
-- five are columns of values joined by chr(31), or null; the lists say what jobs of the first kind are, of the second, ...
-- An id that is in `job` already is left alone. Answers with null if all went in, else with the ids that did.
with clock as materialized (
  select clock_timestamp() as now
), kind as materialized (
  select k.*, coalesce(k.at::timestamptz, clock.now + make_interval(secs => k.delay), clock.now) as due_at, clock.now
  from clock, unnest($6::text[], $7::text[], $8::integer[], $9::double precision[], $10::text[], $11::integer[],
    $12::double precision[], $13::double precision[], $14::double precision[], $15::text[], $16::boolean[], $17::text[],
    $18::boolean[], $19::boolean[]) with ordinality
    as k(queue, task, priority, delay, at, max_attempts, timeout, budget, expires, origin, follow, bundle, blocked, needed, number)
), given as materialized (
  select j.id, j.args, j.meta, j.key, k.*
  from unnest(string_to_array($1, chr(31)), string_to_array($2, chr(31)), string_to_array($3, chr(31))::bigint[],
    string_to_array($4, chr(31), ''), string_to_array($5, chr(31), '')) with ordinality
    as j(id, args, kind, meta, key, place)
  join kind k on k.number = coalesce(j.kind, 1)
  order by j.place
), inserted as (
  insert into :"schema".job (id, queue, task, args, priority, state, due_at, max_attempts, timeout, deadline, budget,
    expires_at, origin, via, meta, key, follow, bundle_id, created_at)
  select id::uuid, queue, task, args::json, priority,
    case when blocked then 'blocked' when due_at > now then 'scheduled' else 'ready' end, due_at,
    max_attempts, timeout, case when budget is not null then least(due_at + make_interval(secs => budget), :'latest') end, budget,
    case when expires is not null then least(due_at + make_interval(secs => expires), :'latest') end,
    origin, 'py', meta::json, key, case when needed then 2 else 0 end | follow::integer, bundle::uuid, now
  from given
  on conflict on constraint job_pkey do nothing
  returning id, queue, case when state = 'scheduled' then due_at end as due, state
), woken as materialized (
  select :"schema".wake(queue, min(due), $20) from inserted where state <> 'blocked' group by queue, due is null
), told as materialized (
  select (select count(*) from given) = (select count(*) from inserted) + 0 * (select count(*) from woken) as all_of_them
)
select null::text as id from told where all_of_them
union all
select inserted.id::text as id from told, inserted where not all_of_them;

-- name: insert_limited_jobs
-- takes: ids text, args text, kinds text, metas text, keys text, queues text[], tasks text[], priorities integer[], delays double precision[], ats text[], max_attempts integer[], timeouts double precision[], budgets double precision[], expires double precision[], origins text[], follows boolean[], bundles text[], blocked boolean[], needed boolean[], gates text[], always boolean
-- gives: id text
-- The same for jobs that have gates, given as JSON, a list for each job or null: a statement of its own, for those that have
-- none pay nothing for it. They line up at the first one.
with clock as materialized (
  select clock_timestamp() as now
), kind as materialized (
  select k.*, coalesce(k.at::timestamptz, clock.now + make_interval(secs => k.delay), clock.now) as due_at, clock.now
  from clock, unnest($6::text[], $7::text[], $8::integer[], $9::double precision[], $10::text[], $11::integer[],
    $12::double precision[], $13::double precision[], $14::double precision[], $15::text[], $16::boolean[], $17::text[],
    $18::boolean[], $19::boolean[]) with ordinality
    as k(queue, task, priority, delay, at, max_attempts, timeout, budget, expires, origin, follow, bundle, blocked, needed, number)
), given as materialized (
  select j.id, j.args, j.meta, j.key, k.*,
    case when g.said is not null then array(select json_array_elements_text(g.said::json)) end as gates
  from unnest(string_to_array($1, chr(31)), string_to_array($2, chr(31)), string_to_array($3, chr(31))::bigint[],
    string_to_array($4, chr(31), ''), string_to_array($5, chr(31), '')) with ordinality
    as j(id, args, kind, meta, key, place)
  join kind k on k.number = coalesce(j.kind, 1)
  join unnest($20::text[]) with ordinality as g(said, place) on g.place = j.place
  order by j.place
), inserted as (
  insert into :"schema".job (id, queue, task, args, priority, state, due_at, max_attempts, timeout, deadline, budget,
    expires_at, origin, via, meta, key, follow, bundle_id, created_at, gates, gate)
  select id::uuid, queue, task, args::json, priority,
    case when blocked then 'blocked' when due_at > now then 'scheduled' when gates is not null then 'blocked' else 'ready' end, due_at,
    max_attempts, timeout, case when budget is not null then least(due_at + make_interval(secs => budget), :'latest') end, budget,
    case when expires is not null then least(due_at + make_interval(secs => expires), :'latest') end,
    origin, 'py', meta::json, key, case when needed then 2 else 0 end | follow::integer, bundle::uuid, now,
    gates, case when blocked is not true and due_at <= now then gates[1] end
  from given
  on conflict on constraint job_pkey do nothing
  returning id, case when gate is null then queue else '' end as queue, case when state <> 'ready' then due_at end as due,
    state <> 'blocked' or gate is not null as wakes
), woken as materialized (
  select :"schema".wake(queue, min(due), $21) from inserted where wakes group by queue, due is null
), told as materialized (
  select (select count(*) from given) = (select count(*) from inserted) + 0 * (select count(*) from woken) as all_of_them
)
select null::text as id from told where all_of_them
union all
select inserted.id::text as id from told, inserted where not all_of_them;

-- name: insert_job
-- takes: id text, queue text, task text, args text, priority integer, delay double precision, at text, max_attempts integer, timeout double precision, budget double precision, expires double precision, origin text, meta text, follow boolean, always boolean
-- gives: id text, woken void
-- One plain job, without key, bundle, edges and gates, at 233 us of the server instead of 308; 20 us of it since nothing is
-- stored in between, as `with` does. No row: the id is there already.
insert into :"schema".job (id, queue, task, args, priority, state, due_at, max_attempts, timeout, deadline, budget,
  expires_at, origin, via, meta, follow, created_at)
select $1::text::uuid, $2::text, $3::text, $4::text::json, $5::integer, case when due_at > now then 'scheduled' else 'ready' end, due_at,
  $8::integer, $9::double precision,
  case when $10::double precision is not null then least(due_at + make_interval(secs => $10), :'latest') end, $10,
  case when $11::double precision is not null then least(due_at + make_interval(secs => $11), :'latest') end,
  $12::text, 'py', $13::text::json, $14::boolean::integer, now
from (
  select coalesce($7::text::timestamptz, now + make_interval(secs => $6), now) as due_at, now
  from clock_timestamp() as now offset 0
) as due
on conflict on constraint job_pkey do nothing
returning id::text as id, :"schema".wake(queue, case when state = 'scheduled' then due_at end, $15) as woken;

-- name: archived_ids
-- takes: ids text[]
-- gives: id text
-- A statement of its own, after the insert, so that its snapshot is newer: a job that ran in between is in the archive.
-- One index probe an id: of a day that was not analysed yet, `id = any(...)` read every row at 50 ids. offset 0 keeps the
-- planner from making a join of it.
select g.id from unnest($1::text[]) as g(id)
cross join lateral (select a.id from :"schema".job_archive a where a.id = g.id::uuid offset 0) as a;

-- name: withdraw_jobs
-- takes: ids text[], keys text[]
-- gives:
-- Takes back what this transaction has just inserted, where the archive knew the id; and the keys that it took for it.
with gone as (
  delete from :"schema".job where id = any($1::text[]::uuid[])
)
delete from :"schema".job_key k where k.key = any($2::text[]) and k.job_id = any($1::text[]::uuid[]);

-- name: give_up_keys
-- takes: keys text[], ids text[]
-- gives:
-- What this transaction has just taken for jobs that it did not insert.
delete from :"schema".job_key k where k.key = any($1::text[]) and k.job_id = any($2::text[]::uuid[]);

-- name: take_keys
-- takes: keys text[], ids text[], scopes text[], periods double precision[]
-- gives: key text, job_id text, taken boolean
-- What was free is taken; of the rest, who held it when this began. Sorted, so that two batches never wait for each
-- other in a circle. A key that somebody holds is not locked (as `on conflict do update` would do, taken or not): a
-- caller's open transaction must not hold up its claim or its finish. A key whose job is nowhere is free: somebody has
-- deleted that past us. (One of scope `period` outlives its job.)
with given as materialized (
  select key, id::uuid as job_id, scope, case when scope = 'period' then now() + make_interval(secs => period) end as expires_at
  from unnest($1::text[], $2::text[], $3::text[], $4::double precision[]) as g(key, id, scope, period)
  order by key collate "C"
), there as materialized (
  select k.key, k.job_id, k.xmin as version, k.expires_at <= now() or k.scope <> 'period' and j.id is null as free
  from unnest($1::text[]) as g(key)
  cross join lateral (select k.*, k.xmin from :"schema".job_key k where k.key = g.key offset 0) as k
  left join lateral (select j.id from :"schema".job j where j.id = k.job_id offset 0) as j on true
), inserted as (
  -- not where there is one: if another renews it in this moment we would wait for that, in no order
  insert into :"schema".job_key (key, job_id, scope, expires_at)
  select key, job_id, scope, expires_at from given g where not exists (select from there t where t.key = g.key)
  order by key collate "C"
  on conflict on constraint job_key_pkey do nothing
  returning key, job_id
), over as materialized (
  -- After the inserts: an insert may wait for a key that another renews, if this snapshot does not show it; whoever renews
  -- must not wait for an insert then. Of this very version: who has changed it since has taken it, for a job that this
  -- snapshot may not show yet.
  select k.key from :"schema".job_key k
  where k.key = any(array(select key from there where free)) and k.xmin = any(array(select version from there where free))
    and (select count(*) from inserted) >= 0
  order by k.key for update
), renewed as (
  update :"schema".job_key k set job_id = g.job_id, scope = g.scope, expires_at = g.expires_at
  from unnest(array(select key from over)) as o(key) join given g on g.key = o.key  -- see promote_due
  where k.key = o.key
  returning k.key, k.job_id
), taken as (
  select key, job_id from renewed union all select key, job_id from inserted
)
select key, job_id::text as job_id, true as taken from taken
union all
select key, job_id::text, false from there where key <> all(array(select key from taken));

-- name: key_holders
-- takes: keys text[]
-- gives: key text, job_id text
select key, job_id::text as job_id from :"schema".job_key where key = any($1::text[]);

-- name: lock_holders
-- takes: keys text[]
-- gives: key text, job_id text, waits boolean
-- Who holds these keys, and whether it waits, be it for other jobs; those that wait are locked, in the order of their ids as all writers do, and
-- before any key is taken: claims and finishes lock jobs first too. No claim can free the key of one that is locked.
with held as materialized (
  select k.key, k.job_id from unnest($1::text[]) as g(key)
  cross join lateral (
    select k.key, k.job_id from :"schema".job_key k
    where k.key = g.key and (k.expires_at is null or k.expires_at > now()) offset 0) as k
  order by k.job_id
), waiting as materialized (
  select j.id from held
  cross join lateral (
    select j.id from :"schema".job j where j.id = held.job_id and j.fence = 0 for update) as j
)
select key, job_id::text as job_id, job_id = any(array(select id from waiting)) as waits from held;

-- name: pause
-- takes: seconds double precision
-- gives:
-- Between two tries, with nothing locked: on a caller's connection of whatever kind nothing else can wait.
select from pg_sleep($1);

-- name: lock_late_holders
-- takes: keys text[]
-- gives: key text, job_id text, waits boolean
-- The same for holders that came after that look, when keys were taken: then nobody may be waited for. Null: it waits, and
-- somebody else has locked it.
with held as materialized (
  select k.key, k.job_id, j.fence = 0 as waits from unnest($1::text[]) as g(key)
  cross join lateral (select k.key, k.job_id from :"schema".job_key k where k.key = g.key offset 0) as k
  left join lateral (select j.fence from :"schema".job j where j.id = k.job_id offset 0) as j on true
), waiting as materialized (
  select j.id from held
  cross join lateral (
    select j.id from :"schema".job j where j.id = held.job_id and j.fence = 0 for update skip locked) as j
)
select key, job_id::text as job_id,
  case when job_id = any(array(select id from waiting)) then true when waits then null else false end as waits
from held;

-- name: change_holders
-- takes: ids text[], args text[], metas text[], moves boolean[], delays double precision[], ats text[], always boolean
-- gives: id text
-- Jobs that this transaction has locked while they waited get other arguments, where given, and another due time, where
-- they move: those line up anew, and their limits move along. Claims have skipped them meanwhile: hence the wake-up, also where nothing moves.
-- Those that wait for other jobs go on doing so, and wake nobody.
with clock as materialized (
  select clock_timestamp() as now
), given as materialized (
  select g.id::uuid as id, g.args, g.meta, clock.now,
    case when g.move then coalesce(g.at::timestamptz, clock.now + make_interval(secs => g.delay), clock.now) end as due_at
  from clock, unnest($1::text[], $2::text[], $3::text[], $4::boolean[], $5::double precision[], $6::text[])
    as g(id, args, meta, move, delay, at)
), changed as (
  update :"schema".job j
  set args = coalesce(given.args::json, j.args), meta = coalesce(given.meta::json, j.meta),
    due_at = coalesce(given.due_at, j.due_at),
    -- within the range, however far it was moved before
    deadline = case when j.deadline is not null then
      least(greatest(j.deadline + (coalesce(given.due_at, j.due_at) - j.due_at), :'earliest'), :'latest') end,
    expires_at = case when j.expires_at is not null then
      least(greatest(j.expires_at + (coalesce(given.due_at, j.due_at) - j.due_at), :'earliest'), :'latest') end,
    state = case when given.due_at is null or j.state = 'blocked' and j.gate is null then j.state
      when given.due_at > given.now then 'scheduled' when j.keeps < cardinality(j.gates) then 'blocked' else 'ready' end,
    passed = case when given.due_at is null then j.passed else j.keeps end,
    gate = case when given.due_at is null then j.gate
      when given.due_at <= given.now and not (j.state = 'blocked' and j.gate is null) then j.gates[j.keeps + 1] end,
    token_until = case when given.due_at is null then j.token_until end,
    seq = case when given.due_at is null then j.seq else nextval(':"schema".job_seq') end
  from given where j.id = any(array(select id from given)) and j.id = given.id
  returning j.id, case when j.gate is null then j.queue else '' end as queue, j.state <> 'blocked' or j.gate is not null as wakes,
    case when j.state <> 'ready' then j.due_at end as due
), woken as materialized (
  select :"schema".wake(queue, min(due), $7) from changed where wakes group by queue, due is null
)
select id::text as id from changed where (select count(*) from woken) >= 0;

-- name: known_ids
-- takes: ids text[]
-- gives: id text
-- Which of these were stored before, whether they have ended or not.
select j.id::text as id from :"schema".job j where j.id = any($1::text[]::uuid[])
union all
select g.id from unnest($1::text[]) as g(id)
cross join lateral (select a.id from :"schema".job_archive a where a.id = g.id::uuid offset 0) as a;
