-- name: error_groups
-- takes: room bigint, seconds double precision, queues text[], groups bigint, buckets integer
-- gives: read_at timestamptz, since timestamptz, looked bigint, whole boolean, fingerprint text, task text, class text, place text, jobs bigint, first timestamptz, last timestamptz, queues text[], reasons text[], sample uuid, buckets integer[], counts bigint[]
-- The latest dead jobs by task, class and function of their last error, the largest groups first; one row without a fingerprint
-- if there are none. Counted by place with its line at first, for few places are left then to be hashed. The newest job of a group
-- is its sample. `buckets` has those parts of the time since the first that have any.
with seen as materialized (
  select * from :"schema".recent_dead($1, $1, $2)
), span as materialized (
  select greatest(now(), max(finished_at)) as read_at, min(finished_at) as since, count(id) as looked,
    coalesce(bool_or(id is null), false) as whole
  from seen
), placed as materialized (
  select s.task, coalesce(s.class, '') as class, coalesce(s.place, '') as place, s.queue, s.reason,
    coalesce(least($5 - 1, floor($5 * extract(epoch from s.finished_at - t.since) / nullif(extract(epoch from t.read_at - t.since), 0))),
      $5 - 1)::integer as bucket,
    count(*) as jobs, min(s.finished_at) as first, max(s.finished_at) as last, max(s.id::text collate "C") as newest
  from seen s cross join span t where s.id is not null and ($3::text[] is null or s.queue = any($3))
  group by 1, 2, 3, 4, 5, 6
), printed as materialized (
  select :"schema".fingerprint(p.task, p.class, p.place) as fingerprint, p.*
  from (select task, class, place from placed group by 1, 2, 3) as d join placed p using (task, class, place)
), grouped as materialized (
  select fingerprint, min(task) as task, min(class) as class, sum(jobs)::bigint as jobs, min(first) as first, max(last) as last,
    (array_agg(place order by last desc))[1] as place, array_agg(distinct queue) as queues,
    array_remove(array_agg(distinct reason), null) as reasons, max(newest)::uuid as sample
  from printed group by fingerprint order by jobs desc, last desc limit $4
)
select t.read_at, t.since, t.looked, t.whole, g.fingerprint, g.task, left(g.class, 200) as class,
  nullif(left(g.place, 200), '') as place, g.jobs, g.first, g.last, g.queues, g.reasons, g.sample, b.buckets, b.counts
from span t left join grouped g on true
left join lateral (
  select array_agg(c.bucket order by c.bucket) as buckets, array_agg(c.jobs order by c.bucket) as counts
  from (select p.bucket, sum(p.jobs)::bigint as jobs from printed p where p.fingerprint = g.fingerprint group by 1) as c
) as b on true
order by g.jobs desc, g.last desc;
