"""The SQL of the raw limit, and what we ask about tables while measuring.

It stands here and not in `schema/statements`: it is no statement of the product, and the limit's worker is a bare
program that reads no files. Names are looked up in the search_path that each of our bare connections begins with.
"""

TABLE = """
create table raw_job (
  id bigint generated always as identity primary key,
  queue text not null default 'default',
  task text not null,
  args json not null,
  state smallint not null default 0,
  priority smallint not null default 0,
  due_at timestamptz not null default now(),
  key text,
  claimed_at timestamptz,
  finished_at timestamptz
);
create index raw_ready on raw_job (queue, priority desc, id) where state = 0;
create unique index raw_key on raw_job (key) where key is not null and state < 2;
"""

INSERT = "insert into raw_job (task, args) values ($1, $2)"
INSERT_AND_WAKE = """
with new as (insert into raw_job (task, args) values ($1, $2))
select pg_notify($3, '')
"""
INSERT_MANY = "insert into raw_job (task, args) select $1, given.args::json from unnest($2::text[]) as given(args)"
INSERT_SPECIAL = """
insert into raw_job (task, args, priority, key, due_at)
select $1, given.args::json, given.priority, given.key, now() + make_interval(secs => $5)
from unnest($2::text[], $3::smallint[], $4::text[]) as given(args, priority, key)
on conflict (key) where key is not null and state < 2 do nothing
"""
CLAIM = """
with best as materialized (
  select id from raw_job where state = 0 and queue = 'default' and due_at <= now()
  order by priority desc, id limit $1 for update skip locked
)
update raw_job set state = 1, claimed_at = now() where id = any(array(select id from best))
returning id, task, args
"""
NEXT = "select extract(epoch from min(due_at) - clock_timestamp())::float8 from raw_job where state = 0"
FINISH = "update raw_job set state = 2, finished_at = now() where id = any($1::bigint[]) and state = 1"

RAW_LAST = "select max(id) from raw_job"
RAW_FINISHED = "select state = 2 from raw_job where id = $1"
RAW_TALLY = """
select count(*), extract(epoch from max(finished_at) - min(case when $2 then due_at else claimed_at end))::float8
from raw_job where state = 2 and claimed_at >= $1
"""
OUR_FINISHED = "select not exists (select from job where id = $1)"
OUR_TALLY = """
select count(*), extract(epoch from max(finished_at) - min(case when $2 then due_at else claimed_at end))::float8
from job_archive where state = 'completed' and claimed_at >= $1
"""
CLEAR = "truncate job, job_archive, job_key, queue, raw_job"
HISTORY = """
insert into job_archive (id, queue, task, args, priority, state, due_at, attempt, max_attempts, crashes, lost, fence,
  via, follow, created_at, claimed_at, finished_at, result)
select new_id(), 'default', 'noop', json_build_object('n', n), 0, 'completed', now(), 1, 20, 0, 0, n,
  'python', 0, now(), now(), now(), 'null'
from generate_series(1, $1::integer) as n
"""
SNAPSHOT = "select pg_current_snapshot()"
NOW = "select clock_timestamp()"
SETTINGS = """
select name, current_setting(name) from unnest(array['server_version', 'fsync', 'synchronous_commit',
  'full_page_writes', 'shared_buffers', 'max_wal_size']) as name
"""
