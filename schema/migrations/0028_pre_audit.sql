-- Who did what: one row for each call that said who acts, written in the transaction that makes the change. A call of many
-- pages adds to the numbers of its row with each of them. `what` is what was meant and the target, never a payload; `jobs`
-- are up to 1 000 ids: those that were named, or those that a filter found and changed. See `schema/README.md`.
create table :"schema".audit (
  id bigint generated always as identity,
  at timestamptz not null default now(),
  who text not null,
  via text,
  action text not null,
  what json not null,
  matched bigint not null default 0,
  changed bigint not null default 0,
  refused json,
  jobs uuid[],
  constraint audit_pkey primary key (id),
  constraint audit_who_length check (char_length(who) between 1 and 200),
  constraint audit_via_length check (char_length(via) between 1 and 200),
  constraint audit_action_length check (char_length(action) between 1 and 100),
  constraint audit_jobs_bound check (cardinality(jobs) <= 1000),
  -- what Python could not read
  constraint audit_times_range check (at between :'earliest' and :'latest')
);
create index audit_at on :"schema".audit (at);
create index audit_who on :"schema".audit (who, id);
create index audit_action on :"schema".audit (action, id);
create index audit_jobs on :"schema".audit using gin (jobs) where jobs is not null;

-- Who could run jobs so far steers them, and says who did; who could insert jobs may cancel them; who could look may look.
do $$
declare
  holder record;
begin
  for holder in
    select case a.grantee when 0 then 'public' else a.grantee::regrole::text end as name,
      bool_or(a.privilege_type = 'INSERT') as steers, bool_or(a.privilege_type = 'DELETE') as works
    from pg_class c cross join lateral aclexplode(c.relacl) a
    where c.oid = ':"schema".job_archive'::regclass and a.grantee <> c.relowner
      and a.privilege_type in ('SELECT', 'INSERT', 'DELETE')
    group by a.grantee
  loop
    execute format('grant select on %I.audit to %s', :'schema', holder.name);
    if holder.steers then
      execute format('grant insert, update on %I.audit to %s', :'schema', holder.name);
    end if;
    if holder.works then
      execute format('grant delete on %I.audit to %s', :'schema', holder.name);
    end if;
  end loop;
end $$;
