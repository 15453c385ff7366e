-- name: insert_bundle
-- takes: id uuid, name text, origin text, parent_id uuid, callbacks text
-- gives: id uuid, belongs boolean
-- Open and without members. Nothing if it is there already: whoever sends one again, under an id of their own, has nothing new to say. It counts at
-- once as a member of its parent, to which it does not belong if that has ended.
with inserted as (
  insert into :"schema".bundle (id, name, origin, parent_id, open, callbacks)
  values ($1, $2, $3, $4, true, $5::text::json)
  on conflict on constraint bundle_pkey do nothing
  returning id, parent_id
), parent as (
  update :"schema".bundle set added = added + 1
  where id = (select parent_id from inserted) and finished_at is null and cancel_asked is null
  returning id
)
select id, parent_id is null or exists (select from parent) as belongs from inserted;

-- name: add_to_bundle
-- takes: id uuid, added bigint, close boolean
-- gives: id uuid
-- Nothing if it has ended, or is to end: whoever cancels looks at the members that are there by then. Its row stays locked
-- until the jobs are in: no fold ends it meanwhile.
update :"schema".bundle set added = added + $2, open = open and not $3
where id = $1 and finished_at is null and ($2::bigint = 0 or cancel_asked is null)
returning id;

-- name: note_added
-- takes: target uuid, added integer, job_id uuid, fence bigint, worker_id uuid
-- gives: target uuid
-- A running member, or a callback, adds others: its own end, which is noted later, cannot be added up without this. Nothing
-- if its claim is lost.
insert into :"schema".fact (target, added)
select $1, $2 from (
  select from :"schema".job j where j.id = $3 and j.fence = $4 and j.worker_id = $5 and j.bundle_id = $1 for key share
) as member
returning target;

-- name: touch_bundle
-- takes: id uuid
-- gives: told void
-- A worker will add up what there is of it.
with noted as (
  insert into :"schema".fact (target) values ($1)
)
select pg_notify(:'wake_channel', 'f:') as told;

-- name: waiting_facts
-- takes: room bigint
-- gives: target uuid, of_job boolean
-- Bundles, and jobs that others wait for, of which there are facts.
select distinct f.target, f.of_job from (select target, of_job from :"schema".fact limit 20000) as f limit $1;

-- name: fold_bundles
-- takes: ids uuid[]
-- gives: id uuid, pending bigint, finished boolean, parent_id uuid
-- Adds up what has been noted of these bundles, and ends those of which nothing is left. Whoever has the row of one is
-- folding it, or adds to it, or has since this snapshot was taken: its facts stay, for the next time. A member that was revived, or added, opens a finished bundle again; if it has ended by now too, that is a new round.
-- None ends while there is a fact of a job that its members wait for: it may revive some of them, or cancel them.
with locked as materialized (
  select b.* from unnest($1::uuid[]) as g(id)
  cross join lateral (select b.id, b.xmin as version from :"schema".bundle b where b.id = g.id offset 0) as seen
  cross join lateral (
    select * from :"schema".bundle b where b.id = seen.id and b.xmin = seen.version for update skip locked) as b
), gone as (
  delete from :"schema".fact f
  where not f.of_job and (f.target = any(array(select id from locked)) or (
    f.target = any($1::uuid[]) and not exists (select from :"schema".bundle b where b.id = f.target)))
  returning f.*
), sums as materialized (
  select target, sum(added)::bigint as added, sum(completed)::bigint as completed, sum(cancelled)::bigint as cancelled,
    sum(dead)::bigint as dead, bool_or(added > 0 or least(completed, cancelled, dead) < 0) as again
  from gone group by target
), counted as materialized (
  select l.*, l.added + coalesce(s.added, 0) as new_added, l.completed + coalesce(s.completed, 0) as new_completed,
    l.cancelled + coalesce(s.cancelled, 0) as new_cancelled, l.dead + coalesce(s.dead, 0) as new_dead,
    coalesce(s.again, false) as again
  from locked l left join sums s on s.target = l.id
), judged as materialized (
  select c.*, c.new_added - c.new_completed - c.new_cancelled - c.new_dead as pending,
    not c.open and c.new_added <= c.new_completed + c.new_cancelled + c.new_dead as over,
    case when c.dead > 0 then 'dead' when c.cancelled > 0 then 'cancelled' else 'completed' end as was,
    case when c.new_dead > 0 then 'dead' when c.new_cancelled > 0 then 'cancelled' else 'completed' end as outcome
  from counted c
), told as materialized (
  select j.*, j.over and (j.finished_at is null or j.again) and not exists (
      select from :"schema".fact f cross join lateral (
        select from :"schema".node n where n.bundle_id = j.id and n.job_id = f.target offset 0) as n
      where f.of_job and j.over) as ends,
    j.finished_at is not null and (not j.over or j.again) as opens
  from judged j
), changed as (
  update :"schema".bundle b
  set added = t.new_added, completed = t.new_completed, cancelled = t.new_cancelled, dead = t.new_dead,
    finished_at = case when t.ends then now() when not t.opens then b.finished_at end,
    round = b.round + t.ends::integer
  from unnest(array(select id from told)) as o(id) join told t on t.id = o.id  -- see promote_due
  where b.id = o.id
), called as (
  insert into :"schema".job (queue, task, args, priority, state, due_at, max_attempts, timeout, deadline, budget, expires_at,
    origin, via, meta, bundle_id, follow)
  select c.queue, c.task, c.args, c.priority, case when c.due_at > now() then 'scheduled' else 'ready' end, c.due_at,
    c.max_attempts, c.timeout, case when c.budget is not null then least(c.due_at + make_interval(secs => c.budget), :'latest') end,
    c.budget, case when c.expires is not null then least(c.due_at + make_interval(secs => c.expires), :'latest') end,
    c.origin, 'py', c.meta, t.id, c.follow | 4
  from told t cross join lateral (
    select r.*, greatest(now(), coalesce(r.at, now() + make_interval(secs => coalesce(r.delay, 0)))) as due_at
    from json_to_recordset(t.callbacks) as r("when" text, queue text, task text, args json, priority smallint, delay double precision,
      at timestamptz, max_attempts integer, timeout double precision, budget double precision, expires double precision, origin text,
      meta json, follow smallint)
  ) as c
  where t.ends and c."when" in ('finish', case t.outcome when 'completed' then 'success' else 'failure' end)
  returning queue, case when state = 'scheduled' then due_at end as due
), woken as materialized (
  select :"schema".wake(queue, min(due), false) from called group by queue, due is null
), passed as (
  insert into :"schema".fact (target, completed, cancelled, dead)
  select parent_id, sum((sign and outcome = 'completed')::integer - (not sign and outcome = 'completed')::integer),
    sum((sign and outcome = 'cancelled')::integer - (not sign and outcome = 'cancelled')::integer),
    sum((sign and outcome = 'dead')::integer - (not sign and outcome = 'dead')::integer)
  from (
    select parent_id, outcome, true as sign from told where ends and parent_id is not null
    union all select parent_id, was, false from told where opens and parent_id is not null) as moves
  group by parent_id, sign  -- a new round with the same outcome is one of the parent too: nothing cancels out
), entering as materialized (
  select :"entering"  -- before a number is drawn: see event_edge()
), logged as (
  insert into :"log" (type, origin, bundle_id, jobs, reason)
  select type, origin, id, array[id], reason from entering cross join (
    select 'bundle.reopened' as type, origin, id, null::text as reason from told where opens
    union all select 'bundle.finished', origin, id, outcome from told where ends) as news
)
select id, pending, ends as finished, case when ends or opens then parent_id end as parent_id from told
where (select count(*) from woken) >= 0;

-- name: find_bundle
-- takes: id uuid
-- gives: id uuid, name text, origin text, parent_id uuid, open boolean, added bigint, completed bigint, cancelled bigint, dead bigint, round integer, cancel_asked timestamptz, created_at timestamptz, finished_at timestamptz
-- With what is not added up yet: exact at any time. One whose member was revived, or added, has not ended, though the fold
-- that says so is still to come.
select b.id, b.name, b.origin, b.parent_id, b.open, b.added + f.added as added, b.completed + f.completed as completed,
  b.cancelled + f.cancelled as cancelled, b.dead + f.dead as dead, b.round, b.cancel_asked, b.created_at,
  case when not f.again then b.finished_at end as finished_at
from :"schema".bundle b cross join lateral (
  select coalesce(sum(f.added), 0)::bigint as added, coalesce(sum(f.completed), 0)::bigint as completed,
    coalesce(sum(f.cancelled), 0)::bigint as cancelled, coalesce(sum(f.dead), 0)::bigint as dead,
    coalesce(bool_or(f.added > 0 or least(f.completed, f.cancelled, f.dead) < 0), false) as again
  from :"schema".fact f where f.target = b.id) as f
where b.id = $1;

-- name: list_bundles
-- takes: before uuid, room bigint, unfinished boolean, name text
-- gives: id uuid, name text, origin text, parent_id uuid, open boolean, added bigint, completed bigint, cancelled bigint, dead bigint, round integer, cancel_asked timestamptz, created_at timestamptz, finished_at timestamptz
-- The newest first.
select b.id, b.name, b.origin, b.parent_id, b.open, b.added + f.added as added, b.completed + f.completed as completed,
  b.cancelled + f.cancelled as cancelled, b.dead + f.dead as dead, b.round, b.cancel_asked, b.created_at,
  case when not f.again then b.finished_at end as finished_at
from (
  select * from :"schema".bundle b
  where b.id < $1 and (not $3 or b.finished_at is null) and ($4::text is null or b.name = $4)
  order by b.id desc limit $2
) as b cross join lateral (
  select coalesce(sum(f.added), 0)::bigint as added, coalesce(sum(f.completed), 0)::bigint as completed,
    coalesce(sum(f.cancelled), 0)::bigint as cancelled, coalesce(sum(f.dead), 0)::bigint as dead,
    coalesce(bool_or(f.added > 0 or least(f.completed, f.cancelled, f.dead) < 0), false) as again
  from :"schema".fact f where f.target = b.id) as f
order by b.id desc;

-- name: bundle_members
-- takes: bundle_id uuid, states text[], before uuid, room bigint, payload boolean, queue text, task text, origin text, wanted text
-- gives: id uuid, task text, queue text, state text, priority smallint, attempt integer, max_attempts integer, crashes smallint, lost smallint, due_at timestamptz, created_at timestamptz, claimed_at timestamptz, finished_at timestamptz, timeout double precision, deadline timestamptz, expires_at timestamptz, origin text, worker_id uuid, lease_until timestamptz, cancel_asked timestamptz, key text, bundle_id uuid, gates text[], waits_for text, reason text, errors text, args text, result text, meta text, progress text, read_at timestamptz
-- The newest first, callbacks too. A range in the order of job_bundle, so that no other index fits: with `bundle_id = $1`
-- each page read and sorted all members, or went through all jobs by their ids. `(select $1)` hides the values from the
-- planner, and `case` the states: if it sees them, it believes that hardly a row is meant.
select page.* from (
(select id, task, queue, state, priority, attempt, max_attempts, crashes, lost, due_at, created_at, claimed_at,
  null::timestamptz as finished_at, timeout, deadline, expires_at, origin, worker_id, lease_until, cancel_asked, key, bundle_id,
  gates, gate as waits_for, null::text as reason, errors::text as errors, case when $5 then args::text end as args, null::text as result, meta::text as meta,
  progress::text as progress, now() as read_at
from :"schema".job where bundle_id >= (select $1::uuid) and (bundle_id, id) < ((select $1::uuid), (select $3::uuid)) and case when state = any($2::text[])
  and ($6::text is null or queue = $6) and ($7::text is null or task = $7) and ($8::text is null or origin = $8)
  and ($9::text is null or :"schema".job_meant($9::text::jsonb, task, null, key, errors, args, progress)) then true end
order by bundle_id desc, id desc limit $4)
union all
(select id, task, queue, state, priority, attempt, max_attempts, crashes, lost, due_at, created_at, claimed_at,
  finished_at, timeout, deadline, expires_at, origin, worker_id, null, null, key, bundle_id,
  gates, null, reason, errors::text, case when $5 then args::text end, case when $5 then result::text end, meta::text, progress::text, now()
from :"schema".job_archive where bundle_id >= (select $1::uuid) and (bundle_id, id) < ((select $1::uuid), (select $3::uuid)) and case when state = any($2::text[])
  and ($6::text is null or queue = $6) and ($7::text is null or task = $7) and ($8::text is null or origin = $8)
  and ($9::text is null or :"schema".job_meant($9::text::jsonb, task, reason, key, errors, args, progress)) then true end
order by bundle_id desc, id desc limit $4)
) as page order by id desc limit $4;

-- name: bundle_results
-- takes: bundle_id uuid, task text, after uuid, room bigint
-- gives: id uuid, result text
-- Of its members that are completed, in the order of their ids; see bundle_members. Of those that the archive has forgotten
-- the results are in `node`, not the last one of a member that was run again since. The archive is read no further than
-- those go that were found there: else each page would read it to its end.
with kept as materialized (
  select n.job_id as id, n.result::text as result from :"schema".node n
  where n.kept and n.bundle_id = (select $1::uuid) and n.task = (select $2::text) and n.job_id > (select $3::uuid)
    and case when n.outcome = 'completed' then (select j.id from :"schema".job j where j.id = n.job_id) is null end
  order by n.job_id limit $4
), upto as materialized (
  select coalesce((select id from kept order by id offset $4 - 1), 'ffffffff-ffff-ffff-ffff-ffffffffffff') as id
)
select distinct on (id) id, result from (
(select id, result::text as result, 1 as place from :"schema".job_archive
where bundle_id <= (select $1::uuid) and (bundle_id, id) <= ((select $1::uuid), (select id from upto))
  and (bundle_id, id) > ((select $1::uuid), (select $3::uuid)) and case when task = $2 and state = 'completed' then follow & 4 = 0 end
order by bundle_id, id limit $4)
union all
select id, result, 2 from kept
) as page order by id, place limit $4;

-- name: child_bundles
-- takes: parent_id uuid
-- gives: id uuid
select id from :"schema".bundle where parent_id = $1;

-- name: ask_bundle_to_end
-- takes: id uuid
-- gives: id uuid
update :"schema".bundle set cancel_asked = coalesce(cancel_asked, now()), open = false where id = $1 and finished_at is null returning id;

-- name: delete_bundle
-- takes: id uuid
-- gives: id uuid
-- Nothing if there is still a member, a node, or one of its bundles. To its parent it is as good as cancelled if it had not ended.
with gone as (
  delete from :"schema".bundle b where b.id = $1
    and (  -- by its place in job_bundle: as `exists`, statistics from before its members went make it a look at all jobs
      select j.bundle_id from :"schema".job j where j.bundle_id >= $1 order by j.bundle_id, j.id limit 1) is distinct from $1
    and (
      select n.bundle_id from :"schema".node n where n.bundle_id >= $1 order by n.bundle_id, n.job_id limit 1) is distinct from $1
    and not exists (select from :"schema".bundle c where c.parent_id = $1)
  returning id, parent_id, finished_at
), passed as (
  insert into :"schema".fact (target, cancelled)
  select parent_id, 1 from gone where parent_id is not null and finished_at is null
  returning target
), hinted as materialized (
  select pg_notify(:'wake_channel', 'f:') from passed
), facts as (
  delete from :"schema".fact f where f.target = any(array(select id from gone))
)
select id from gone where (select count(*) from hinted) >= 0;

-- name: mute_bundle
-- takes: id uuid
-- gives: id uuid
-- It is to be deleted: the end of its last member calls nobody back, and nobody adds to it.
update :"schema".bundle set callbacks = '[]', open = false, cancel_asked = coalesce(cancel_asked, now()) where id = $1 returning id;

-- name: delete_nodes
-- takes: bundles uuid[], room bigint
-- gives: job_id uuid
-- At most so many, and what their jobs still waited for: of bundles of which no job is left that has not ended.
with over as materialized (
  select g.id from unnest($1::uuid[]) as g(id)
  where (select j.bundle_id from :"schema".job j where j.bundle_id >= g.id order by j.bundle_id, j.id limit 1) is distinct from g.id
), found as materialized (  -- by place, see delete_finished; a range, see bundle_members
  select n.job_id, n.place, n.after from over o cross join lateral (
    select n.job_id, n.ctid as place, n.after from :"schema".node n where n.bundle_id between o.id and o.id
    order by n.bundle_id, n.job_id limit $2 for update skip locked) as n
  limit $2
), waits as (
  -- no member's: those that it waits for are another bundle's to say
  delete from :"schema".dependency d where d.job_id = any(array(select job_id from found where after <> '{}'))
)
delete from :"schema".node where ctid = any(array(select place from found)) returning job_id;

-- name: old_bundles
-- takes: age double precision, room bigint
-- gives: id uuid
-- Those that ended so many seconds ago, and of which no job is left that has not.
select b.id from :"schema".bundle b where b.finished_at < now() - make_interval(secs => $1)
  and (select j.bundle_id from :"schema".job j where j.bundle_id >= b.id order by j.bundle_id, j.id limit 1) is distinct from b.id
order by b.finished_at limit $2;

-- name: forget_bundles
-- takes: ids uuid[], age double precision
-- gives: id uuid
-- Those of these that ended so many seconds ago still, and have no nodes left.
delete from :"schema".bundle where id = any(array(
  select b.id from unnest($1::uuid[]) as g(id) cross join lateral (
    select b.id from :"schema".bundle b where b.id = g.id
      and case when b.finished_at < now() - make_interval(secs => $2) then (
        select n.job_id from :"schema".node n
        where n.bundle_id >= b.id and n.bundle_id <= b.id order by n.bundle_id, n.job_id limit 1) is null end
    for update skip locked) as b))
returning id;

-- name: bundles_by_part
-- takes: part text
-- gives: id uuid
-- Of the newest ones, for people type what they see.
select n.id from (select b.id from :"schema".bundle b order by b.id desc limit 20000) as n
where starts_with(n.id::text, $1) or right(n.id::text, length($1)) = $1 limit 2;

-- name: heal_bundles
-- takes: room bigint
-- gives: id uuid
-- Bundles that would never end: members are gone without a fact, deleted past us or ended by a version that knows no facts.
-- To a bundle they are as good as cancelled. Every statement of ours moves members and facts together, so that no
-- snapshot shows such a bundle in passing. Ranges of one value, see resolve_jobs.
with lost as materialized (
  select b.id, b.added - b.completed - b.cancelled - b.dead as members from :"schema".bundle b
  where b.finished_at is null and not b.open and b.added > b.completed + b.cancelled + b.dead
    and (select f.target from :"schema".fact f where f.target >= b.id and f.target <= b.id order by f.target limit 1) is null
    and (
      select c.id from :"schema".bundle c
      where c.parent_id >= b.id and c.parent_id <= b.id and c.finished_at is null order by c.parent_id limit 1) is null
    and (
      select j.id from :"schema".job j
      where j.bundle_id >= b.id and j.bundle_id <= b.id and j.follow & 4 = 0 order by j.bundle_id, j.id limit 1) is null
  order by b.created_at limit $1 for update skip locked
)
insert into :"schema".fact (target, cancelled) select id, members from lost returning target as id;
