-- The archive may forget a member long before its bundle has ended, or its callbacks have run: what it has given then
-- stays in `node`, as long as the bundle. Whoever removes rows of the archive for their age or number puts it there first.

-- `kept`: the archive has forgotten this member, or is about to. Other nodes may be of jobs that are no members.
alter table :"schema".node add column kept boolean not null default false;
create index node_kept on :"schema".node (bundle_id, task, job_id) where kept;

-- Those of these bundles whose results somebody may still ask for: unfinished, or with jobs that are, such as callbacks, or
-- ended less than a day ago. They are locked against being deleted, and against nothing else but a fold.
create function :"schema".needed_bundles(ids uuid[]) returns setof uuid
language sql volatile set search_path = pg_catalog, pg_temp as $$
  select b.id from :"schema".bundle b
  where b.id = any(ids) and (b.finished_at is null or b.finished_at > now() - interval '1 day'
    or (select j.bundle_id from :"schema".job j where j.bundle_id >= b.id order by j.bundle_id, j.id limit 1) = b.id)
  order by b.id for key share of b
$$;

-- Copies what at most `room` completed members in one piece of the archive have given, from this place on in the order of
-- bundles and jobs, and says where to go on; nothing at the end. A bundle that is passed over counts as one. Read in that
-- order, by its index, whatever the planner believes. The archive has the last word: a member that was run again gave anew.
create function :"schema".keep_results(leaf text, bundle uuid, job uuid, room integer)
returns table (bundle_id uuid, job_id uuid)
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '100ms'
set enable_sort = off set enable_bitmapscan = off set enable_seqscan = off as $$
declare
  copied integer;
begin
  if not exists (select from :"schema".archive_pieces() p where p.leaf = keep_results.leaf and p.kind = 'completed') then
    return;
  end if;
  loop
    if exists (select from :"schema".needed_bundles(array[bundle])) then
      execute format(
        'with page as materialized (
           select a.bundle_id, a.id, a.task, a.result from %1$I.%2$I a
           where a.bundle_id <= $1 and (a.bundle_id, a.id) > ($1, $2) and a.follow & 4 = 0
           order by a.bundle_id, a.id limit $3
         ), kept as (
           insert into %1$I.node (bundle_id, job_id, task, outcome, result, kept)
           select p.bundle_id, p.id, p.task, ''completed'', p.result, true from page p
           on conflict on constraint node_pkey do update set outcome = excluded.outcome, result = excluded.result, kept = true
           where (node.kept, node.outcome, node.result::text) is distinct from (true, excluded.outcome, excluded.result::text)
         )
         select count(*), (array_agg(p.id order by p.id desc))[1] from page p', :'schema', leaf)
        into copied, job using bundle, job, room;
      room := room - copied;
      if room <= 0 then
        return query select bundle, job;
        return;
      end if;
    end if;
    execute format('select a.bundle_id from %I.%I a where a.bundle_id > $1 order by a.bundle_id, a.id limit 1', :'schema', leaf)
      into bundle using bundle;
    job := '00000000-0000-0000-0000-000000000000';
    room := room - 1;
    if bundle is null or room <= 0 then
      return query select bundle, job where bundle is not null;
      return;
    end if;
  end loop;
end $$;

-- The end of a statement that begins with `old`, places in a piece of the archive: these rows go, and what they have given
-- stays with bundles that need it. Both in one statement, so that neither is without the other.
create function :"schema".and_gone(leaf text) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
  select format(
    ', gone as (
       delete from %1$I.%2$I where ctid = any(array(select place from old))
       returning bundle_id, id, task, case when bundle_id is not null then result end as result, follow
     ), members as materialized (
       select * from gone where bundle_id is not null and result is not null and follow & 4 = 0
     ), needed as materialized (
       select n.id from %1$I.needed_bundles(array(select distinct bundle_id from members)) as n(id)
     ), kept as (
       insert into %1$I.node (bundle_id, job_id, task, outcome, result, kept)
       select m.bundle_id, m.id, m.task, ''completed'', m.result, true from members m
       where m.bundle_id = any(array(select id from needed)) order by m.bundle_id, m.id
       on conflict on constraint node_pkey do update set outcome = excluded.outcome, result = excluded.result, kept = true
     )', :'schema', leaf)
$$;

-- As in 0003, but for the results of members.
create or replace function :"schema".prune_archive(
  leaf text, first bigint, pages integer, of_queue text, completed double precision, other double precision, dry boolean
) returns table (state text, jobs bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '100ms' as $$
declare
  old text := format(
    'with old as materialized (
       select a.ctid as place, a.state from %1$I.%2$I a cross join lateral (
         select $4 as completed, $5 as other where ($4 is not null or $5 is not null) and ($3 is null or a.queue = $3)
         union all
         select q.keep_completed, q.keep_other from %1$I.queue q where $4 is null and $5 is null and q.name = a.queue
       ) as keep
       where a.ctid >= $1 and a.ctid < $2 and a.finished_at <
         now() - make_interval(secs => case a.state when ''completed'' then keep.completed else keep.other end)',
    :'schema', leaf);
begin
  if not exists (
    select from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent in (':"schema".job_archive_completed'::regclass, ':"schema".job_archive_other'::regclass)
      and c.relname = leaf
  ) then
    return;
  end if;
  old := old || case when dry then ')' else ' for update of a skip locked)' || :"schema".and_gone(leaf) end;
  return query execute old || ' select old.state::text, count(*) from old group by old.state'
    using format('(%s,0)', first)::tid, format('(%s,0)', first + pages)::tid, of_queue, completed, other;
end $$;

-- As in 0005, but for the results of members.
create or replace function :"schema".prune_before(
  leaf text, first bigint, pages integer, queues text[], moments timestamptz[], dry boolean
) returns table (state text, jobs bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '100ms' as $$
declare
  old text := format(
    'with old as materialized (
       select a.ctid as place, a.state from %1$I.%2$I a
       join unnest($3, $4) as f(queue, moment) on f.queue = a.queue and a.finished_at < f.moment
       where a.ctid >= $1 and a.ctid < $2', :'schema', leaf);
begin
  if not exists (
    select from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent in (':"schema".job_archive_completed'::regclass, ':"schema".job_archive_other'::regclass)
      and c.relname = leaf
  ) then
    return;
  end if;
  old := old || case when dry then format(
    ' and not exists (select from %I.queue q where q.name = a.queue and a.finished_at <
        now() - make_interval(secs => case a.state when ''completed'' then q.keep_completed else q.keep_other end)))',
    :'schema') else ' for update of a skip locked)' || :"schema".and_gone(leaf) end;
  return query execute old || ' select old.state::text, count(*) from old group by old.state'
    using format('(%s,0)', first)::tid, format('(%s,0)', first + pages)::tid, queues, moments;
end $$;

-- Who drops days keeps their results before.
do $$
declare
  holder record;
begin
  revoke execute on function :"schema".keep_results(text, uuid, uuid, integer) from public;
  revoke execute on function :"schema".needed_bundles(uuid[]) from public;
  revoke execute on function :"schema".and_gone(text) from public;
  for holder in
    select distinct a.grantee from pg_proc p cross join lateral aclexplode(p.proacl) a
    where p.oid = ':"schema".drop_archive(text, boolean)'::regprocedure and a.grantee not in (p.proowner, 0)
  loop
    execute format('grant execute on function %I.keep_results(text, uuid, uuid, integer) to %s',
      :'schema', holder.grantee::regrole);
  end loop;
end $$;
