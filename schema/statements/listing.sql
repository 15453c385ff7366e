-- name: archive_pieces
-- takes:
-- gives: kind text, since timestamptz, until timestamptz
-- The pieces of the archive that have had jobs, or may get some while the others are looked at; the newest first.
select kind, since, until from :"schema".archive_pieces()
where pg_relation_size(piece) > 0 or now() between since - interval '1 minute' and until + interval '1 minute'
order by until desc, kind;

-- name: look_unfinished
-- takes: before uuid, room integer, page integer, states text[], queue text, task text, origin text, pattern text
-- gives: edge uuid, place uuid, id uuid
select * from :"schema".look_unfinished($1, $2, $3, $4, $5, $6, $7, $8);

-- name: look_in_states
-- takes: before uuid, room bigint, page bigint, states text[], queue text, task text, origin text, pattern text
-- gives: whole boolean, place uuid, id uuid
-- The same by the indexes of the states, for a few jobs among millions of others: at most `room` of each state are read,
-- and if there are not more in all, it is the `whole` answer.
with seen as materialized (
  select case when :"schema".timed(id) then id else :"schema".place(id, created_at) end as place, * from (
    (select j.id, j.created_at, j.state, j.queue, j.task, j.origin from :"schema".job j
    where j.state = 'running' and 'running' = any($4::text[]) order by j.seq limit $2)
    union all
    (select j.id, j.created_at, j.state, j.queue, j.task, j.origin from :"schema".job j
    where j.state = 'scheduled' and 'scheduled' = any($4::text[]) and j.due_at between '-infinity' and 'infinity'
    order by j.due_at limit $2)
    union all
    (select j.id, j.created_at, j.state, j.queue, j.task, j.origin from :"schema".job j
    where j.state = 'ready' and j.crashes = 0 and 'ready' = any($4::text[])
    order by j.queue, j.priority desc, j.seq limit $2)
    union all
    (select j.id, j.created_at, j.state, j.queue, j.task, j.origin from :"schema".job j
    where j.state = 'ready' and j.crashes > 0 and 'ready' = any($4::text[])
    order by j.queue, j.priority desc, j.seq limit $2)
    union all
    (select j.id, j.created_at, j.state, j.queue, j.task, j.origin from :"schema".job j
    where j.state = 'blocked' and 'blocked' = any($4::text[])
      and j.id between '00000000-0000-0000-0000-000000000000' and 'ffffffff-ffff-ffff-ffff-ffffffffffff'
    order by j.queue, j.id limit $2)
  ) as arm
), whole as materialized (
  select count(*) < $2 as whole from seen
), found as materialized (
  select place, id from seen
  where place < $1 and ($5::text is null or queue = $5) and ($6::text is null or task = $6)
    and ($7::text is null or origin = $7) and ($8::text is null or id::text like $8)
  order by place desc limit $3
)
select whole, place, id from whole left join found on whole order by place desc;

-- name: unfinished_jobs
-- takes: ids uuid[], payload boolean
-- gives: id uuid, task text, queue text, state text, priority smallint, attempt integer, max_attempts integer, crashes smallint, lost smallint, due_at timestamptz, created_at timestamptz, claimed_at timestamptz, finished_at timestamptz, timeout double precision, deadline timestamptz, expires_at timestamptz, origin text, worker_id uuid, lease_until timestamptz, cancel_asked timestamptz, key text, bundle_id uuid, gates text[], waits_for text, reason text, errors text, args text, result text, meta text, progress text, read_at timestamptz
select id, task, queue, state, priority, attempt, max_attempts, crashes, lost, due_at, created_at, claimed_at,
  null::timestamptz as finished_at, timeout, deadline, expires_at, origin, worker_id, lease_until, cancel_asked, key, bundle_id,
  gates, gate as waits_for, null::text as reason, errors::text as errors, case when $2 then args::text end as args, null::text as result,
  meta::text as meta, progress::text as progress, now() as read_at
from :"schema".job where id = any($1);

-- name: look_finished
-- takes: kind text, since timestamptz, until timestamptz, top uuid, before uuid, floor uuid, room integer, page integer, states text[], queue text, task text, origin text, pattern text, payload boolean
-- gives: edge uuid, more boolean, place uuid, id uuid, task text, queue text, state text, priority smallint, attempt integer, max_attempts integer, crashes smallint, lost smallint, due_at timestamptz, created_at timestamptz, claimed_at timestamptz, finished_at timestamptz, timeout double precision, deadline timestamptz, expires_at timestamptz, origin text, worker_id uuid, lease_until timestamptz, cancel_asked timestamptz, key text, bundle_id uuid, gates text[], waits_for text, reason text, errors text, args text, result text, meta text, progress text, read_at timestamptz
select edge, more, place, id, task, queue, state, priority, attempt, max_attempts, crashes, lost, due_at, created_at,
  claimed_at, finished_at, timeout, deadline, expires_at, origin, worker_id, lease_until, cancel_asked, key, bundle_id,
  null::text[] as gates, null::text as waits_for, reason, errors, args, result, meta, progress, read_at
from :"schema".look_finished($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14);

-- name: search_unfinished
-- takes: before uuid, room integer, page integer, states text[], queue text, task text, origin text, pattern text, wanted text, seconds double precision
-- gives: edge uuid, place uuid, id uuid, seen bigint
select edge, place, id, seen
from :"schema".search_unfinished($1, $2, $3, $4, $5, $6, $7, $8, $9::text::jsonb, $10);

-- name: search_finished
-- takes: kind text, since timestamptz, until timestamptz, top uuid, before uuid, floor uuid, room integer, page integer, states text[], queue text, task text, origin text, pattern text, payload boolean, wanted text, seconds double precision
-- gives: edge uuid, more boolean, seen bigint, place uuid, id uuid, task text, queue text, state text, priority smallint, attempt integer, max_attempts integer, crashes smallint, lost smallint, due_at timestamptz, created_at timestamptz, claimed_at timestamptz, finished_at timestamptz, timeout double precision, deadline timestamptz, expires_at timestamptz, origin text, worker_id uuid, lease_until timestamptz, cancel_asked timestamptz, key text, bundle_id uuid, gates text[], waits_for text, reason text, errors text, args text, result text, meta text, progress text, read_at timestamptz
select edge, more, seen, place, id, task, queue, state, priority, attempt, max_attempts, crashes, lost, due_at, created_at,
  claimed_at, finished_at, timeout, deadline, expires_at, origin, worker_id, lease_until, cancel_asked, key, bundle_id,
  null::text[] as gates, null::text as waits_for, reason, errors, args, result, meta, progress, read_at
from :"schema".search_finished($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15::text::jsonb, $16);

-- name: find_unfinished
-- takes: after uuid, room integer, page integer, states text[], queue text, task text, origin text
-- gives: edge uuid, id uuid
select * from :"schema".find_unfinished($1, $2, $3, $4, $5, $6, $7);

-- name: find_finished
-- takes: kind text, since timestamptz, until timestamptz, after uuid, room integer, page integer, states text[], queue text, task text, origin text
-- gives: edge uuid, id uuid
select * from :"schema".find_finished($1, $2, $3, $4, $5, $6, $7, $8, $9, $10);

-- name: seek_unfinished
-- takes: after uuid, room integer, page integer, states text[], queue text, task text, origin text, wanted text, seconds double precision
-- gives: edge uuid, id uuid
select * from :"schema".seek_unfinished($1, $2, $3, $4, $5, $6, $7, $8::text::jsonb, $9);

-- name: seek_finished
-- takes: kind text, since timestamptz, until timestamptz, after uuid, room integer, page integer, states text[], queue text, task text, origin text, wanted text, seconds double precision
-- gives: edge uuid, id uuid
select * from :"schema".seek_finished($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::text::jsonb, $12);

-- name: place_of
-- takes: id uuid
-- gives: place uuid
-- Of an id that tells no time: the archive is looked through by its index.
select :"schema".place(id, created_at) as place from :"schema".job where id = $1
union all
select :"schema".place(id, created_at) from :"schema".job_archive where id = $1;
