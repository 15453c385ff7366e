-- Schedules: jobs to be stored at planned times. Whoever fires one locks its row, and moves `next_at` in the transaction
-- that stores the jobs: so each planned time is fired once, without a leader.
create table :"schema".schedule (
  name text collate "C" not null,
  source text not null,
  task text not null,
  queue text collate "C" not null,
  args json not null,
  options json not null,
  cron text not null,
  tz text not null,
  missed text not null,
  overlap text not null,
  jitter double precision not null default 0,
  starts_at timestamptz,
  ends_at timestamptz,
  next_at timestamptz,
  last_at timestamptz,
  last_job uuid,
  paused_at timestamptz,
  paused_until timestamptz,
  seen_at timestamptz,
  broken text,
  created_at timestamptz not null default now(),
  constraint schedule_pkey primary key (name),
  constraint schedule_source_known check (source in ('code', 'stored')),
  constraint schedule_missed_known check (missed in ('skip', 'once', 'all')),
  constraint schedule_overlap_known check (overlap in ('allow', 'skip', 'queue')),
  constraint schedule_jitter_range check (jitter between 0 and 86400),
  -- what Python could not read
  constraint schedule_times_range check (
    least(starts_at, ends_at, next_at, last_at, paused_at, paused_until, seen_at, created_at) >= :'earliest'
    and greatest(starts_at, ends_at, next_at, last_at, paused_at, paused_until, seen_at, created_at) <= :'latest')
);
create index schedule_next on :"schema".schedule (next_at) where next_at is not null;
create index schedule_seen on :"schema".schedule (seen_at) where source = 'code';

-- Who could run jobs so far fires schedules now, and who could look at them may read what schedules there are.
do $$
declare
  holder record;
begin
  for holder in
    select case a.grantee when 0 then 'public' else a.grantee::regrole::text end as name, bool_or(a.privilege_type = 'DELETE') as works
    from pg_class c cross join lateral aclexplode(c.relacl) a
    where c.oid = ':"schema".job_archive'::regclass and a.grantee <> c.relowner
      and a.privilege_type in ('SELECT', 'DELETE')
    group by a.grantee
  loop
    execute format('grant select on %I.schedule to %s', :'schema', holder.name);
    if holder.works then
      execute format('grant insert, update, delete on %I.schedule to %s', :'schema', holder.name);
    end if;
  end loop;
end $$;
