-- Somebody who is woken lines up anew.
create or replace function :"schema".signal(id uuid, name text, payload text default 'null', most_bytes integer default 1048576) returns text
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
    select j.state = 'scheduled' and j.hears as hears, j.queue,
      coalesce(j.passed < cardinality(j.gates), false) as limited into found_job from :"schema".job j
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
    state = case when not sleeps then j.state when j.passed < cardinality(j.gates) then 'blocked' else 'ready' end,
    gate = case when sleeps then j.gates[j.passed + 1] else j.gate end,
    due_at = case when sleeps then clock_timestamp() else j.due_at end,
    seq = case when sleeps then nextval(':"schema".job_seq') else j.seq end
  where j.id = signal.id;
  if sleeps then
    perform :"schema".wake(found_job.queue, case when found_job.limited then clock_timestamp() end, true);
  end if;
  return 'done';
end $$;

-- As before, with `limits`: the only thing that plain SQL has to say of them, for a worker looks at every job once more. Whoever
-- might call the one before may call this.
create function :"schema".defer(
  task text,
  args text default '{}',
  queue text default 'default',
  priority integer default 0,
  delay double precision default 0,
  at timestamptz default null,
  max_attempts integer default 20,
  timeout double precision default null,
  origin text default null,
  meta text default null,
  id text default null,
  limits text default null
) returns uuid
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  job_id uuid;
  due timestamptz;
  waits boolean;
  gates text[];
  said json := case json_typeof(defer.limits::json) when 'array' then defer.limits::json else '[null]' end;
  fault text := case
    when char_length(defer.task) between 1 and 100 is not true then 'task: must have 1 to 100 characters'
    when char_length(defer.queue) between 1 and 100 is not true then 'queue: must have 1 to 100 characters'
    when defer.queue = '*' then 'queue: * means all queues of a worker; a job goes to one, by name'
    when not char_length(defer.origin) between 1 and 100 then 'origin: must have 1 to 100 characters'
    when defer.priority between -32768 and 32767 is not true then 'priority: must be from -32768 to 32767'
    when defer.max_attempts between 1 and 32767 is not true then 'max_attempts: must be from 1 to 32767'
    when not defer.delay between 0 and 316224000 then 'delay: must be between 0 seconds and ten years'
    when not (defer.timeout > 0 and defer.timeout <= 316224000) then 'timeout: must be above 0 seconds, and at most ten years'
    when not defer.at between '1970-01-01 00:00+00' and '3000-01-01 00:00+00' then 'at: must be between the years 1970 and 3000'
  end;
begin
  if fault is not null then
    raise exception '%', fault using errcode = 'invalid_parameter_value';
  end if;
  job_id := coalesce(defer.id::uuid, :"schema".new_id());
  due := coalesce(defer.at, clock_timestamp() + make_interval(secs => coalesce(defer.delay, 0)));
  waits := due > clock_timestamp();
  if defer.limits is not null then
    gates := array(
      select case when l.declared ->> 'concurrency' is null then '~' else '' end || l.name || coalesce(E'\n' || g.key, '')
      from (
        select e.place, case json_typeof(e.said) when 'string' then e.said #>> '{}' when 'array' then e.said ->> 0 end as name,
          case json_typeof(e.said) when 'array' then e.said ->> 1 end as key
        from json_array_elements(said) with ordinality as e(said, place)) as g
      join :"schema"."limit" l on l.name = g.name where char_length(coalesce(g.key, 'k')) between 1 and 200
      order by l.declared ->> 'count' is not null, g.key is null, l.name limit 5);
    if cardinality(gates) > 4 or cardinality(gates) <> json_array_length(said) then
      raise exception 'limits: must be a JSON array of at most 4 limits that a worker has declared, each as "name" or ["name", "key"]'
        using errcode = 'invalid_parameter_value';
    end if;
    gates := nullif(gates, '{}');
  end if;
  insert into :"schema".job
    (id, queue, task, args, priority, state, due_at, max_attempts, timeout, origin, via, meta, gates, gate)
  values
    (job_id, defer.queue, defer.task, defer.args::json, defer.priority, case when waits then 'scheduled' when gates is not null then 'blocked' else 'ready' end,
     due, defer.max_attempts, defer.timeout, defer.origin, 'defer', defer.meta::json, gates, case when not waits then gates[1] end)
  on conflict on constraint job_pkey do nothing;
  if not found then
    perform :"schema".await_standby();
    return job_id;
  end if;
  if defer.id is not null then
    -- after the insert, with a newer snapshot: it may have run in between
    perform from :"schema".job_archive a where a.id = job_id;
    if found then
      delete from :"schema".job j where j.id = job_id;
      return job_id;
    end if;
  end if;
  perform :"schema".wake(defer.queue, case when waits or gates is not null then due end, true);
  return job_id;
end $$;

do $$
declare
  holder record;
begin
  revoke execute on function :"schema".defer(
    text, text, text, integer, double precision, timestamptz, integer, double precision, text, text, text, text) from public;
  for holder in
    select case a.grantee when 0 then 'public' else a.grantee::regrole::text end as name
    from pg_proc p cross join lateral aclexplode(p.proacl) a
    where p.oid = ':"schema".defer(text, text, text, integer, double precision, timestamptz, integer, double precision, text, text, text)'::regprocedure
      and a.grantee <> p.proowner
  loop
    execute format('grant execute on function %I.defer(text, text, text, integer, double precision, timestamptz, integer,
      double precision, text, text, text, text) to %s', :'schema', holder.name);
  end loop;
  drop function :"schema".defer(
    text, text, text, integer, double precision, timestamptz, integer, double precision, text, text, text);
end $$;
