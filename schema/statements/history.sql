-- name: rates
-- takes: back double precision, until double precision, step double precision, queue text, task text, grain text
-- gives: at timestamptz, claimed bigint, completed bigint, retried bigint, dead bigint, cancelled bigint
-- Counts per step, zeros where there are none; of the rows of this grain (`minute`, `hour`). A queue of the empty name is
-- all. Of the four arms one is read: the others have a condition that no row is asked for.
with span as materialized (
  select to_timestamp(floor((extract(epoch from now())::double precision - $1) / $3) * $3) as first, now() - make_interval(secs => $2) as last
), found as (
  select at, claimed, completed, retried, dead, cancelled from :"schema".minute
  where $6 = 'minute' and $4::text is not null and queue = $4 and ($5::text is null or task = $5) and at >= (select first from span) and at < (select last from span)
  union all
  select at, claimed, completed, retried, dead, cancelled from :"schema".minute
  where $6 = 'minute' and $4::text is null and task = $5 and at >= (select first from span) and at < (select last from span)
  union all
  select at, claimed, completed, retried, dead, cancelled from :"schema".hour
  where $6 = 'hour' and $4::text is not null and queue = $4 and ($5::text is null or task = $5) and at >= (select first from span) and at < (select last from span)
  union all
  select at, claimed, completed, retried, dead, cancelled from :"schema".hour
  where $6 = 'hour' and $4::text is null and task = $5 and at >= (select first from span) and at < (select last from span)
), summed as (
  select floor(extract(epoch from at)::double precision / $3) as place, sum(claimed)::bigint as claimed, sum(completed)::bigint as completed, sum(retried)::bigint as retried, sum(dead)::bigint as dead, sum(cancelled)::bigint as cancelled
  from found group by 1
)
select to_timestamp(s.place * $3) as at, coalesce(f.claimed, 0) as claimed, coalesce(f.completed, 0) as completed, coalesce(f.retried, 0) as retried, coalesce(f.dead, 0) as dead, coalesce(f.cancelled, 0) as cancelled
from span cross join generate_series(floor(extract(epoch from first)::double precision / $3)::bigint,
  ceil(extract(epoch from last)::double precision / $3)::bigint - 1) as s(place)
left join summed f on f.place = s.place
order by s.place limit 5000;

-- name: deferred
-- takes: back double precision, step double precision
-- gives: at timestamptz, jobs bigint
-- From one look to the next; a counter that was set back has counted from zero on. Queue and time are compared as a row:
-- an index on the time alone would read all queues.
with span as materialized (
  select to_timestamp(floor((extract(epoch from now())::double precision - $1) / $2) * $2) as first, now() as last
), looks as (
  (select at, deferred from :"schema".depth where queue = '' and at < (select first from span) order by queue desc, at desc limit 1)
  union all
  select at, deferred from :"schema".depth where (queue, at) >= ('', (select first from span)) and (queue, at) <= ('', now())
), grown as (
  select at, deferred - case when lag(deferred) over (order by at) <= deferred then lag(deferred) over (order by at)
    when lag(deferred) over (order by at) > deferred then 0 end as jobs
  from looks where deferred is not null
), summed as (
  select floor(extract(epoch from at)::double precision / $2) as place, sum(jobs)::bigint as jobs
  from grown where at >= (select first from span) group by 1
)
select to_timestamp(s.place * $2) as at, coalesce(f.jobs, 0) as jobs
from span cross join generate_series(floor(extract(epoch from first)::double precision / $2)::bigint,
  ceil(extract(epoch from last)::double precision / $2)::bigint - 1) as s(place)
left join summed f on f.place = s.place
order by s.place limit 5000;

-- name: depths
-- takes: queue text, back double precision, step double precision
-- gives: at timestamptz, ready bigint, scheduled bigint, blocked bigint, running bigint, oldest_due double precision
-- The highest of each step; null where nobody has looked. A queue that a look has not found was empty; see deferred.
with span as materialized (
  select to_timestamp(floor((extract(epoch from now())::double precision - $2) / $3) * $3) as first, now() as last
), looks as (
  select at, true as of_all, ready, scheduled, blocked, running, oldest_due
  from :"schema".depth where (queue, at) >= ('', (select first from span)) and (queue, at) <= ('', now()) and ready is not null
  union all
  select at, false, ready, scheduled, blocked, running, oldest_due
  from :"schema".depth where $1 <> '' and (queue, at) >= ($1, (select first from span)) and (queue, at) <= ($1, now())
), asked as (
  select at, coalesce(max(ready) filter (where of_all = ($1 = '')), 0) as ready,
    coalesce(max(scheduled) filter (where of_all = ($1 = '')), 0) as scheduled,
    coalesce(max(blocked) filter (where of_all = ($1 = '')), 0) as blocked,
    coalesce(max(running) filter (where of_all = ($1 = '')), 0) as running,
    max(oldest_due) filter (where of_all = ($1 = '')) as oldest_due
  from looks group by at having bool_or(of_all)
), highest as (
  select floor(extract(epoch from at)::double precision / $3) as place, max(ready) as ready, max(scheduled) as scheduled,
    max(blocked) as blocked, max(running) as running, max(oldest_due) as oldest_due
  from asked group by 1
)
select to_timestamp(s.place * $3) as at, f.ready, f.scheduled, f.blocked, f.running, f.oldest_due
from span cross join generate_series(floor(extract(epoch from first)::double precision / $3)::bigint,
  ceil(extract(epoch from last)::double precision / $3)::bigint - 1) as s(place)
left join highest f on f.place = s.place
order by s.place limit 5000;

-- name: times
-- takes: back double precision, queue text, task text, grain text, room bigint
-- gives: queue text, task text, runs bigint, failed bigint, run bigint[], wait bigint[]
-- Sums by queue and task, of the rows of this grain, see rates; the pairs with most runs. Ranges with two ends, see
-- promote_due. The arrays are read place by
-- place: to unnest them took ten times as long.
with span as materialized (
  select date_trunc($4, now() - make_interval(secs => $1), 'UTC') as first
), found as (
  select queue, task, completed, cancelled, dead, retried, run, wait from :"schema".minute
  where $4 = 'minute' and $2::text is not null and queue = $2 and ($3::text is null or task = $3) and at between (select first from span) and now()
  union all
  select queue, task, completed, cancelled, dead, retried, run, wait from :"schema".minute
  where $4 = 'minute' and $2::text is null and $3::text is not null and task = $3 and at between (select first from span) and now()
  union all
  select queue, task, completed, cancelled, dead, retried, run, wait from :"schema".minute
  where $4 = 'minute' and $2::text is null and $3::text is null and at between (select first from span) and now()
  union all
  select queue, task, completed, cancelled, dead, retried, run, wait from :"schema".hour
  where $4 = 'hour' and $2::text is not null and queue = $2 and ($3::text is null or task = $3) and at between (select first from span) and now()
  union all
  select queue, task, completed, cancelled, dead, retried, run, wait from :"schema".hour
  where $4 = 'hour' and $2::text is null and $3::text is not null and task = $3 and at between (select first from span) and now()
  union all
  select queue, task, completed, cancelled, dead, retried, run, wait from :"schema".hour
  where $4 = 'hour' and $2::text is null and $3::text is null and at between (select first from span) and now()
)
select queue, task, sum(completed + cancelled + dead + retried)::bigint as runs, sum(dead + retried)::bigint as failed,
  array[sum(run[1]), sum(run[2]), sum(run[3]), sum(run[4]), sum(run[5]), sum(run[6]), sum(run[7]), sum(run[8]), sum(run[9]), sum(run[10]), sum(run[11]), sum(run[12]), sum(run[13]), sum(run[14]), sum(run[15]), sum(run[16]), sum(run[17])]::bigint[] as run,
  array[sum(wait[1]), sum(wait[2]), sum(wait[3]), sum(wait[4]), sum(wait[5]), sum(wait[6]), sum(wait[7]), sum(wait[8]), sum(wait[9]), sum(wait[10]), sum(wait[11]), sum(wait[12]), sum(wait[13]), sum(wait[14]), sum(wait[15]), sum(wait[16]), sum(wait[17])]::bigint[] as wait
from found where queue <> ''
group by queue, task order by runs desc, queue, task limit $5;

-- name: sparks
-- takes: back double precision, step double precision, grain text, room bigint
-- gives: since timestamptz, last bigint, queue text, task text, places bigint[], completed bigint[], failed bigint[]
-- By queue, and by task, those with most of them: in which steps, counted from the first, there was how much. And a row
-- without a name that says which step is under way.
with span as materialized (
  select to_timestamp(floor((extract(epoch from now())::double precision - $1) / $2) * $2) as first, now() as last
), found as (
  select queue, task, at, completed, dead + retried as failed from :"schema".minute where $3 = 'minute' and at between (select first from span) and now()
  union all
  select queue, task, at, completed, dead + retried from :"schema".hour where $3 = 'hour' and at between (select first from span) and now()
), summed as (
  select queue, task, floor(extract(epoch from at - (select first from span))::double precision / $2)::bigint as place,
    sum(completed)::bigint as completed, sum(failed)::bigint as failed
  from found where queue <> ''
  group by grouping sets ((queue, place), (task, place))
), lined as (
  select queue, task, array_agg(place) as places, array_agg(completed) as completed, array_agg(failed) as failed,
    row_number() over (partition by queue is null order by sum(completed + failed) desc, queue, task) as rank
  from summed group by queue, task
)
select first as since, floor(extract(epoch from last - first)::double precision / $2)::bigint as last, null as queue, null as task,
  null::bigint[] as places, null::bigint[] as completed, null::bigint[] as failed
from span
union all
select null, null, queue, task, places, completed, failed from lined where rank <= $4;
