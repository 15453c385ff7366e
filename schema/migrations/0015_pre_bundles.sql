-- Bundles: jobs that end together. No row is locked by every member's end: what ends is noted as a fact, a row for each
-- bundle and statement, and added up afterwards (`fold_bundles`).

create table :"schema".bundle (
  id uuid not null default :"schema".new_id(),
  name text not null,
  origin text,
  parent_id uuid,
  open boolean not null default false,
  added bigint not null default 0,
  completed bigint not null default 0,
  cancelled bigint not null default 0,
  dead bigint not null default 0,
  round integer not null default 0,
  callbacks json not null default '[]',
  cancel_asked timestamptz,
  created_at timestamptz not null default now(),
  finished_at timestamptz,
  constraint bundle_pkey primary key (id),
  constraint bundle_name_length check (char_length(name) between 1 and 100),
  constraint bundle_origin_length check (char_length(origin) between 1 and 100),
  constraint bundle_callbacks_list check (json_typeof(callbacks) = 'array')
) with (fillfactor = 50);  -- most updates change the counts only: they find room on their own page
create index bundle_unfinished on :"schema".bundle (created_at) where finished_at is null;
create index bundle_finished on :"schema".bundle (finished_at) where finished_at is not null;
create index bundle_parent on :"schema".bundle (parent_id) where parent_id is not null;

-- What has become of members of a bundle (`target`), and is not in its counts yet. Less than nothing: members that have
-- ended are unfinished again.
create table :"schema".fact (
  target uuid not null,
  added integer not null default 0,
  completed integer not null default 0,
  cancelled integer not null default 0,
  dead integer not null default 0
);
create index fact_target on :"schema".fact (target);
alter table :"schema".fact replica identity full;

-- Who could finish jobs so far writes facts now and folds them, and who could look at them may look at bundles.
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
    execute format('grant select on %1$I.bundle, %1$I.fact to %2$s', :'schema', holder.name);
    if holder.writes then
      execute format('grant insert, update, delete on %1$I.bundle, %1$I.fact to %2$s', :'schema', holder.name);
    end if;
  end loop;
end $$;
