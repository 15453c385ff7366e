-- Phases: durable steps of a job, by their names. A sleep and a wait for a signal are kept in the same place: whatever a
-- later run of the job is to find as an earlier one left it.

create table :"schema".phase (
  job_id uuid not null,
  name text not null,
  kind text not null,
  signal text,
  place integer not null,
  attempt integer not null,
  fence bigint not null,
  worker_id uuid,
  began_at timestamptz not null,
  ended_at timestamptz,
  wake_at timestamptz,
  result json,
  error json,
  constraint phase_pkey primary key (job_id, name),
  constraint phase_name_length check (char_length(name) between 1 and 100),
  constraint phase_kind_known check (kind in ('phase', 'sleep', 'wait')),
  constraint phase_times_in_range check (least(began_at, ended_at, wake_at) >= '1970-01-01 00:00+00'
    and greatest(began_at, ended_at, wake_at) <= '3000-01-01 00:00+00')
) with (fillfactor = 80);

create table :"schema".signal (
  job_id uuid not null,
  name text not null,
  seq bigint not null generated always as identity,
  payload json not null,
  sent_at timestamptz not null default now(),
  constraint signal_pkey primary key (job_id, name, seq),
  constraint signal_name_length check (char_length(name) between 1 and 100),
  constraint signal_times_in_range check (sent_at between '1970-01-01 00:00+00' and '3000-01-01 00:00+00')
);

-- Of one job there are few, whatever a look at the table finds on a day when one job has most of it: the planner would read
-- the whole table for each of 500 others.
alter table :"schema".phase alter column job_id set (n_distinct = -0.1);
alter table :"schema".signal alter column job_id set (n_distinct = -0.1);

-- How many signals the job was ever sent. Whoever puts a job to sleep that waits for one compares this, under the row's
-- lock, with what he saw when he looked for it in vain.
alter table :"schema".job add column signals integer not null default 0;
-- Whether it was put to sleep until a signal comes, and not for a retry or the like.
alter table :"schema".job add column hears boolean not null default false;

-- Leaves a signal with a job that has not ended, and wakes the job if it sleeps until such a one comes. Says `done`,
-- `full` (it has 1 000 that it has not read), `too_late` or `not_found`. For everyone: the library calls it too.
create function :"schema".signal(id uuid, name text, payload text default 'null', most_bytes integer default 1048576) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  found_job record;
  sleeps boolean;
  fault text := case
    when signal.id is null then 'id: must be the id of a job'
    when char_length(signal.name) between 1 and 100 is not true then 'name: must have 1 to 100 characters'
    when octet_length(signal.payload) <= signal.most_bytes is not true
      then format('payload: must be JSON of at most %s bytes', signal.most_bytes)
  end;
begin
  if fault is not null then
    raise exception '%', fault using errcode = 'invalid_parameter_value';
  end if;
  for look in 1 .. 2 loop  -- once more: it may have come back from the archive between the two looks
    select j.state = 'scheduled' and j.hears as hears, j.queue into found_job from :"schema".job j
    where j.id = signal.id for no key update;
    exit when found;
    perform from :"schema".job_archive a where a.id = signal.id;
    if found then
      return 'too_late';
    end if;
  end loop;
  if found_job.queue is null then
    return 'not_found';
  end if;
  if (select count(*) from (select from :"schema".signal s where s.job_id = signal.id limit 1000) as unread) = 1000 then
    return 'full';
  end if;
  insert into :"schema".signal (job_id, name, payload) values (signal.id, signal.name, signal.payload::json);
  -- with a newer snapshot than the lock: what the job was put to sleep with is there to be seen
  sleeps := found_job.hears and exists (
    select from :"schema".phase p
    where p.job_id = signal.id and p.kind = 'wait' and p.signal = signal.name and p.ended_at is null);
  update :"schema".job j set signals = j.signals + 1,
    state = case when sleeps then 'ready' else j.state end,
    due_at = case when sleeps then clock_timestamp() else j.due_at end,
    seq = case when sleeps then nextval(':"schema".job_seq') else j.seq end
  where j.id = signal.id;
  if sleeps then
    perform :"schema".wake(found_job.queue, null, true);
  end if;
  return 'done';
end $$;

-- Whoever may do this with jobs may do that with their phases and signals.
do $$
declare
  holder record;
begin
  revoke execute on function :"schema".signal(uuid, text, text, integer) from public;
  for holder in
    select distinct case held.grantee when 0 then 'public' else held.grantee::regrole::text end as name, may.do_that
    from (
      select c.relname, c.relowner, a.grantee, a.privilege_type from pg_class c cross join lateral aclexplode(c.relacl) a
      where c.relnamespace = ':"schema"'::regnamespace
      union all
      select p.proname, p.proowner, a.grantee, a.privilege_type from pg_proc p cross join lateral aclexplode(p.proacl) a
      where p.pronamespace = ':"schema"'::regnamespace) as held(thing, owner, grantee, privilege)
    join (values
      ('job_archive', 'SELECT', 'select'),
      ('job', 'UPDATE', 'select, delete'), ('job', 'DELETE', 'select, delete'), ('drop_archive', 'EXECUTE', 'select, delete'),
      ('job_archive', 'DELETE', 'select, insert, update, delete'),
      ('job', 'INSERT', 'execute'), ('defer', 'EXECUTE', 'execute')) as may(thing, privilege, do_that)
      on may.thing = held.thing and may.privilege = held.privilege
    where held.grantee <> held.owner
  loop
    execute format(case holder.do_that when 'execute' then 'grant %2$s on function %1$I.signal(uuid, text, text, integer) to %3$s'
      else 'grant %2$s on %1$I.phase, %1$I.signal to %3$s' end, :'schema', holder.do_that, holder.name);
  end loop;
end $$;
