-- name: extend_archive
-- takes: days integer
-- gives: made integer
-- For a finish that meets no piece.
select :"schema".extend_archive($1) as made;

-- name: extend_in_pieces
-- takes: days integer, completed integer, other integer
-- gives: made integer
-- Mostly nothing is missing, and the names of pieces of a day each say so at once. If not, one look at the pieces does, in
-- 4 ms, where the function looks for each day anew, 20 ms in all.
with wanted as (
  select today - interval '1 day' as first, today + least(greatest($1, 0), 31) * interval '1 day' + interval '1 day' as last
  from (select date_trunc('day', now(), 'UTC') as today) as clock
), whole as (
  select kind
  from (select * from :"schema".archive_pieces() union all select * from :"schema".event_pieces()) as pieces, wanted
  where since < last and until > first
  group by kind, first, last having sum(least(until, last) - greatest(since, first)) = last - first
), named as (
  select bool_and(to_regclass(quote_ident(:'schema') || '.' || quote_ident(kind || to_char(day, 'YYYYMMDD'))) is not null) as all_of_them
  from wanted
  cross join generate_series(first at time zone 'UTC', last at time zone 'UTC' - interval '1 day', interval '1 day') as day
  cross join unnest(array['job_archive_completed_', 'job_archive_other_', 'event_']) as kind
)
select case when (select all_of_them from named) then 0 when (select count(*) from whole) < 3 then :"schema".extend_archive($1, $2, $3) else 0 end as made;

-- name: take_turn
-- takes: name text, pause double precision
-- gives: name text
-- Nothing if another worker has swept within the pause. One that began later may have written first: hence the time now.
insert into :"schema".sweep as s (name, begun_at) values ($1, now())
on conflict on constraint sweep_pkey do update set begun_at = now()
  where s.begun_at not between clock_timestamp() - make_interval(secs => $2) and clock_timestamp()
returning name;

-- name: shortest_keeps
-- takes:
-- gives: completed double precision, other double precision
-- The shortest age that any queue says for itself.
select min(keep_completed) as completed, min(keep_other) as other from :"schema".queue;

-- name: archive_days
-- takes: drop_completed double precision, drop_other double precision, drop_events double precision, prune_completed double precision, prune_other double precision
-- gives: leaf text, kind text, day date, pages bigint, whole boolean, part boolean
-- The pieces of archive and log, the oldest first, by their first day: which may be dropped as a whole, being over for the age and for
-- a day at least (a finish belongs to the day on which its transaction began), and which of the others can hold a job of
-- that age.
with aged as materialized (  -- the size is asked for once: another may drop the piece before we ask again
  select *, pg_relation_size(piece) as size,
    case kind when 'completed' then $1::double precision when 'other' then $2::double precision else $3::double precision end as drop_age,
    case kind when 'completed' then $4::double precision when 'other' then $5::double precision end as prune_age
  from (select * from :"schema".archive_pieces() union all select * from :"schema".event_pieces()) as pieces
)
select leaf, kind, (since at time zone 'UTC')::date as day, size / current_setting('block_size')::bigint as pages,
  coalesce(extract(epoch from now() - until) >= greatest(drop_age, 86400) and drop_age > 0, false) as whole,
  coalesce(extract(epoch from now() - since) >= prune_age, false) as part
from aged where size is not null order by day, leaf;

-- name: drop_archive
-- takes: leaf text, wait boolean
-- gives: dropped boolean
select :"schema".drop_archive($1, $2) as dropped;

-- name: keep_results
-- takes: leaf text, bundle_id uuid, job_id uuid, room integer
-- gives: bundle_id uuid, job_id uuid
-- What bundles need of this piece, from this place on; where to go on, nothing at the end.
select * from :"schema".keep_results($1, $2, $3, $4);

-- name: archive_holders
-- takes: leaf text
-- gives: holder text
-- The transactions that read or write this day, or all of its kind.
select distinct l.virtualtransaction as holder
from pg_inherits i join pg_class c on c.oid = i.inhrelid
join pg_locks l on l.relation in (i.inhrelid, i.inhparent) and l.granted and l.pid is distinct from pg_backend_pid()
  and l.database = (select oid from pg_database where datname = current_database())
where c.relname = $1::text and i.inhparent in (':"schema".job_archive_completed'::regclass,
  ':"schema".job_archive_other'::regclass, ':"schema".event'::regclass);

-- name: limit_batch
-- takes: milliseconds text
-- gives: milliseconds text
-- For the rest of this transaction.
select set_config('statement_timeout', $1, true) as milliseconds;

-- name: prune_archive
-- takes: leaf text, first bigint, pages integer, of_queue text, completed double precision, other double precision, dry boolean
-- gives: state text, jobs bigint
select * from :"schema".prune_archive($1, $2, $3, $4, $5, $6, $7);

-- name: forget_keys
-- takes: room bigint
-- gives: forgotten bigint
-- Keys of scope `period` whose time is over, except what somebody is just taking.
with over as materialized (
  select key from :"schema".job_key where expires_at <= now() order by expires_at limit $1 for update skip locked
), gone as (
  delete from :"schema".job_key where key = any(array(select key from over)) returning key
)
select count(*) as forgotten from gone;

-- name: orphaned_keys
-- takes: after text, room bigint
-- gives: key text, orphaned boolean
-- Some keys in their order, and which of them have a job that is nowhere: somebody has deleted it past us.
select k.key, j.id is null as orphaned
from (
  select key, job_id from :"schema".job_key where scope <> 'period' and ($1::text is null or key > $1) order by key limit $2
) as k
left join lateral (select j.id from :"schema".job j where j.id = k.job_id offset 0) as j on true
order by k.key;

-- name: lock_keys
-- takes: keys text[]
-- gives: key text
-- Past those that somebody is just taking.
select key from :"schema".job_key where key = any($1::text[]) order by key for update skip locked;

-- name: forget_orphans
-- takes: keys text[]
-- gives: key text
-- Keys that this transaction has locked, if their jobs are nowhere still: a statement of its own, so that its snapshot is newer.
delete from :"schema".job_key k
where k.key = any($1::text[]) and k.scope <> 'period' and not exists (select from :"schema".job j where j.id = k.job_id)
returning k.key;

-- name: queue_limits
-- takes:
-- gives: queue text, most_completed bigint, most_other bigint
-- The queues that keep only so many finished jobs.
select name as queue, most_completed, most_other from :"schema".queue
where most_completed is not null or most_other is not null;

-- name: count_seconds
-- takes: leaf text, first bigint, pages integer
-- gives: queue text, second timestamptz, jobs bigint
select * from :"schema".count_seconds($1, $2, $3);

-- name: prune_before
-- takes: leaf text, first bigint, pages integer, queues text[], moments timestamptz[], dry boolean
-- gives: state text, jobs bigint
select * from :"schema".prune_before($1, $2, $3, $4, $5, $6);

-- name: forget_phases
-- takes: after uuid, room bigint, age double precision
-- gives: upto uuid, gone bigint
-- A page in the order of the jobs' ids: what is older than this, of jobs that are nowhere any more. With it the page's last
-- job as a whole.
with page as materialized (
  select p.job_id, coalesce(p.ended_at, p.began_at) < now() - make_interval(secs => $3) as old
  from :"schema".phase p where p.job_id > $1 order by p.job_id limit $2
), gone as (
  delete from :"schema".phase
  where job_id = any(array(
      select p.job_id from (select distinct job_id from page where old) as p
      left join lateral (
        select true as there from :"schema".job j where j.id = p.job_id
        union all select true from :"schema".job_archive a where a.id = p.job_id limit 1) as known on true
      where known.there is null))
    -- asked of each as it is when it goes: one id may come anew
    and coalesce(ended_at, began_at) < now() - make_interval(secs => $3)
  returning job_id
)
select (select job_id from page order by job_id desc limit 1) as upto, (select count(*) from gone) as gone;

-- name: forget_signals
-- takes: after uuid, room bigint, age double precision
-- gives: upto uuid, gone bigint
-- As forget_phases.
with page as materialized (
  select s.job_id, s.sent_at < now() - make_interval(secs => $3) as old
  from :"schema".signal s where s.job_id > $1 order by s.job_id limit $2
), gone as (
  delete from :"schema".signal
  where job_id = any(array(
      select p.job_id from (select distinct job_id from page where old) as p
      left join lateral (
        select true as there from :"schema".job j where j.id = p.job_id
        union all select true from :"schema".job_archive a where a.id = p.job_id limit 1) as known on true
      where known.there is null))
    and sent_at < now() - make_interval(secs => $3)
  returning job_id
)
select (select job_id from page order by job_id desc limit 1) as upto, (select count(*) from gone) as gone;
