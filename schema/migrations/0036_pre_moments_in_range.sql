-- Moments of bundles, limits, webhooks and workers that can be read: the years 1970 to 3000, as everywhere since 0008. One row that
-- plain SQL had written with another one ended the list of them all. And limits that can be computed with, as
-- `jobqueue/base/flows/limit.py` has them: a rate over an endless time stopped the gates of all limits.

create or replace function pg_temp.mended(moment timestamptz) returns timestamptz language sql immutable
return case when moment is not null then least(greatest(moment, '1970-01-01 00:00+00'), '3000-01-01 00:00+00') end;

update :"schema".bundle set
  created_at = pg_temp.mended(created_at), cancel_asked = pg_temp.mended(cancel_asked), finished_at = pg_temp.mended(finished_at)
where least(created_at, cancel_asked, finished_at) < '1970-01-01 00:00+00'
  or greatest(created_at, cancel_asked, finished_at) > '3000-01-01 00:00+00';
update :"schema"."limit" set declared_at = pg_temp.mended(declared_at), changed_at = pg_temp.mended(changed_at)
where least(declared_at, changed_at) < '1970-01-01 00:00+00' or greatest(declared_at, changed_at) > '3000-01-01 00:00+00';
update :"schema"."limit" set
  declared = case when jsonb_typeof(declared) = 'object' then declared else '{}' end,
  changed = case when jsonb_typeof(changed) = 'object' then changed end
where jsonb_typeof(declared) <> 'object' or jsonb_typeof(changed) <> 'object';
update :"schema"."limit" set
  declared = declared || jsonb_build_object('concurrency', least(concurrency, 1000000),
    'count', least(count, 1000000), 'per', case when per is not null then least(per, 316224000) end, 'burst', least(burst, 1000000)),
  changed = null
where greatest(concurrency, count, burst) > 1000000 or per > 316224000;
update :"schema".webhook set
  created_at = pg_temp.mended(created_at), rotated_at = pg_temp.mended(rotated_at), failing_since = pg_temp.mended(failing_since),
  paused_at = pg_temp.mended(paused_at)
where least(created_at, rotated_at, failing_since, paused_at) < '1970-01-01 00:00+00'
  or greatest(created_at, rotated_at, failing_since, paused_at) > '3000-01-01 00:00+00';
update :"schema".worker set
  started_at = pg_temp.mended(started_at), seen_at = pg_temp.mended(seen_at), stopped_at = pg_temp.mended(stopped_at),
  alive_until = pg_temp.mended(alive_until), stuck_at = pg_temp.mended(stuck_at)
where least(started_at, seen_at, stopped_at, alive_until, stuck_at) < '1970-01-01 00:00+00'
  or greatest(started_at, seen_at, stopped_at, alive_until, stuck_at) > '3000-01-01 00:00+00';

drop function pg_temp.mended(timestamptz);

-- Not validated: what is there is sound by now, and nobody has to wait for another look at it.
alter table :"schema".bundle add constraint bundle_times_range check (
  least(created_at, cancel_asked, finished_at) >= '1970-01-01 00:00+00'
  and greatest(created_at, cancel_asked, finished_at) <= '3000-01-01 00:00+00') not valid;
alter table :"schema"."limit" add constraint limit_times_range check (
  least(declared_at, changed_at) >= '1970-01-01 00:00+00'
  and greatest(declared_at, changed_at) <= '3000-01-01 00:00+00') not valid,
  add constraint limit_rules_objects check (jsonb_typeof(declared) = 'object' and jsonb_typeof(coalesce(changed, '{}')) = 'object') not valid,
  add constraint limit_rule_range check (greatest(concurrency, count, burst) <= 1000000 and per <= 316224000) not valid;  -- NaN is more
alter table :"schema".webhook add constraint webhook_times_range check (
  least(created_at, rotated_at, failing_since, paused_at) >= '1970-01-01 00:00+00'
  and greatest(created_at, rotated_at, failing_since, paused_at) <= '3000-01-01 00:00+00') not valid;
alter table :"schema".worker add constraint worker_times_range check (
  least(started_at, seen_at, stopped_at, alive_until, stuck_at) >= '1970-01-01 00:00+00'
  and greatest(started_at, seen_at, stopped_at, alive_until, stuck_at) <= '3000-01-01 00:00+00') not valid;
