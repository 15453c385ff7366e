-- What is stored can be read and computed with, a key has a job, and nobody may do more than his work needs.
--
-- The range of moments and lengths is that of `jobqueue/base/moments.py`: the years 1970 to 3000, and ten years.

-- First what is there already, while everybody works on: an infinity, a year that Python cannot read, a number of
-- attempts that cannot grow. Each goes to the near end of the range.
create or replace function pg_temp.mended(moment timestamptz) returns timestamptz language sql immutable
return case when moment is not null then least(greatest(moment, '1970-01-01 00:00+00'), '3000-01-01 00:00+00') end;
create or replace function pg_temp.mended(seconds double precision) returns double precision language sql immutable
return case when seconds > 0 then least(seconds, 316224000) end;

update :"schema".job set
  due_at = pg_temp.mended(due_at), created_at = pg_temp.mended(created_at), deadline = pg_temp.mended(deadline),
  expires_at = pg_temp.mended(expires_at), claimed_at = pg_temp.mended(claimed_at), lease_until = pg_temp.mended(lease_until),
  aside_since = pg_temp.mended(aside_since), cancel_asked = pg_temp.mended(cancel_asked),
  timeout = pg_temp.mended(timeout), budget = pg_temp.mended(budget), attempt = least(attempt, 32768)
where least(due_at, created_at, deadline, expires_at, claimed_at, lease_until, aside_since, cancel_asked) < '1970-01-01 00:00+00'
  or greatest(due_at, created_at, deadline, expires_at, claimed_at, lease_until, aside_since, cancel_asked) > '3000-01-01 00:00+00'
  or timeout > 316224000 or budget > 316224000 or budget <= 0 or attempt > 32768;

-- The archive gets only what was in `job`: it needs no such check.
update :"schema".job_archive set
  due_at = pg_temp.mended(due_at), created_at = pg_temp.mended(created_at), deadline = pg_temp.mended(deadline),
  expires_at = pg_temp.mended(expires_at), claimed_at = pg_temp.mended(claimed_at),
  timeout = pg_temp.mended(timeout), budget = pg_temp.mended(budget)
where least(due_at, created_at, deadline, expires_at, claimed_at) < '1970-01-01 00:00+00'
  or greatest(due_at, created_at, deadline, expires_at, claimed_at) > '3000-01-01 00:00+00'
  or timeout > 316224000 or budget > 316224000 or budget <= 0;

update :"schema".queue set
  paused_at = pg_temp.mended(paused_at), resume_at = pg_temp.mended(resume_at),
  keep_completed = pg_temp.mended(keep_completed), keep_other = pg_temp.mended(keep_other)
where least(paused_at, resume_at) < '1970-01-01 00:00+00' or greatest(paused_at, resume_at) > '3000-01-01 00:00+00'
  or keep_completed > 316224000 or keep_other > 316224000;

drop function pg_temp.mended(timestamptz);
drop function pg_temp.mended(double precision);

-- Not validated: what is there is sound by now, and nobody has to wait for another look at it. NaN is more than any number.
alter table :"schema".job
  add constraint job_times_in_range check (
    least(due_at, created_at, deadline, expires_at, claimed_at, lease_until, aside_since, cancel_asked)
      >= '1970-01-01 00:00+00'
    and greatest(due_at, created_at, deadline, expires_at, claimed_at, lease_until, aside_since, cancel_asked)
      <= '3000-01-01 00:00+00') not valid,
  add constraint job_lengths_in_range check (timeout <= 316224000 and budget > 0 and budget <= 316224000) not valid,
  add constraint job_attempt_in_range check (attempt <= 32768) not valid;  -- a claim adds one, and no more than that
alter table :"schema".queue
  add constraint queue_times_in_range check (
    least(paused_at, resume_at) >= '1970-01-01 00:00+00' and greatest(paused_at, resume_at) <= '3000-01-01 00:00+00'),
  add constraint queue_keep_in_range check (keep_completed <= 316224000 and keep_other <= 316224000);

-- Keys are compared byte by byte. By the database's collation an index is no longer in order once the system's library
-- sorts otherwise, and lets one key in twice. Where that has happened, the newest job has it; no index is asked.
set local enable_indexscan = off;
set local enable_indexonlyscan = off;
set local enable_bitmapscan = off;
delete from :"schema".job_key where ctid in (
  select place from (select ctid as place, row_number() over (partition by key collate "C" order by job_id desc) as nth
    from :"schema".job_key) as k
  where nth > 1);
reset enable_indexscan;
reset enable_indexonlyscan;
reset enable_bitmapscan;
alter table :"schema".job_key alter column key type text collate "C";

-- A publication of all tables replicates the archive too, and then a row without an identity can be neither deleted,
-- which a retry does as well, nor changed. Costs nothing where nothing is published.
do $$
declare
  leaf regclass;
begin
  for leaf in
    select i.inhrelid from pg_inherits i
    where i.inhparent in (':"schema".job_archive_completed'::regclass, ':"schema".job_archive_other'::regclass)
  loop
    execute format('alter table %s replica identity full', leaf);
  end loop;
end $$;

-- As in 0001; days made from now on have an identity, and nobody makes more than a month of them.
create or replace function :"schema".extend_archive(days integer) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  kind text;
  day date;
  leaf text;
  made integer := 0;
begin
  perform pg_advisory_xact_lock(:'wake_class', :'archive_key');
  foreach kind in array array['completed', 'other'] loop
    for ahead in -1 .. least(days, 31) loop
      day := (now() at time zone 'UTC')::date + ahead;
      leaf := format('job_archive_%s_%s', kind, to_char(day, 'YYYYMMDD'));
      if to_regclass(format('%I.%I', :'schema', leaf)) is null then
        execute format('create table %I.%I (like %I.%I including defaults including constraints)',
          :'schema', leaf, :'schema', 'job_archive_' || kind);
        execute format('alter table %I.%I replica identity full', :'schema', leaf);
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

-- As in 0001, and as its owner: who may call it needs no right on any table. So it says what is wrong with an argument,
-- by its name, and takes nothing that a worker could not read.
create or replace function :"schema".defer(
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
) returns uuid
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  job_id uuid;
  due timestamptz;
  waits boolean;
  fault text := case
    when char_length(defer.task) between 1 and 100 is not true then 'task: must have 1 to 100 characters'
    when char_length(defer.queue) between 1 and 100 is not true then 'queue: must have 1 to 100 characters'
    when defer.queue = '*' then 'queue: * means all queues of a worker; a job goes to one, by name'
    when not char_length(defer.origin) between 1 and 100 then 'origin: must have 1 to 100 characters'
    when defer.priority between -32768 and 32767 is not true then 'priority: must be from -32768 to 32767'
    when defer.max_attempts between 1 and 32767 is not true then 'max_attempts: must be from 1 to 32767'
    when not defer.delay between 0 and 316224000 then 'delay: must be between 0 seconds and ten years'
    when not (defer.timeout > 0 and defer.timeout <= 316224000) then 'timeout: must be above 0 seconds, and at most ten years'
    when not defer.at between '1970-01-01 00:00+00' and '3000-01-01 00:00+00' then 'at: must be between the years 1970 and 3000'
  end;
begin
  if fault is not null then
    raise exception '%', fault using errcode = 'invalid_parameter_value';
  end if;
  job_id := coalesce(defer.id::uuid, :"schema".new_id());
  due := coalesce(defer.at, clock_timestamp() + make_interval(secs => coalesce(defer.delay, 0)));
  waits := due > clock_timestamp();
  insert into :"schema".job
    (id, queue, task, args, priority, state, due_at, max_attempts, timeout, origin, via, meta)
  values
    (job_id, defer.queue, defer.task, defer.args::json, defer.priority, case when waits then 'scheduled' else 'ready' end,
     due, defer.max_attempts, defer.timeout, defer.origin, 'defer', defer.meta::json)
  on conflict on constraint job_pkey do nothing;
  if not found then
    perform :"schema".await_standby();
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

-- What runs as the owner is not for everybody. Who had the rights on the tables keeps what he could do; see the script in
-- schema/README.md for all others.
do $$
declare
  called record;
  holder record;
begin
  for called in
    select * from (values
      ('extend_archive(integer)', 'job_archive', 'INSERT'),
      ('count_archive(integer)', 'job_archive', 'SELECT'),
      ('defer(text, text, text, integer, double precision, timestamptz, integer, double precision, text, text, text)',
        'job', 'INSERT')) as f(signature, relation, privilege)
  loop
    execute format('revoke execute on function %I.%s from public', :'schema', called.signature);
    for holder in
      select distinct a.grantee from pg_class c cross join lateral aclexplode(c.relacl) a
      where c.oid = to_regclass(format('%I.%I', :'schema', called.relation)) and a.privilege_type = called.privilege
        and a.grantee <> c.relowner
    loop
      execute format('grant execute on function %I.%s to %s', :'schema', called.signature,
        case holder.grantee when 0 then 'public' else holder.grantee::regrole::text end);
    end loop;
  end loop;
end $$;
