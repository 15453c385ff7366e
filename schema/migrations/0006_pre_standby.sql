-- A commit waits for a synchronous standby only if its transaction has written something. A call that is sent again, since
-- its first try was cut off while it waited, finds its work done and writes nothing: it would promise what only this server
-- knows. So whoever answers with what was there before calls this. Nothing is written where no commit waits for a standby.
create function :"schema".await_standby() returns boolean language sql volatile
return current_setting('synchronous_standby_names') <> '' and pg_logical_emit_message(true, 'jobqueue', ''::text) is not null;
comment on function :"schema".await_standby() is 'Makes this commit wait for the standby, though nothing else was written.';

create or replace function :"schema".defer(
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
  id text default null
) returns uuid language plpgsql volatile as $$
declare
  job_id uuid := coalesce(defer.id::uuid, :"schema".new_id());
  due timestamptz := coalesce(defer.at, clock_timestamp() + make_interval(secs => defer.delay));
  waits boolean := due > clock_timestamp();
begin
  insert into :"schema".job
    (id, queue, task, args, priority, state, due_at, max_attempts, timeout, origin, via, meta)
  values
    (job_id, defer.queue, defer.task, defer.args::json, defer.priority, case when waits then 'scheduled' else 'ready' end,
     due, defer.max_attempts, defer.timeout, defer.origin, 'defer', defer.meta::json)
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
  perform :"schema".wake(defer.queue, case when waits then due end, true);
  return job_id;
end $$;
