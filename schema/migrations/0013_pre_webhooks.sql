-- Webhooks: readers of the log whose place is kept. What they are to tell becomes ordinary jobs of the queue `webhooks`, in
-- the transaction that moves the place. No secret is stored: it is made of a key that only the processes have.
create table :"schema".webhook (
  id uuid not null,
  url text not null,
  types text[] not null,
  task text,
  queue text collate "C",
  origin text,
  bundle_id uuid,
  job_id uuid,
  secret_env text,
  version integer not null default 1,
  rotated_at timestamptz,
  cursor bigint not null,
  failures integer not null default 0,
  failing_since timestamptz,
  paused_at timestamptz,
  disabled_reason text,
  created_at timestamptz not null default now(),
  constraint webhook_pkey primary key (id)
);

-- Who could run jobs so far relays and delivers now, and who could look at them may read what webhooks there are.
do $$
declare
  holder record;
begin
  for holder in
    select a.grantee::regrole as name, bool_or(a.privilege_type = 'DELETE') as works
    from pg_class c cross join lateral aclexplode(c.relacl) a
    where c.oid = ':"schema".job_archive'::regclass and a.grantee not in (c.relowner, 0)
      and a.privilege_type in ('SELECT', 'DELETE')
    group by a.grantee
  loop
    execute format('grant select on %I.webhook to %s', :'schema', holder.name);
    if holder.works then
      execute format('grant insert, update, delete on %I.webhook to %s', :'schema', holder.name);
    end if;
  end loop;
end $$;
