-- name: bundle_graph
-- takes: bundle_id uuid
-- gives: id uuid, task text, after uuid[], state text, reason text, error text, member boolean, jobs bigint, callback boolean
-- Its jobs that come after others or that others come after, one by one, and all others by their number: they have no id here.
-- A full join, for it is never a nested loop: who has stored 10 000 of each a moment ago has told no planner of it. Members
-- by a range that hides its value, see bundle_members. `outcome` is only for what neither table has any more.
with drawn as (
  select n.job_id, coalesce(nullif(n.task, ''), m.task, '') as task, n.after, coalesce(m.state, n.outcome) as state, m.reason, m.errors,
    m.id is not null as member, m.callback
  from (
    select * from :"schema".node n where n.bundle_id = $1 and (  -- not those that are there for their results alone
      not n.kept or n.after <> '{}' or n.job_id in (select unnest(o.after) from :"schema".node o where o.bundle_id = $1))
  ) as n
  full join (
    select id, task, state, null::text as reason, errors, follow & 4 <> 0 as callback
    from :"schema".job where bundle_id >= (select $1::uuid) and bundle_id <= (select $1::uuid)
    union all
    select id, task, state, reason, errors, follow & 4 <> 0
    from :"schema".job_archive where bundle_id >= (select $1::uuid) and bundle_id <= (select $1::uuid)
  ) as m on m.id = n.job_id
)
select job_id as id, task, after, state, reason, errors -> -1 ->> 'class' as error, member, 1::bigint as jobs, false as callback
from drawn where job_id is not null
union all
select null, task, null, state, null, null, true, count(*), callback
from drawn where job_id is null group by task, state, callback;

-- name: graph_strangers
-- takes: ids uuid[]
-- gives: id uuid, task text, state text, reason text, error text, bundle_id uuid
-- Jobs that a graph names and that are not among the members of its bundle, wherever they are. Of what is nowhere
-- the id alone is known. The archive is asked day for day: last, and not for what is in job.
select g.id, coalesce(j.task, a.task, n.task, '') as task, coalesce(j.state, a.state, n.outcome) as state, a.reason,
  coalesce(j.errors, a.errors) -> -1 ->> 'class' as error,
  case when j.id is not null then j.bundle_id when a.id is not null then a.bundle_id else n.bundle_id end as bundle_id
from unnest($1::uuid[]) as g(id)
left join lateral (select j.* from :"schema".job j where j.id = g.id offset 0) as j on true
left join lateral (select a.* from :"schema".job_archive a where a.id = g.id and j.id is null offset 0) as a on true
left join lateral (select n.* from :"schema".node n where n.job_id = g.id order by n.outcome limit 1) as n on true;
