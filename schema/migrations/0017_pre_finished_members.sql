-- The same for those that have ended. Days first, see 0009.
do $$
declare
  leaf regclass;
begin
  for leaf in
    select c.oid::regclass from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent in (':"schema".job_archive_completed'::regclass, ':"schema".job_archive_other'::regclass)
    order by right(c.relname, 8)
  loop
    execute format('create index on %s (bundle_id, id) where bundle_id is not null', leaf);
  end loop;
end $$;
create index job_archive_bundle on :"schema".job_archive (bundle_id, id) where bundle_id is not null;
