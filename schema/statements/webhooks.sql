-- name: create_webhook
-- takes: id uuid, url text, types text[], task text, queue text, origin text, bundle_id uuid, job_id uuid, secret_env text
-- gives: id uuid
-- It is told of what is logged from now on.
insert into :"schema".webhook (id, url, types, task, queue, origin, bundle_id, job_id, secret_env, cursor)
select $1::uuid, $2::text, $3::text[], $4::text, $5::text, $6::text, $7::uuid, $8::uuid, $9::text, e.edge from :"schema".event_edge() e
returning id;

-- name: list_webhooks
-- takes: id uuid
-- gives: id uuid, url text, types text[], task text, queue text, origin text, bundle_id uuid, job_id uuid, secret_env text, version integer, rotated_at timestamptz, failures integer, failing_since timestamptz, paused_at timestamptz, disabled_reason text, created_at timestamptz
-- One, or all, the oldest first.
select id, url, types, task, queue, origin, bundle_id, job_id, secret_env, version, rotated_at, failures, failing_since,
  paused_at, disabled_reason, created_at
from :"schema".webhook where $1::uuid is null or id = $1 order by created_at, id;

-- name: rotate_webhook
-- takes: id uuid
-- gives: id uuid
update :"schema".webhook set version = version + 1, rotated_at = now() where id = $1 and secret_env is null returning id;

-- name: pause_webhook
-- takes: id uuid
-- gives: id uuid
update :"schema".webhook set paused_at = coalesce(paused_at, now()) where id = $1 returning id;

-- name: resume_webhook
-- takes: id uuid
-- gives: id uuid
-- Also one that was disabled; its failures are forgotten.
update :"schema".webhook
set paused_at = null, disabled_reason = null, failing_since = null, failures = 0
where id = $1 returning id;

-- name: delete_webhook
-- takes: id uuid
-- gives: id uuid
delete from :"schema".webhook where id = $1 returning id;

-- name: active_webhooks
-- takes:
-- gives: id uuid, cursor bigint
-- The look that every relay takes now and then.
select id, cursor from :"schema".webhook where paused_at is null and disabled_reason is null;

-- name: take_webhook
-- takes: id uuid, edge bigint, most bigint
-- gives: types text[], task text, queue text, origin text, bundle_id uuid, job_id uuid, cursor bigint, waiting bigint
-- For this transaction, if no other relay has it and it is behind; and how many of its deliveries wait, up to so many.
with mine as materialized (
  select * from :"schema".webhook
  where id = $1 and paused_at is null and disabled_reason is null and cursor < $2 for update skip locked
)
select types, task, queue, origin, bundle_id, job_id, cursor, (
  select count(*) from (
    select from :"schema".job j where j.task = 'jobqueue.webhook' and j.origin = 'webhook:' || mine.id limit $3) as found)
  as waiting
from mine;

-- name: move_cursor
-- takes: id uuid, cursor bigint
-- gives:
update :"schema".webhook set cursor = $2 where id = $1;

-- name: webhook_to_call
-- takes: id uuid
-- gives: url text, secret_env text, version integer, both boolean, paused boolean, disabled_reason text, now bigint
-- What a delivery needs. `both`: it was given a new secret within the last day, and signs with the one before as well.
select url, secret_env, version, coalesce(rotated_at > now() - interval '1 day', false) as both,
  paused_at is not null as paused, disabled_reason, extract(epoch from clock_timestamp())::bigint as now
from :"schema".webhook where id = $1;

-- name: note_delivered
-- takes: id uuid
-- gives:
-- Changes nothing as long as all goes well.
update :"schema".webhook set failing_since = null, failures = 0 where id = $1 and failing_since is not null;

-- name: note_failed
-- takes: id uuid, job_id uuid, attempt integer, gone boolean, seconds double precision
-- gives: disabled_reason text
-- One try more has failed. It is disabled if its receiver wants no more, or if nothing but failures came for so long; the
-- one statement that does so also logs it.
with failed as materialized (
  update :"schema".webhook
  set failures = failures + 1, failing_since = coalesce(failing_since, now()),
    disabled_reason = case when $4::boolean then 'gone' when failing_since < now() - make_interval(secs => $5) then 'failing' end
  where id = $1 and disabled_reason is null
  returning id, disabled_reason
), entering as materialized (
  select pg_advisory_xact_lock_shared(:'wake_class', :'log_key')  -- before a number is drawn: see event_edge()
), logged as (
  insert into :"log" (type, task, queue, origin, jobs, attempts, reason)
  select 'webhook.disabled', 'jobqueue.webhook', 'webhooks', 'webhook:' || id, array[$2::uuid], array[$3::integer], disabled_reason
  from entering cross join failed where disabled_reason is not null
)
select disabled_reason from failed where disabled_reason is not null;
