-- name: event_edge
-- takes:
-- gives: edge bigint, writers text[]
-- The last number that was drawn, and who may still be writing up to it.
select edge, writers from :"schema".event_edge();

-- name: read_events
-- takes: after bigint, edge bigint, room bigint
-- gives: floor bigint, seq bigint, at timestamptz, type text, task text, queue text, origin text, bundle_id uuid, jobs uuid[], attempts integer[], error text, reason text, data text
-- A page of the log in its order, from this number on up to the edge, and the last number that retention has dropped; that
-- alone if there is nothing. Only what is settled may be read so: see event_edge().
select f.seq as floor, e.seq, e.at, e.type, e.task, e.queue, e.origin, e.bundle_id, e.jobs, e.attempts, e.error, e.reason, e.data::text as data
from :"schema".event_floor f
left join lateral :"schema".event_page($1, $2, $3) as e on true
order by e.seq;

-- name: event_floor
-- takes:
-- gives: floor bigint
-- By a snapshot that is newer than that of a page: while it waited for a day to be dropped, its own has become old.
select seq as floor from :"schema".event_floor;

-- name: say_logged
-- takes:
-- gives: said void
-- To those who read the log that there is more, and in a statement of its own: a commit that notifies waits for every other.
select pg_notify(:'log_channel', '') as said where pg_notification_queue_usage() < 0.9;

-- name: say_reading
-- takes:
-- gives: said void
-- To the workers that somebody reads the log, for a while.
select pg_notify(:'wake_channel', 'l:') as said where pg_notification_queue_usage() < 0.9;

-- name: ask_readers
-- takes:
-- gives: said void
-- A worker that has just begun to listen asks whether somebody reads the log.
select pg_notify(:'log_channel', '?') as said where pg_notification_queue_usage() < 0.9;

-- name: last_events
-- takes: before bigint, room bigint
-- gives: seq bigint, at timestamptz, type text, task text, queue text, origin text, bundle_id uuid, jobs uuid[], attempts integer[], error text, reason text, data text
-- A page of the log from its end back, for people.
select seq, at, type, task, queue, origin, bundle_id, jobs, attempts, error, reason, data::text as data
from :"schema".event_page_back($1, '-infinity', $2) order by seq desc;

-- name: events_of_job
-- takes: id uuid, since timestamptz, room bigint
-- gives: seq bigint, at timestamptz, type text, task text, queue text, origin text, bundle_id uuid, jobs uuid[], attempts integer[], error text, reason text, data text
-- What the newest rows of the log say of one job. There is no index by job: it looks so far back and no further.
select seq, at, type, task, queue, origin, bundle_id, jobs, attempts, error, reason, data::text as data
from :"schema".event_page_back(9223372036854775807, $2, $3) where $1 = any(jobs) order by seq;

-- name: events_lag
-- takes:
-- gives: seconds double precision
-- For how long the oldest transaction that is writing the log has been open: readers wait for its end.
select coalesce(max(extract(epoch from clock_timestamp() - s.xact_start)), 0)::double precision as seconds
from pg_locks l join pg_stat_activity s on s.pid = l.pid
where l.locktype = 'advisory' and l.classid = (:'wake_class')::oid and l.objsubid = 2
  and l.objid = ((:'log_key')::bigint & 4294967295)::oid and s.datname = current_database();
