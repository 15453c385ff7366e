-- Jobs that come after others. `node` is the picture of it, one row for each job of a bundle that comes after others or
-- that others come after, kept as long as the bundle; `dependency` is what is still to be met.

create table :"schema".node (
  bundle_id uuid not null,
  job_id uuid not null,
  task text not null,
  after uuid[] not null default '{}',
  outcome text,
  result json,
  constraint node_pkey primary key (bundle_id, job_id),
  constraint node_outcome_known check (outcome in ('completed', 'cancelled', 'dead'))
) with (fillfactor = 60);  -- each gets its outcome once: in its own page, or every index would have a new entry
create index node_job on :"schema".node (job_id);

-- What a job still waits for. Met, and so deleted, only while the job is blocked, by whoever has locked it; the last one
-- lets it begin. What has failed stays: when it is retried, so is what it has doomed.
create table :"schema".dependency (
  on_id uuid not null,
  job_id uuid not null,
  any_end boolean not null default false,
  constraint dependency_pkey primary key (on_id, job_id)
);
create index dependency_job on :"schema".dependency (job_id);

-- A fact of a job says: look at it, for others wait for it.
alter table :"schema".fact add column of_job boolean not null default false;
create index fact_of_job on :"schema".fact (target) where of_job;

-- Who finishes jobs meets dependencies, and who may look at bundles may look at these.
do $$
declare
  holder record;
begin
  for holder in
    select a.grantee::regrole as name, bool_or(a.privilege_type = 'INSERT') as writes
    from pg_class c cross join lateral aclexplode(c.relacl) a
    where c.oid = ':"schema".job_archive'::regclass and a.grantee not in (c.relowner, 0)
      and a.privilege_type in ('SELECT', 'INSERT')
    group by a.grantee
  loop
    execute format('grant select on %1$I.node, %1$I.dependency to %2$s', :'schema', holder.name);
    if holder.writes then
      execute format('grant insert, update, delete on %1$I.node, %1$I.dependency to %2$s', :'schema', holder.name);
    end if;
  end loop;
end $$;
