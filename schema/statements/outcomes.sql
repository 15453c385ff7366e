-- name: finish_jobs
-- takes: ids text, fences text, states text, results text, reasons text[], errors text, worker_id uuid
-- gives: id uuid, bundle_id uuid, needed_id uuid
-- Each text is a column of values joined by chr(31); reasons are not, being a handler's own words. Deletes from job,
-- inserts into the archive, for the rows that are still this worker's claim (nobody's: null). Answers with null if those
-- are all, else with their ids; with the bundles that have something to add up, and with the jobs that others wait for. SKIP LOCKED: whoever has one row locked holds up that one job, not all that ended with it.
with mine as materialized (
  -- one index probe a row, whatever the planner believes about the table's size; then no join is needed at all
  select j.*, g.state as outcome, g.result, g.reason, g.error
  from unnest(string_to_array($1, chr(31))::uuid[], string_to_array($2, chr(31))::bigint[], string_to_array($3, chr(31)),
    string_to_array($4, chr(31), ''), $5::text[], string_to_array($6, chr(31), ''))
    as g(id, fence, state, result, reason, error)
  cross join lateral (
    select * from :"schema".job j
    where j.id = g.id and j.fence = g.fence and j.worker_id is not distinct from $7 for update skip locked) as j
), gone as (
  delete from :"schema".job where id = any(array(select id from mine))
), freed as (
  delete from :"schema".job_key k
  where k.key = any(array(select key from mine where key is not null)) and k.scope <> 'period'
    and k.job_id = any(array(select id from mine where key is not null))
), told as materialized (
  -- awaited was set on the row itself: its lock orders a waiter against this finish
  select pg_notify(:'done_channel', id::text) from mine where awaited and pg_notification_queue_usage() < 0.9
), archived as (
  insert into :"schema".job_archive (id, queue, task, args, priority, state, due_at, attempt, max_attempts, crashes, lost,
    fence, worker_id, timeout, deadline, budget, expires_at, origin, via, meta, key, bundle_id, follow, created_at,
    claimed_at, finished_at, result, reason, progress, gates, errors)
  select id, queue, task, args, priority, outcome, due_at, attempt, max_attempts, crashes, lost,
    fence, worker_id, timeout, deadline, budget, expires_at, origin, via, meta, key, bundle_id, follow, created_at,
    claimed_at, now(), result::json, reason, progress, gates, case
      when error is null then errors
      when jsonb_array_length(errors) >= 25
        then (errors - 5) || (error::jsonb || jsonb_build_object('at', now(), 'worker', worker_id, 'began', claimed_at))
      else coalesce(errors, '[]') || (error::jsonb || jsonb_build_object('at', now(), 'worker', worker_id, 'began', claimed_at)) end
  from mine
), noted as (
  insert into :"schema".fact (target, of_job, completed, cancelled, dead)
  select target, of_job, count(*) filter (where outcome = 'completed'), count(*) filter (where outcome = 'cancelled'),
    count(*) filter (where outcome = 'dead')
  from (
    -- not the callbacks of a bundle, which are none of its members
    select bundle_id as target, false as of_job, outcome from mine where bundle_id is not null and follow & 4 = 0
    union all select id, true, outcome from mine where follow & 2 <> 0) as ends
  group by target, of_job
  returning target, of_job
), hinted as materialized (
  -- a worker knows what it has written; of what others end it is told
  select pg_notify(:'wake_channel', 'f:') from noted where $7 is null limit 1
), entering as materialized (
  select :"entering"  -- before a number is drawn: see event_edge()
), logged as (
  insert into :"log" (type, task, queue, origin, bundle_id, jobs, attempts, error, reason)
  select case
      when task <> 'jobqueue.webhook' or outcome = 'cancelled' then 'job.' || outcome
      when outcome = 'completed' then 'webhook.delivered' else 'webhook.failed' end,
    task, queue, origin, bundle_id, array_agg(id), array_agg(attempt), class, why
  from entering cross join (
    -- a handler's own words stay with the job: they may say anything
    select *, error::json ->> 'class' as class,
      case when outcome = 'cancelled' and reason not in ('requested', 'dependency') then 'task' else reason end as why
    from mine) as mine
  group by outcome, task, queue, origin, bundle_id, class, why
), sum as materialized (
  select (select count(*) from mine) = cardinality(string_to_array($1, chr(31))) + 0 * (select count(*) from told) as all_of_them
)
select null::uuid as id, null::uuid as bundle_id, null::uuid as needed_id from sum where all_of_them
union all
select mine.id, null, null from sum, mine where not all_of_them
union all
select null, case when not of_job then target end, case when of_job then target end from noted where (select count(*) from hinted) >= 0;

-- name: return_jobs
-- takes: ids uuid[], fences bigint[], delays double precision[], ats timestamptz[], refunds integer[], keeps boolean[], asides boolean[], queues text[], priorities smallint[], errors text[], losts integer[], seens integer[], gates text[], worker_id uuid
-- gives: id uuid, cancelled boolean
-- Back to scheduled or ready: retry, snooze, put aside, release, sleep. A release keeps its place (seq); the others queue up
-- anew. One that sleeps has `seen` so many signals when it looked for one in vain: if more were sent since, it is due now. It
-- sleeps no longer than its budget lasts, and has started, so it does not expire any more. `gates`, as JSON, are new ones
-- to be passed from the first on; otherwise all but a release gives its places up, but for those that it `keeps`, and lines up anew. A job that was asked to end stays as it is, and is said to be cancelled: the caller finishes it. At most 25 errors are kept: the first five and the latest. Where and when they happened this row and this server say.
with given as materialized (
  select g.*, coalesce(g.at, clock_timestamp() + make_interval(secs => g.delay)) as moment
  from unnest($1::uuid[], $2::bigint[], $3::double precision[], $4::timestamptz[], $5::integer[], $6::boolean[],
    $7::boolean[], $8::text[], $9::smallint[], $10::text[], $11::integer[], $12::integer[], $13::text[])
    as g(id, fence, delay, at, refund, keep, aside, queue, priority, error, lost, seen, lined)
), found as materialized (
  select g.*, j.task, j.queue as from_queue, j.origin, j.bundle_id, j.attempt, j.follow, j.errors,
    j.gates as old_gates, j.passed, j.keeps, j.cancel_asked is not null as cancelled, case
      when g.seen is null then g.moment when j.signals > g.seen then clock_timestamp() else least(g.moment, j.deadline) end as due,
    jsonb_build_object('at', now(), 'worker', j.worker_id, 'began', j.claimed_at) as witness
  from given g
  cross join lateral (
    select * from :"schema".job j
    where j.id = g.id and j.fence = g.fence and j.worker_id = $14 for update skip locked) as j
), ahead as materialized (
  select f.*, f.due > clock_timestamp() as later, case when f.lined is null then f.old_gates else n.gates end as gates,
    case when f.keep and f.lined is null then f.passed when f.lined is null or n.gates = f.old_gates then f.keeps else 0 end as stays
  from found f cross join lateral (
    select nullif(array(select json_array_elements_text(f.lined::json)), '{}') as gates offset 0) as n
), mine as materialized (
  select *, coalesce(stays < cardinality(gates), false) and not later as lines_up from ahead
), returned as (
  update :"schema".job j
  set state = case when mine.later then 'scheduled' when mine.lines_up then 'blocked' else 'ready' end,
    gates = mine.gates, passed = mine.stays, keeps = least(j.keeps, mine.stays),
    gate = case when mine.lines_up then mine.gates[mine.stays + 1] end,
    token_until = case when mine.stays = j.passed then j.token_until end,
    due_at = case when mine.keep then j.due_at else mine.due end,
    expires_at = case when mine.seen is null then j.expires_at end,
    hears = coalesce(mine.seen < 2147483647, false),
    seq = case when mine.keep then j.seq else nextval(':"schema".job_seq') end,
    attempt = greatest(0, j.attempt - mine.refund), lost = j.lost + mine.lost,
    fence = 0, returned = mine.fence, returned_by = j.worker_id, worker_id = null, claim_no = null, lease_until = null,
    aside_since = case when mine.aside then coalesce(j.aside_since, now()) when not mine.keep then null else j.aside_since end,
    queue = coalesce(mine.queue, j.queue), priority = coalesce(mine.priority, j.priority),
    errors = case
      when mine.error is null then j.errors
      when jsonb_array_length(j.errors) >= 25 then (j.errors - 5) || (mine.error::jsonb || mine.witness)
      else coalesce(j.errors, '[]') || (mine.error::jsonb || mine.witness) end
  from mine where j.id = any(array(select id from mine where not cancelled)) and j.id = mine.id
  returning j.id, case when mine.lines_up then '' else j.queue end as queue,
    case when mine.later or mine.lines_up then j.due_at end as due
), woken as materialized (
  select :"schema".wake(queue, min(due), false) from returned group by queue, due is null
), moved as materialized (
  -- a failed attempt is told of every job, what is only put off of those that somebody follows
  select case when error is not null then 'job.retried' when keep or aside then 'job.released'
      when seen is not null then 'job.waiting' else 'job.snoozed' end as type,
    task, from_queue, origin, bundle_id, id, attempt, error::json ->> 'class' as class,
    case when aside then 'aside' when lined is not null then 'limit' end as reason
  from mine where not cancelled and (error is not null or follow & 1 <> 0)
), entering as materialized (
  select :"entering"  -- before a number is drawn: see event_edge()
), logged as (
  insert into :"log" (type, task, queue, origin, bundle_id, jobs, attempts, error, reason)
  select type, task, from_queue, origin, bundle_id, array_agg(id), array_agg(attempt), class, reason
  from entering cross join moved
  group by type, task, from_queue, origin, bundle_id, class, reason
)
select id, cancelled from mine where (select count(*) from woken) >= 0;

-- name: already_finished
-- takes: ids uuid[], fences bigint[], worker_id uuid
-- gives: id uuid, state text
-- After a lost answer: which of the refused outcomes were written by this very claim, and what they were.
select a.id, a.state from unnest($1::uuid[], $2::bigint[]) as g(id, fence)
cross join lateral (select a.id, a.state from :"schema".job_archive a where a.id = g.id and a.fence = g.fence
  and a.worker_id is not distinct from $3 offset 0) as a;

-- name: already_returned
-- takes: ids uuid[], fences bigint[], worker_id uuid
-- gives: id uuid
-- The same for jobs that were given back, unless another claim has ended since.
select j.id from unnest($1::uuid[], $2::bigint[]) as g(id, fence)
cross join lateral (select j.id from :"schema".job j where j.id = g.id and j.returned = g.fence and j.returned_by = $3
  offset 0) as j;

-- name: still_claimed
-- takes: ids uuid[], fences bigint[], worker_id uuid
-- gives: id uuid
-- Which of the outcomes that were not written only wait for a lock: the claim holds.
select j.id from unnest($1::uuid[], $2::bigint[]) as g(id, fence)
cross join lateral (
  select j.id from :"schema".job j
  where j.id = g.id and j.fence = g.fence and j.worker_id is not distinct from $3 offset 0) as j;

-- name: holds_still
-- takes: id uuid, fence bigint, worker_id uuid
-- gives: id uuid
-- For a transaction that must not commit without its claim: nobody can take it over before that has ended.
select id from :"schema".job where id = $1 and fence = $2 and worker_id = $3 for share;

-- name: holds_alone
-- takes: id uuid, fence bigint, worker_id uuid
-- gives: id uuid
-- For a transaction that ends the job: as above, and nobody has a share of the row any more, which a finish would pass by.
select id from :"schema".job where id = $1 and fence = $2 and worker_id = $3 for update;
