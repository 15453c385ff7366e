-- name: write_audit
-- takes: who text, via text, action text, what text, matched bigint, changed bigint, refused text, jobs uuid[]
-- gives: id bigint
insert into :"schema".audit (who, via, action, what, matched, changed, refused, jobs)
values ($1, $2, $3, $4::text::json, $5, $6, $7::text::json, $8::uuid[])
returning id;

-- name: add_to_audit
-- takes: id bigint, matched bigint, changed bigint, refused text, jobs uuid[]
-- gives: id bigint
-- How far the call has come: all its numbers, and more of its jobs, as long as there is room for some.
update :"schema".audit
set matched = $2, changed = $3, refused = $4::text::json,
  jobs = case when cardinality(jobs) < 1000 then (jobs || $5::uuid[])[1:1000] else coalesce(jobs, $5::uuid[]) end
where id = $1
returning id;

-- name: list_audit
-- takes: before bigint, room bigint
-- gives: id bigint, at timestamptz, who text, via text, action text, what text, matched bigint, changed bigint, refused text
-- The newest first.
select id, at, who, via, action, what::text as what, matched, changed, refused::text as refused
from :"schema".audit
where id < $1 order by id desc limit $2;

-- name: audit_of_who
-- takes: before bigint, room bigint, who text, via text, action text
-- gives: id bigint, at timestamptz, who text, via text, action text, what text, matched bigint, changed bigint, refused text
-- Those of one, in the words of their index: with `who = $3` a generic plan may walk all rows by number instead.
select id, at, who, via, action, what::text as what, matched, changed, refused::text as refused
from :"schema".audit
where who >= $3 and (who, id) < ($3, $1) and ($4::text is null or via = $4) and ($5::text is null or action = $5)
order by who desc, id desc limit $2;

-- name: audit_of_action
-- takes: before bigint, room bigint, action text
-- gives: id bigint, at timestamptz, who text, via text, action text, what text, matched bigint, changed bigint, refused text
-- The same.
select id, at, who, via, action, what::text as what, matched, changed, refused::text as refused
from :"schema".audit
where action >= $3 and (action, id) < ($3, $1)
order by action desc, id desc limit $2;

-- name: audit_of_job
-- takes: before bigint, room bigint, who text, via text, action text, job uuid
-- gives: id bigint, at timestamptz, who text, via text, action text, what text, matched bigint, changed bigint, refused text
-- First the rows that name the job, by their index, then their order: else the planner might walk all rows by number.
with named as materialized (
  select * from :"schema".audit where jobs @> array[$6::uuid]
)
select id, at, who, via, action, what::text as what, matched, changed, refused::text as refused
from named
where id < $1 and ($3::text is null or who = $3) and ($4::text is null or via = $4) and ($5::text is null or action = $5)
order by id desc limit $2;

-- name: forget_audit
-- takes: age double precision, room bigint
-- gives: id bigint
delete from :"schema".audit where id = any(array(
  select id from :"schema".audit where at < now() - make_interval(secs => $1) order by at limit $2 for update skip locked))
returning id;
