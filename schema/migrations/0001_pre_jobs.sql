-- The tables of a job's life, and the three functions that other programs may rely on.
--
--   job          unfinished jobs only: small, hot, updated in place. A finish deletes here ...
--   job_archive  ... and inserts here, in one statement. LIST by outcome, then RANGE by UTC day of finish,
--                so that history is dropped a day at a time and never slows a claim.
--   job_key      who holds a unique key. A table of its own: a key may outlive its job (scope `period`).
--   worker       one row per process start. Information and evidence, never the base of correctness.
--   sleeper      who sleeps and until when, so that a defer notifies only if somebody waits (see wake).
--   queue        what is known of a queue beyond its jobs: pause and limits.
--
-- No foreign keys from job: they would lock one hot row per queue or bundle. All times come from this server's
-- clock. :"schema" and :'schema' are filled in by the loader (psql can do the same: -v schema=jobqueue).

create sequence :"schema".job_seq;       -- order of becoming ready
create sequence :"schema".fence_seq;     -- drawn at every claim, never reused
create sequence :"schema".archive_seq;   -- order of finishing, read together with xact

create table :"schema".job (
  id uuid not null,
  seq bigint not null default nextval(':"schema".job_seq'),
  queue text collate "C" not null default 'default',
  task text not null,
  args json not null default '{}',
  priority smallint not null default 0,
  state text collate "C" not null default 'ready',
  due_at timestamptz not null default now(),
  attempt integer not null default 0,
  max_attempts integer not null default 20,
  crashes smallint not null default 0,
  lost smallint not null default 0,
  fence bigint not null default 0,
  worker_id uuid,
  claim_no bigint,
  lease_until timestamptz,
  started boolean not null default false,
  timeout double precision,
  deadline timestamptz,
  expires_at timestamptz,
  origin text,
  via text not null default 'sql',
  meta json,
  key text,
  bundle_id uuid,
  follow smallint not null default 0,
  awaited boolean not null default false,
  created_at timestamptz not null default now(),
  claimed_at timestamptz,
  aside_since timestamptz,
  progress json,
  errors jsonb,
  constraint job_pkey primary key (id),
  constraint job_queue_length check (char_length(queue) between 1 and 100),
  constraint job_task_length check (char_length(task) between 1 and 100),
  constraint job_origin_length check (char_length(origin) between 1 and 100),
  constraint job_key_length check (char_length(key) between 1 and 250),
  constraint job_args_object check (json_typeof(args) = 'object'),
  constraint job_state_known check (state in ('scheduled', 'blocked', 'ready', 'running')),
  -- A claim is whole or absent. A job that is not running has fence 0, which no worker ever holds.
  constraint job_claim_whole check (
    (state = 'running' and fence > 0 and worker_id is not null and lease_until is not null)
    or (state <> 'running' and fence = 0 and worker_id is null and lease_until is null)),
  constraint job_attempts_sane check (attempt >= 0 and max_attempts between 1 and 32767 and crashes >= 0 and lost >= 0),
  constraint job_timeout_positive check (timeout > 0)
) with (
  -- Beats update lease_until, which no index holds: with room in the page they stay HOT (measured 90 % at 70, 2 % at
  -- 100). Autovacuum by a fixed number of rows: by a share of the table it would come too late after a backlog.
  fillfactor = 70,
  autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0,
  autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000
);

-- Only ready jobs are in the claim's index. Suspects (a worker died while running them) are claimed one at a time.
create index job_ready on :"schema".job (queue, priority desc, seq) where state = 'ready' and crashes = 0;
create index job_suspect on :"schema".job (queue, priority desc, seq) where state = 'ready' and crashes > 0;
create index job_due on :"schema".job (due_at) where state = 'scheduled';
create index job_running on :"schema".job (seq) where state = 'running';

create table :"schema".job_archive (
  id uuid not null,
  queue text collate "C" not null,
  task text not null,
  args json not null,
  priority smallint not null,
  state text collate "C" not null,
  due_at timestamptz not null,
  attempt integer not null,
  max_attempts integer not null,
  crashes smallint not null,
  lost smallint not null,
  fence bigint not null,
  worker_id uuid,
  timeout double precision,
  deadline timestamptz,
  expires_at timestamptz,
  origin text,
  via text not null,
  meta json,
  key text,
  bundle_id uuid,
  follow smallint not null,
  created_at timestamptz not null,
  claimed_at timestamptz,
  finished_at timestamptz not null,
  result json,
  reason text,
  progress json,
  errors jsonb,
  seq bigint not null default nextval(':"schema".archive_seq'),
  xact xid8 not null default pg_current_xact_id(),
  constraint job_archive_state_final check (state in ('completed', 'cancelled', 'dead')),
  constraint job_archive_result_if_completed check ((result is not null) = (state = 'completed'))
) partition by list (state);

create table :"schema".job_archive_completed partition of :"schema".job_archive
  for values in ('completed') partition by range (finished_at);
create table :"schema".job_archive_other partition of :"schema".job_archive
  for values in ('cancelled', 'dead') partition by range (finished_at);

-- The one index of the archive: look-ups by id are bounded by the time inside the UUIDv7.
create index job_archive_id on :"schema".job_archive (id);

create table :"schema".job_key (
  key text not null,
  job_id uuid not null,
  scope text not null,
  expires_at timestamptz,
  constraint job_key_pkey primary key (key),
  constraint job_key_scope_known check (scope in ('waiting', 'unfinished', 'period')),
  constraint job_key_expiry check ((scope = 'period') = (expires_at is not null))
);

create table :"schema".worker (
  id uuid not null,
  app text not null,
  host text not null,
  pid integer not null,
  version text not null,
  queues text[] not null,
  concurrency integer not null,
  started_at timestamptz not null default now(),
  seen_at timestamptz not null default now(),
  stopped_at timestamptz,
  constraint worker_pkey primary key (id)
);

create table :"schema".queue (
  name text collate "C" not null,
  paused_at timestamptz,
  resume_at timestamptz,
  concurrency integer,
  constraint queue_pkey primary key (name),
  constraint queue_name_length check (char_length(name) between 1 and 100)
);

-- Unlogged: no WAL, no fsync; empty after a crash, when the workers reconnect and publish anew.
-- queue '' is a stager that sleeps until the next due job, '*' a claimer that serves every queue.
create unlogged table :"schema".sleeper (
  worker_id uuid not null,
  queue text collate "C" not null,
  wake_at timestamptz not null,
  constraint sleeper_pkey primary key (worker_id, queue)
);

create function :"schema".new_id() returns uuid language sql volatile
return encode(
  set_bit(set_bit(
    overlay(uuid_send(gen_random_uuid())
      placing substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3) from 1 for 6),
    52, 1), 53, 1), 'hex')::uuid;
comment on function :"schema".new_id() is 'A UUIDv7: the time in milliseconds, then random bits.';

alter table :"schema".job alter column id set default :"schema".new_id();

-- Tells sleepers on a queue that a job is ready (due is null), or that one comes due at `due`.
--
-- A NOTIFY takes a database-wide lock at commit (20 clients: 18 700 inserts/s without, 3 060 with it), so only a
-- sleeper that would otherwise miss the job is worth one. The shared lock closes the race: a worker publishes its
-- sleep under the exclusive lock and looks once more. Whoever had the shared lock first has committed before the
-- worker looks; whoever comes later reads the flag with a fresh snapshot (volatile plpgsql). Elsewhere than in READ
-- COMMITTED the snapshot is not fresh, and inside a caller's transaction the lock would be held for too long: there
-- it notifies always.
create function :"schema".wake(queue text, due timestamptz, always boolean) returns void
language plpgsql volatile as $$
begin
  if not always and current_setting('transaction_isolation') = 'read committed' then
    perform pg_advisory_xact_lock_shared(:'wake_class', :'wake_key');
    if due is null and not exists (
      select from :"schema".sleeper s where s.queue in (wake.queue, '*')
    ) or due is not null and not exists (
      select from :"schema".sleeper s where s.queue = '' and s.wake_at > wake.due
    ) then
      return;
    end if;
  end if;
  perform pg_notify(:'wake_channel', case when due is null then 'r:' else 'd:' end || queue);
end $$;

-- The contract for plain SQL, other languages and synchronous drivers: every parameter is of a type that any driver
-- binds. Returns the job's id. Nothing is validated against the task, so the arguments are the caller's care. The same
-- id a second time changes nothing as long as the archive keeps the job.
create function :"schema".defer(
  task text,
  args text default '{}',
  queue text default 'default',
  priority integer default 0,
  delay double precision default 0,
  at timestamptz default null,
  max_attempts integer default 20,
  timeout double precision default null,
  origin text default null,
  meta text default null,
  id text default null
) returns uuid language plpgsql volatile as $$
declare
  job_id uuid := coalesce(defer.id::uuid, :"schema".new_id());
  due timestamptz := coalesce(defer.at, clock_timestamp() + make_interval(secs => defer.delay));
  waits boolean := due > clock_timestamp();
begin
  insert into :"schema".job
    (id, queue, task, args, priority, state, due_at, max_attempts, timeout, origin, via, meta)
  values
    (job_id, defer.queue, defer.task, defer.args::json, defer.priority, case when waits then 'scheduled' else 'ready' end,
     due, defer.max_attempts, defer.timeout, defer.origin, 'defer', defer.meta::json)
  on conflict on constraint job_pkey do nothing;
  if not found then
    return job_id;
  end if;
  if defer.id is not null then
    -- after the insert, with a newer snapshot: it may have run in between
    perform from :"schema".job_archive a where a.id = job_id;
    if found then
      delete from :"schema".job j where j.id = job_id;
      return job_id;
    end if;
  end if;
  perform :"schema".wake(defer.queue, case when waits then due end, true);
  return job_id;
end $$;

-- A bare INSERT wakes workers as well. The condition keeps our own inserts free of the trigger's cost.
create function :"schema".wake_for_insert() returns trigger language plpgsql as $$
begin
  perform :"schema".wake(new.queue, case when new.state = 'scheduled' then new.due_at end, true);
  return null;
end $$;
create trigger job_inserted after insert on :"schema".job
  for each row when (new.via = 'sql' and new.state in ('ready', 'scheduled'))
  execute function :"schema".wake_for_insert();

-- Makes the archive's partitions for yesterday until `days` ahead (UTC); returns how many it made. Of the owner, so that
-- a worker needs no right to create tables. Create + ATTACH takes no lock that a finish would wait for.
create function :"schema".extend_archive(days integer) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  kind text;
  day date;
  leaf text;
  made integer := 0;
begin
  perform pg_advisory_xact_lock(:'wake_class', :'archive_key');
  foreach kind in array array['completed', 'other'] loop
    for ahead in -1 .. days loop
      day := (now() at time zone 'UTC')::date + ahead;
      leaf := format('job_archive_%s_%s', kind, to_char(day, 'YYYYMMDD'));
      if to_regclass(format('%I.%I', :'schema', leaf)) is null then
        execute format('create table %I.%I (like %I.%I including defaults including constraints)',
          :'schema', leaf, :'schema', 'job_archive_' || kind);
        -- The check spares ATTACH a scan; it goes again at once, the partition's own bound says the same.
        execute format('alter table %I.%I add constraint bound check (finished_at >= %L and finished_at < %L)',
          :'schema', leaf, day || ' 00:00+00', day + 1 || ' 00:00+00');
        execute format('alter table %I.%I attach partition %I.%I for values from (%L) to (%L)',
          :'schema', 'job_archive_' || kind, :'schema', leaf, day || ' 00:00+00', day + 1 || ' 00:00+00');
        execute format('alter table %I.%I drop constraint bound', :'schema', leaf);
        made := made + 1;
      end if;
    end loop;
  end loop;
  return made;
end $$;

select :"schema".extend_archive(7);
