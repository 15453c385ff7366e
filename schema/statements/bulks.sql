-- name: create_bulk
-- takes: id uuid, who text, via text, action text, filter text, target text, audit_id bigint
-- gives: id uuid
with stored as (
  insert into :"schema".bulk (id, who, via, action, filter, target, audit_id)
  values ($1, $2, $3, $4, $5::text::json, $6::text::json, $7)
  returning id
), woken as materialized (
  select pg_notify(:'wake_channel', 'b:') from stored
)
select id from stored where (select count(*) from woken) >= 0;

-- name: any_bulk
-- takes:
-- gives: any_left boolean
-- Whether there is one that is not done.
select exists (select from :"schema".bulk where finished_at is null) as any_left;

-- name: take_bulk
-- takes:
-- gives: id uuid, at timestamptz, action text, filter text, target text, matched bigint, changed bigint, refused text, place text, locked uuid[], round smallint, audit_id bigint
-- One that is not done, for this transaction, the oldest first, past those whose page another worker does just now.
select id, at, action, filter::text as filter, target::text as target, matched, changed, refused::text as refused,
  place::text as place, locked, round, audit_id
from :"schema".bulk where finished_at is null and due_at <= clock_timestamp() order by at limit 1 for update skip locked;

-- name: move_bulk
-- takes: id uuid, state text, matched bigint, changed bigint, refused text, place text, locked uuid[], round smallint, pause double precision
-- gives: id uuid
-- A page is done: how far it has come, and when it goes on.
update :"schema".bulk
set state = $2, matched = $3, changed = $4, refused = $5::text::json, place = $6::text::json, locked = $7::uuid[], round = $8,
  due_at = clock_timestamp() + make_interval(secs => $9), finished_at = case when $2 = 'finished' then clock_timestamp() end
where id = $1
returning id;

-- name: postpone_bulk
-- takes: id uuid, pause double precision
-- gives: id uuid
-- Its page could not be done now: others go first meanwhile. Whoever does it is not waited for.
update :"schema".bulk b set due_at = clock_timestamp() + make_interval(secs => $2)
from (select id from :"schema".bulk where id = $1 and finished_at is null for update skip locked) as mine
where b.id = mine.id returning b.id;

-- name: end_bulk
-- takes: id uuid, state text, error text
-- gives: id uuid
-- Whoever does its page is waited for.
update :"schema".bulk set state = $2, error = $3, finished_at = clock_timestamp() where id = $1 and finished_at is null returning id;

-- name: find_bulk
-- takes: id uuid
-- gives: id uuid, at timestamptz, who text, via text, action text, filter text, target text, state text, matched bigint, changed bigint, refused text, finished_at timestamptz, error text
select id, at, who, via, action, filter::text as filter, target::text as target, state, matched, changed,
  refused::text as refused, finished_at, error
from :"schema".bulk where id = $1;

-- name: list_bulks
-- takes: before uuid, room bigint
-- gives: id uuid, at timestamptz, who text, via text, action text, filter text, target text, state text, matched bigint, changed bigint, refused text, finished_at timestamptz, error text
-- The newest first: their ids tell the time.
select id, at, who, via, action, filter::text as filter, target::text as target, state, matched, changed,
  refused::text as refused, finished_at, error
from :"schema".bulk where id < $1 order by id desc limit $2;

-- name: unfinished_bulks
-- takes: before uuid, room bigint
-- gives: id uuid, at timestamptz, who text, via text, action text, filter text, target text, state text, matched bigint, changed bigint, refused text, finished_at timestamptz, error text
-- First those that are not done, by their index, then their order: else the planner might walk all that have ended.
with unfinished as materialized (
  select * from :"schema".bulk where finished_at is null
)
select id, at, who, via, action, filter::text as filter, target::text as target, state, matched, changed,
  refused::text as refused, finished_at, error
from unfinished where id < $1 order by id desc limit $2;

-- name: older_than
-- takes: ids uuid[], moment timestamptz
-- gives: id uuid
-- Those of these unfinished jobs that were there at this moment.
select id from :"schema".job where id = any($1::uuid[]) and created_at <= $2;

-- name: forget_bulks
-- takes: age double precision, room bigint
-- gives: id uuid
delete from :"schema".bulk where id = any(array(
  select id from :"schema".bulk where finished_at < now() - make_interval(secs => $1) order by finished_at limit $2
  for update skip locked))
returning id;
