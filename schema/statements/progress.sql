-- name: write_progress
-- takes: ids uuid[], fences bigint[], reports text[], worker_id uuid
-- gives: id uuid
-- Only the holder of a claim reports. Rows that another has locked, our own finish perhaps, are left out: it brings the
-- last report itself.
with mine as materialized (
  select j.id, g.report
  from unnest($1::uuid[], $2::bigint[], $3::text[]) as g(id, fence, report)
  cross join lateral (
    select j.id from :"schema".job j where j.id = g.id and j.fence = g.fence and j.worker_id = $4 for update skip locked) as j
)
update :"schema".job j set progress = mine.report::json
from unnest(array(select id from mine), array(select report from mine)) as mine(id, report) where j.id = mine.id  -- see promote_due
returning j.id;
