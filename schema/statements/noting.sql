-- name: note_counts
-- takes: worker_id uuid, number bigint, age double precision, rows text
-- gives: second double precision
-- What a worker has counted, `age` seconds ago. Of one number only once: whoever sends it again, since the answer was lost,
-- waits here for the first one's commit. Rows in the order of their keys: several workers write the same ones. `second`: of
-- the minute, on this clock.
-- Said twice, for two tables: with both in one, and a column that tells them apart, a planner without statistics read all
-- queues for one (3 117 pages instead of 6), and never a bitmap.
with turn as materialized (
  insert into :"schema".noted as n (worker_id, number, at) values ($1, $2, now())
  on conflict on constraint noted_pkey do update set number = excluded.number, at = excluded.at
    where n.number < excluded.number
  returning clock_timestamp() - make_interval(secs => $3) as moment
), said as materialized (
  select t.moment, s.*
  from turn t cross join json_to_recordset($4::text::json) as s(queue text, task text, claimed bigint, completed bigint, cancelled bigint, dead bigint, retried bigint, snoozed bigint, suspended bigint, released bigint, put_aside bigint, lined_up bigint, refused bigint, lost bigint,
    seconds double precision, run bigint[], wait bigint[])
), minutes as (
  insert into :"schema".minute as m (at, queue, task, claimed, completed, cancelled, dead, retried, snoozed, suspended, released, put_aside, lined_up, refused, lost, seconds, run, wait)
  select date_trunc('minute', moment, 'UTC'), queue, task, claimed, completed, cancelled, dead, retried, snoozed, suspended, released, put_aside, lined_up, refused, lost, seconds, run, wait
  from said order by queue, task
  on conflict on constraint minute_pkey do update set
    claimed = m.claimed + excluded.claimed,
    completed = m.completed + excluded.completed,
    cancelled = m.cancelled + excluded.cancelled,
    dead = m.dead + excluded.dead,
    retried = m.retried + excluded.retried,
    snoozed = m.snoozed + excluded.snoozed,
    suspended = m.suspended + excluded.suspended,
    released = m.released + excluded.released,
    put_aside = m.put_aside + excluded.put_aside,
    lined_up = m.lined_up + excluded.lined_up,
    refused = m.refused + excluded.refused,
    lost = m.lost + excluded.lost,
    seconds = m.seconds + excluded.seconds,
    run = array(select coalesce(a, 0) + coalesce(b, 0) from unnest(m.run, excluded.run) with ordinality as u(a, b, n) order by n),
    wait = array(select coalesce(a, 0) + coalesce(b, 0) from unnest(m.wait, excluded.wait) with ordinality as u(a, b, n) order by n)
), hours as (
  insert into :"schema".hour as m (at, queue, task, claimed, completed, cancelled, dead, retried, snoozed, suspended, released, put_aside, lined_up, refused, lost, seconds, run, wait)
  select date_trunc('hour', moment, 'UTC'), queue, task, claimed, completed, cancelled, dead, retried, snoozed, suspended, released, put_aside, lined_up, refused, lost, seconds, run, wait
  from said order by queue, task
  on conflict on constraint hour_pkey do update set
    claimed = m.claimed + excluded.claimed,
    completed = m.completed + excluded.completed,
    cancelled = m.cancelled + excluded.cancelled,
    dead = m.dead + excluded.dead,
    retried = m.retried + excluded.retried,
    snoozed = m.snoozed + excluded.snoozed,
    suspended = m.suspended + excluded.suspended,
    released = m.released + excluded.released,
    put_aside = m.put_aside + excluded.put_aside,
    lined_up = m.lined_up + excluded.lined_up,
    refused = m.refused + excluded.refused,
    lost = m.lost + excluded.lost,
    seconds = m.seconds + excluded.seconds,
    run = array(select coalesce(a, 0) + coalesce(b, 0) from unnest(m.run, excluded.run) with ordinality as u(a, b, n) order by n),
    wait = array(select coalesce(a, 0) + coalesce(b, 0) from unnest(m.wait, excluded.wait) with ordinality as u(a, b, n) order by n)
)
select extract(second from clock_timestamp())::double precision as second;

-- name: begin_depths
-- takes:
-- gives: at timestamptz, second double precision
-- A moment for the one who is to look in this minute, null for all others. The counter is about a second late.
with mine as (
  insert into :"schema".depth (at, queue, deferred)
  select date_trunc('minute', clock_timestamp(), 'UTC'), '', pg_stat_get_tuples_inserted(':"schema".job'::regclass)
  on conflict on constraint depth_pkey do nothing
  returning at
)
select (select at from mine) as at, extract(second from clock_timestamp())::double precision as second;

-- name: limit_look
-- takes: milliseconds text
-- gives: milliseconds text
-- For the rest of this transaction.
select set_config('statement_timeout', $1, true) as milliseconds;

-- name: note_depths
-- takes: at timestamptz, room bigint, rows text
-- gives:
-- The largest queues, and the sums over all of them.
with said as materialized (
  select * from json_to_recordset($3::text::json) as s(queue text, ready bigint, scheduled bigint, blocked bigint, running bigint,
    oldest_due double precision)
), all_of_them as (
  update :"schema".depth d set ready = s.ready, scheduled = s.scheduled, blocked = s.blocked, running = s.running,
    oldest_due = s.oldest_due
  from (
    select coalesce(sum(ready), 0) as ready, coalesce(sum(scheduled), 0) as scheduled, coalesce(sum(blocked), 0) as blocked,
      coalesce(sum(running), 0) as running, max(oldest_due) as oldest_due from said) as s
  where d.queue = '' and d.at = $1
)
insert into :"schema".depth (at, queue, ready, scheduled, blocked, running, oldest_due)
select $1, queue, ready, scheduled, blocked, running, oldest_due
from said where ready + scheduled + blocked + running > 0 and queue <> ''
order by ready + scheduled + blocked + running desc, queue limit $2
on conflict on constraint depth_pkey do nothing;

-- name: forget_history
-- takes: room bigint, minutes double precision, hours double precision
-- gives: gone bigint
-- Some of what is older than so many seconds, of each table.
with old_minute as materialized (
  select ctid from :"schema".minute where at < now() - make_interval(secs => $2) order by at limit $1
), minutes as (
  delete from :"schema".minute where ctid = any(array(select ctid from old_minute))
    and at < now() - make_interval(secs => $2) returning 1
), old_hour as materialized (
  select ctid from :"schema".hour where at < now() - make_interval(secs => $3) order by at limit $1
), hours as (
  delete from :"schema".hour where ctid = any(array(select ctid from old_hour))
    and at < now() - make_interval(secs => $3) returning 1
), old_depth as materialized (
  select ctid from :"schema".depth where at < now() - make_interval(secs => $2) order by at limit $1
), depths as (
  delete from :"schema".depth where ctid = any(array(select ctid from old_depth))
    and at < now() - make_interval(secs => $2) returning 1
), turns as (
  delete from :"schema".noted where at < now() - make_interval(secs => $2)
)
select greatest((select count(*) from minutes), (select count(*) from hours), (select count(*) from depths)) as gone;
