-- As in 0002; each kind of sleeper is asked for by a statement of its own. The one test of both, in an `or`, was planned
-- anew at each call, and cost a single defer 40 us more at the server. Old workers go on as they are.
create or replace function :"schema".wake(queue text, due timestamptz, always boolean) returns void
language plpgsql volatile as $$
begin
  if not always and current_setting('transaction_isolation') = 'read committed' then
    perform pg_advisory_xact_lock_shared(:'wake_class', :'wake_key');
    -- a statement after that of the lock: its snapshot is newer
    if due is null then
      perform from :"schema".sleeper s where s.queue in (wake.queue, '*') limit 1;
    else
      perform from :"schema".sleeper s where s.queue = '' and s.wake_at > wake.due limit 1;
    end if;
    if not found then
      return;
    end if;
  end if;
  if pg_notification_queue_usage() < 0.9 then
    perform pg_notify(:'wake_channel', case when due is null then 'r:' else 'd:' end || queue);
  end if;
end $$;
