-- name: rates
-- takes: since timestamptz, until timestamptz, step double precision, queue text, task text, grain text
-- gives: at timestamptz, claimed bigint, completed bigint, retried bigint, dead bigint, cancelled bigint
-- Counts per step, zeros where there are none; of the rows of this grain (`minute`, `hour`). A queue of the empty name is
-- all. Of the four arms one is read: the others have a condition that no row is asked for.
with found as (
  select at, claimed, completed, retried, dead, cancelled from :"schema".minute
  where $6 = 'minute' and $4::text is not null and queue = $4 and ($5::text is null or task = $5) and at >= $1 and at < coalesce($2, now())
  union all
  select at, claimed, completed, retried, dead, cancelled from :"schema".minute
  where $6 = 'minute' and $4::text is null and task = $5 and at >= $1 and at < coalesce($2, now())
  union all
  select at, claimed, completed, retried, dead, cancelled from :"schema".hour
  where $6 = 'hour' and $4::text is not null and queue = $4 and ($5::text is null or task = $5) and at >= $1 and at < coalesce($2, now())
  union all
  select at, claimed, completed, retried, dead, cancelled from :"schema".hour
  where $6 = 'hour' and $4::text is null and task = $5 and at >= $1 and at < coalesce($2, now())
), summed as (
  select floor(extract(epoch from at)::double precision / $3) as place, sum(claimed)::bigint as claimed, sum(completed)::bigint as completed, sum(retried)::bigint as retried, sum(dead)::bigint as dead, sum(cancelled)::bigint as cancelled
  from found group by 1
)
select to_timestamp(s.place * $3) as at, coalesce(f.claimed, 0) as claimed, coalesce(f.completed, 0) as completed, coalesce(f.retried, 0) as retried, coalesce(f.dead, 0) as dead, coalesce(f.cancelled, 0) as cancelled
from generate_series(
  floor(extract(epoch from $1)::double precision / $3)::bigint,
  ceil(extract(epoch from least($2, now()))::double precision / $3)::bigint - 1) as s(place)
left join summed f on f.place = s.place
order by s.place limit 5000;

-- name: deferred
-- takes: since timestamptz, step double precision
-- gives: at timestamptz, jobs bigint
-- From one look to the next; a counter that was set back has counted from zero on.
with looks as (
  (select at, deferred from :"schema".depth where queue = '' and at < $1 order by at desc limit 1)
  union all
  select at, deferred from :"schema".depth where queue = '' and at between $1 and now()
), grown as (
  select at, deferred - case when lag(deferred) over (order by at) <= deferred then lag(deferred) over (order by at)
    when lag(deferred) over (order by at) > deferred then 0 end as jobs
  from looks where deferred is not null
), summed as (
  select floor(extract(epoch from at)::double precision / $2) as place, sum(jobs)::bigint as jobs
  from grown where at >= $1 group by 1
)
select to_timestamp(s.place * $2) as at, coalesce(f.jobs, 0) as jobs
from generate_series(
  floor(extract(epoch from $1)::double precision / $2)::bigint,
  ceil(extract(epoch from now())::double precision / $2)::bigint - 1) as s(place)
left join summed f on f.place = s.place
order by s.place limit 5000;

-- name: depths
-- takes: queue text, since timestamptz, step double precision
-- gives: at timestamptz, ready bigint, scheduled bigint, blocked bigint, running bigint, oldest_due double precision
-- The highest of each step; null where nobody has looked. A queue that a look has not found was empty.
with looks as (
  select l.at, case when $1 = '' then l.ready else coalesce(d.ready, 0) end as ready,
    case when $1 = '' then l.scheduled else coalesce(d.scheduled, 0) end as scheduled,
    case when $1 = '' then l.blocked else coalesce(d.blocked, 0) end as blocked,
    case when $1 = '' then l.running else coalesce(d.running, 0) end as running,
    case when $1 = '' then l.oldest_due else d.oldest_due end as oldest_due
  from :"schema".depth l left join :"schema".depth d on d.queue = $1 and d.at = l.at and d.at between $2 and now()
  where l.queue = '' and l.at between $2 and now() and l.ready is not null
), highest as (
  select floor(extract(epoch from at)::double precision / $3) as place, max(ready) as ready, max(scheduled) as scheduled,
    max(blocked) as blocked, max(running) as running, max(oldest_due) as oldest_due
  from looks group by 1
)
select to_timestamp(s.place * $3) as at, f.ready, f.scheduled, f.blocked, f.running, f.oldest_due
from generate_series(
  floor(extract(epoch from $2)::double precision / $3)::bigint,
  ceil(extract(epoch from now())::double precision / $3)::bigint - 1) as s(place)
left join highest f on f.place = s.place
order by s.place limit 5000;

-- name: times
-- takes: since timestamptz, queue text, task text, grain text, room bigint
-- gives: queue text, task text, runs bigint, failed bigint, run bigint[], wait bigint[]
-- Sums by queue and task, of the rows of this grain, see rates; the pairs with most runs. Ranges with two ends, see
-- promote_due. The arrays are read place by
-- place: to unnest them took ten times as long.
with found as (
  select queue, task, completed, cancelled, dead, retried, run, wait from :"schema".minute
  where $4 = 'minute' and $2::text is not null and queue = $2 and ($3::text is null or task = $3) and at between $1 and now()
  union all
  select queue, task, completed, cancelled, dead, retried, run, wait from :"schema".minute
  where $4 = 'minute' and $2::text is null and $3::text is not null and task = $3 and at between $1 and now()
  union all
  select queue, task, completed, cancelled, dead, retried, run, wait from :"schema".minute
  where $4 = 'minute' and $2::text is null and $3::text is null and at between $1 and now()
  union all
  select queue, task, completed, cancelled, dead, retried, run, wait from :"schema".hour
  where $4 = 'hour' and $2::text is not null and queue = $2 and ($3::text is null or task = $3) and at between $1 and now()
  union all
  select queue, task, completed, cancelled, dead, retried, run, wait from :"schema".hour
  where $4 = 'hour' and $2::text is null and $3::text is not null and task = $3 and at between $1 and now()
  union all
  select queue, task, completed, cancelled, dead, retried, run, wait from :"schema".hour
  where $4 = 'hour' and $2::text is null and $3::text is null and at between $1 and now()
)
select queue, task, sum(completed + cancelled + dead + retried)::bigint as runs, sum(dead + retried)::bigint as failed,
  array[sum(run[1]), sum(run[2]), sum(run[3]), sum(run[4]), sum(run[5]), sum(run[6]), sum(run[7]), sum(run[8]), sum(run[9]), sum(run[10]), sum(run[11]), sum(run[12]), sum(run[13]), sum(run[14]), sum(run[15]), sum(run[16]), sum(run[17])]::bigint[] as run,
  array[sum(wait[1]), sum(wait[2]), sum(wait[3]), sum(wait[4]), sum(wait[5]), sum(wait[6]), sum(wait[7]), sum(wait[8]), sum(wait[9]), sum(wait[10]), sum(wait[11]), sum(wait[12]), sum(wait[13]), sum(wait[14]), sum(wait[15]), sum(wait[16]), sum(wait[17])]::bigint[] as wait
from found where queue <> ''
group by queue, task order by runs desc, queue, task limit $5;

-- name: sparks
-- takes: since timestamptz, step double precision, grain text, room bigint
-- gives: since timestamptz, last bigint, queue text, task text, places bigint[], completed bigint[], failed bigint[]
-- By queue, and by task, those with most of them: in which steps, counted from the first, there was how much. And a row
-- without a name that says which step is under way.
with found as (
  select queue, task, at, completed, dead + retried as failed from :"schema".minute where $3 = 'minute' and at between $1 and now()
  union all
  select queue, task, at, completed, dead + retried from :"schema".hour where $3 = 'hour' and at between $1 and now()
), summed as (
  select queue, task, floor(extract(epoch from at - $1)::double precision / $2)::bigint as place,
    sum(completed)::bigint as completed, sum(failed)::bigint as failed
  from found where queue <> ''
  group by grouping sets ((queue, place), (task, place))
), lined as (
  select queue, task, array_agg(place) as places, array_agg(completed) as completed, array_agg(failed) as failed,
    row_number() over (partition by queue is null order by sum(completed + failed) desc, queue, task) as rank
  from summed group by queue, task
)
select $1 as since, floor(extract(epoch from now() - $1)::double precision / $2)::bigint as last, null as queue, null as task,
  null::bigint[] as places, null::bigint[] as completed, null::bigint[] as failed
union all
select $1, null, queue, task, places, completed, failed from lined where rank <= $4;
