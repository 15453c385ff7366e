-- What tells a dead worker from a living one, and a wake-up that never holds up a commit.
--
-- A worker's beat moves alive_until; an expired claim of a worker that is still alive is no crash. Workers of the same
-- machine (the same boot and process namespace) can do better: they see that a process is gone, at once.

alter table :"schema".worker
  add column alive_until timestamptz not null default now() + interval '1 minute',
  add column machine text,   -- whose processes can be looked at with a pid
  add column born text;      -- when the process started: tells it from a later one with the same pid

-- Which claim gave the job back last: a worker that never got the answer can tell its own write from another's.
alter table :"schema".job add column returned bigint;

-- Plain SQL may write anything; what every later write appends to must be a list.
alter table :"schema".job add constraint job_errors_list check (jsonb_typeof(errors) = 'array') not valid;

-- As in 0001, and no notification while the server's queue of them is nearly full, which happens when some session
-- listens and then sits in a transaction: a full queue refuses the commit, and with it the job. Polling is the truth.
create or replace function :"schema".wake(queue text, due timestamptz, always boolean) returns void
language plpgsql volatile as $$
begin
  if not always and current_setting('transaction_isolation') = 'read committed' then
    perform pg_advisory_xact_lock_shared(:'wake_class', :'wake_key');
    if due is null and not exists (
      select from :"schema".sleeper s where s.queue in (wake.queue, '*')
    ) or due is not null and not exists (
      select from :"schema".sleeper s where s.queue = '' and s.wake_at > wake.due
    ) then
      return;
    end if;
  end if;
  if pg_notification_queue_usage() < 0.9 then
    perform pg_notify(:'wake_channel', case when due is null then 'r:' else 'd:' end || queue);
  end if;
end $$;

-- As in 0001, and in order also within a millisecond: the 12 bits after it are its fraction.
create or replace function :"schema".new_id() returns uuid language sql volatile
return encode(
  overlay(uuid_send(gen_random_uuid()) placing int8send(
    (select (floor(ms)::bigint << 16) | (7 << 12) | floor((ms - floor(ms)) * 4096)::bigint
     from (select extract(epoch from clock_timestamp()) * 1000 as ms) as clock)) from 1 for 8), 'hex')::uuid;
