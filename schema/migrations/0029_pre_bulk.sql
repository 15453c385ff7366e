-- Bulk actions that outlive whoever began them: an action on all jobs of a filter. Workers do a page at a time, with the row
-- locked: the page, the place where the next one begins, the numbers and the row of the audit commit together, so that a crash
-- repeats nothing and loses nothing, and no page is done twice. See `schema/README.md`.
create table :"schema".bulk (
  id uuid not null,
  at timestamptz not null default now(),
  who text,
  via text,
  action text not null,
  filter json not null,
  target json not null default '{}',
  state text not null default 'waiting',
  matched bigint not null default 0,
  changed bigint not null default 0,
  refused json,
  place json not null default '{}',
  locked uuid[],
  round smallint not null default 0,
  due_at timestamptz not null default now(),
  audit_id bigint,
  finished_at timestamptz,
  error text,
  constraint bulk_pkey primary key (id),
  constraint bulk_state_known check (state in ('waiting', 'running', 'finished', 'cancelled', 'failed')),
  constraint bulk_finish_agrees check ((finished_at is not null) = (state in ('finished', 'cancelled', 'failed'))),
  -- what Python could not read
  constraint bulk_times_range check (
    least(at, due_at, finished_at) >= :'earliest' and greatest(at, due_at, finished_at) <= :'latest')
);
create index bulk_unfinished on :"schema".bulk (at) where finished_at is null;
create index bulk_finished on :"schema".bulk (finished_at) where finished_at is not null;

-- Who could run jobs so far does it, who could look may watch.
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
    execute format('grant select on %I.bulk to %s', :'schema', holder.name);
    if holder.works then
      execute format('grant insert, update, delete on %I.bulk to %s', :'schema', holder.name);
    end if;
  end loop;
end $$;
