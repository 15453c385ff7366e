-- History by the minute, from the workers' own counts: pages read this, never the archive.

-- What workers have counted: a row for each minute, queue and task that had anything, and one of empty names for all
-- together. `run` and `wait` are histograms: how many took up to each bound, trailing zeros left out.
create table :"schema".minute (
  at timestamptz not null,
  queue text collate "C" not null,
  task text collate "C" not null,
  claimed bigint not null,
  completed bigint not null,
  cancelled bigint not null,
  dead bigint not null,
  retried bigint not null,
  snoozed bigint not null,
  suspended bigint not null,
  released bigint not null,
  put_aside bigint not null,
  lined_up bigint not null,
  refused bigint not null,
  lost bigint not null,
  seconds double precision not null,
  run bigint[] not null,
  wait bigint[] not null,
  constraint minute_pkey primary key (queue, at, task)
) with (fillfactor = 80);
create index minute_at on :"schema".minute (at);
create index minute_task on :"schema".minute (task, at);

-- The same by the hour, for longer. Written together with it: so a page reads the last day from few rows.
create table :"schema".hour (
  like :"schema".minute including defaults,
  constraint hour_pkey primary key (queue, at, task)
) with (fillfactor = 50);
create index hour_at on :"schema".hour (at);
create index hour_task on :"schema".hour (task, at);

-- Up to which number each worker's counts are in: what is sent again, since its answer was lost, does not count twice.
create table :"schema".noted (
  worker_id uuid not null,
  number bigint not null,
  at timestamptz not null,
  constraint noted_pkey primary key (worker_id)
) with (fillfactor = 50);

-- How long queues were, minute by minute. The row of the empty name is of all: whoever inserts it looks for the fleet.
-- Of it `deferred` is a counter; the rest is null if the look failed.
create table :"schema".depth (
  at timestamptz not null,
  queue text collate "C" not null,
  ready bigint,
  scheduled bigint,
  blocked bigint,
  running bigint,
  oldest_due double precision,
  deferred bigint,
  constraint depth_pkey primary key (queue, at)
);
create index depth_at on :"schema".depth (at);

-- Handlers that block the loop of their worker, or were asked to end and do not, as they were then.
alter table :"schema".worker add column stuck json;
alter table :"schema".worker add column stuck_at timestamptz;

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
    execute format('grant select on %1$I.minute, %1$I.hour, %1$I.noted, %1$I.depth to %2$s', :'schema', holder.name);
    if holder.works then
      execute format('grant insert, update, delete on %1$I.minute, %1$I.hour, %1$I.noted, %1$I.depth to %2$s', :'schema',
        holder.name);
    end if;
  end loop;
end $$;
