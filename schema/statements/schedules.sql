-- name: take_due_schedules
-- takes: room bigint, unseen double precision, without text[]
-- gives: name text, source text, task text, queue text, args text, options text, cron text, tz text, missed text, overlap text, jitter double precision, starts_at timestamptz, ends_at timestamptz, next_at timestamptz, last_at timestamptz, last_job uuid, paused_at timestamptz, paused_until timestamptz, seen_at timestamptz, broken text, created_at timestamptz, now timestamptz
-- For this transaction, past those that another worker fires, and those that shall wait. One of the code only while some worker declares it: said by
-- `case`, of which the planner believes nothing, it reads by `schedule_next` and stops, whatever it has learned of sources.
select name, source, task, queue, args::text, options::text, cron, tz, missed, overlap, jitter, starts_at, ends_at, next_at,
  last_at, last_job, paused_at, paused_until, seen_at, broken, created_at, now()
from :"schema".schedule
where next_at <= now() and case source when 'stored' then true else seen_at > now() - make_interval(secs => $2) end
  and name <> all($3::text[])
order by next_at limit $1 for update skip locked;

-- name: next_schedule
-- takes: unseen double precision
-- gives: seconds double precision
-- In how many seconds the next one is due; null without any.
select extract(epoch from next_at - clock_timestamp())::double precision as seconds
from :"schema".schedule
where next_at is not null and case source when 'stored' then true else seen_at > now() - make_interval(secs => $1) end
order by next_at limit 1;

-- name: move_schedules
-- takes: names text[], nexts text[], lasts text[], jobs text[]
-- gives:
-- Fired, in this transaction, which holds their rows. What was paused until now is not any more.
update :"schema".schedule s
set next_at = g.next::timestamptz, last_at = coalesce(g.last::timestamptz, s.last_at), last_job = coalesce(g.job::uuid, s.last_job),
  paused_at = null, paused_until = null
from unnest($1::text[], $2::text[], $3::text[], $4::text[]) as g(name, next, last, job)
where s.name = g.name;

-- name: break_schedule
-- takes: name text, why text
-- gives:
-- It is fired no more until it is put, declared or resumed anew.
update :"schema".schedule set broken = $2, next_at = null where name = $1;

-- name: unfinished_of
-- takes: ids uuid[]
-- gives: id uuid
select j.id from unnest($1::uuid[]) as g(id)
cross join lateral (select j.id from :"schema".job j where j.id = g.id offset 0) as j;

-- name: log_missed
-- takes: names text[], tasks text[], queues text[], jobs text[], reasons text[], data text[]
-- gives:
-- Planned times that were left out: `jobs` are the ids that the first of each would have had.
with entering as materialized (
  select pg_advisory_xact_lock_shared(:'wake_class', :'log_key')  -- before a number is drawn: see event_edge()
)
insert into :"log" (type, task, queue, origin, jobs, attempts, reason, data)
select 'schedule.missed', g.task, g.queue, 'schedule:' || g.name, array[g.job::uuid], array[0], g.reason, g.data::json
from entering cross join unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
  as g(name, task, queue, job, reason, data);

-- name: lock_schedules
-- takes: names text[]
-- gives: name text, source text, task text, queue text, args text, options text, cron text, tz text, missed text, overlap text, jitter double precision, starts_at timestamptz, ends_at timestamptz, next_at timestamptz, last_at timestamptz, last_job uuid, paused_at timestamptz, paused_until timestamptz, seen_at timestamptz, broken text, created_at timestamptz, now timestamptz
-- As they stand, to be changed in this transaction. Sorted, so that two of us never wait for each other in a circle.
select name, source, task, queue, args::text, options::text, cron, tz, missed, overlap, jitter, starts_at, ends_at, next_at,
  last_at, last_job, paused_at, paused_until, seen_at, broken, created_at, clock_timestamp() as now
from :"schema".schedule where name = any($1::text[]) order by name for update;

-- name: schedule_clock
-- takes:
-- gives: now timestamptz
select clock_timestamp() as now;

-- name: put_schedules
-- takes: source text, names text[], tasks text[], queues text[], args text[], options text[], crons text[], tzs text[], misseds text[], overlaps text[], jitters double precision[], starts text[], ends text[], nexts text[]
-- gives: name text
-- New ones, or other words for those that there are; what they have been through stays. Of the code's own none that was
-- stored, and of the stored none of the code's: those are not among the answers. Whoever fires looks again for one that is
-- near, and every six seconds in any case: 100 000 reminders for tomorrow wake nobody.
with given as materialized (
  select * from unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
    $11::double precision[], $12::text[], $13::text[], $14::text[])
    as g(name, task, queue, args, options, cron, tz, missed, overlap, jitter, starts, ends, next)
  order by name collate "C"
), put as (
  insert into :"schema".schedule as s (name, source, task, queue, args, options, cron, tz, missed, overlap, jitter, starts_at,
    ends_at, next_at, seen_at)
  select name, $1, task, queue, args::json, options::json, cron, tz, missed, overlap, jitter, starts::timestamptz,
    ends::timestamptz, next::timestamptz, case when $1 = 'code' then clock_timestamp() end
  from given
  on conflict on constraint schedule_pkey do update
  set task = excluded.task, queue = excluded.queue, args = excluded.args, options = excluded.options, cron = excluded.cron,
    tz = excluded.tz, missed = excluded.missed, overlap = excluded.overlap, jitter = excluded.jitter,
    starts_at = excluded.starts_at, ends_at = excluded.ends_at, next_at = excluded.next_at, seen_at = excluded.seen_at,
    broken = null
  where s.source = excluded.source
  returning name, next_at
), hinted as materialized (
  select pg_notify(:'wake_channel', 's:') from put where next_at < clock_timestamp() + interval '10 s' limit 1
)
select name from put where (select count(*) from hinted) >= 0;

-- name: see_schedules
-- takes: names text[]
-- gives: name text
-- Some worker's code declares them still. The answers are those that are there.
with seen as (
  update :"schema".schedule set seen_at = clock_timestamp()
  where name = any(array(
    select s.name from :"schema".schedule s
    where s.name = any($1::text[]) and s.source = 'code' and s.seen_at < now() - interval '1 minute'
    for update skip locked))
)
select name from :"schema".schedule where name = any($1::text[]);

-- name: steer_schedule
-- takes: name text, next text, pausing boolean, until text
-- gives: name text
-- Paused, perhaps until a moment, or resumed: then what had broken it is tried again.
with steered as (
  update :"schema".schedule
  set next_at = $2::text::timestamptz, paused_at = case when $3 then clock_timestamp() end, paused_until = $4::text::timestamptz,
    broken = case when $3 then broken end
  where name = $1 returning name, next_at
), hinted as materialized (
  select pg_notify(:'wake_channel', 's:') from steered where next_at < clock_timestamp() + interval '10 s'
)
select name from steered where (select count(*) from hinted) >= 0;

-- name: note_triggered
-- takes: name text, job_id text
-- gives:
-- The job that a planned time looks at which must not overlap.
update :"schema".schedule set last_job = $2::text::uuid where name = $1;

-- name: find_schedules
-- takes: names text[]
-- gives: name text, source text, task text, queue text, args text, options text, cron text, tz text, missed text, overlap text, jitter double precision, starts_at timestamptz, ends_at timestamptz, next_at timestamptz, last_at timestamptz, last_job uuid, paused_at timestamptz, paused_until timestamptz, seen_at timestamptz, broken text, created_at timestamptz, now timestamptz
-- Those of these names.
select name, source, task, queue, args::text, options::text, cron, tz, missed, overlap, jitter, starts_at, ends_at, next_at,
  last_at, last_job, paused_at, paused_until, seen_at, broken, created_at, clock_timestamp() as now
from :"schema".schedule where name = any($1::text[]) order by name;

-- name: list_schedules
-- takes: after text, room bigint, source text
-- gives: name text, source text, task text, queue text, args text, options text, cron text, tz text, missed text, overlap text, jitter double precision, starts_at timestamptz, ends_at timestamptz, next_at timestamptz, last_at timestamptz, last_job uuid, paused_at timestamptz, paused_until timestamptz, seen_at timestamptz, broken text, created_at timestamptz, now timestamptz
-- A page by name, after this one. By the inner limit the planner knows that it is not about all, whatever it believes of
-- sources: of `coalesce` that is nothing.
select s.*, clock_timestamp() as now
from (
  select name, source, task, queue, args::text, options::text, cron, tz, missed, overlap, jitter, starts_at, ends_at, next_at,
    last_at, last_job, paused_at, paused_until, seen_at, broken, created_at
  from :"schema".schedule
  where name > $1::text and coalesce(source = $3::text, true)
  order by name limit 1000
) as s limit $2;

-- name: next_firings
-- takes: room bigint, unseen double precision
-- gives: name text, task text, next_at timestamptz, seconds double precision
-- What fires next, the nearest first; in how many seconds.
select name, task, next_at, extract(epoch from next_at - clock_timestamp())::double precision as seconds
from :"schema".schedule
where next_at is not null and case source when 'stored' then true else seen_at > now() - make_interval(secs => $2) end
order by next_at limit $1;

-- name: delete_schedule
-- takes: name text
-- gives: source text
delete from :"schema".schedule where name = $1 returning source;

-- name: forget_schedules
-- takes: seconds double precision
-- gives: name text
-- Those of the code that no worker has declared for so long.
delete from :"schema".schedule
where name = any(array(
  select name from :"schema".schedule
  where source = 'code' and seen_at < now() - make_interval(secs => $1) for update skip locked))
returning name;
