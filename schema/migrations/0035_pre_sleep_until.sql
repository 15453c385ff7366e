-- An old snapshot anywhere on the server keeps every version of a sleeper's flag there was, and whoever defers a job stepped
-- over all of them: after 200 000 sleeps a defer read 1 470 pages. With the time in both indexes nobody reads flags whose time is over.
-- What publishes a flag in the words of 0001 adds a row instead of replacing one, which its end takes away as well.
alter table :"schema".sleeper drop constraint sleeper_pkey;
alter table :"schema".sleeper add constraint sleeper_pkey primary key (worker_id, queue, wake_at);
create index sleeper_until on :"schema".sleeper (queue, wake_at);

-- As in 0002. A sleeper whose time is over looks by itself; it is told for a second more. Each kind of sleeper is asked for by a
-- statement of its own: one test of both, in an `or`, was planned anew at each call, and cost a single defer 40 us more at the server.
-- Without `enable_seqscan` a session that planned this while the table was small would go on reading it whole.
create or replace function :"schema".wake(queue text, due timestamptz, always boolean) returns void
language plpgsql volatile set enable_seqscan = off as $$
begin
  if not always and current_setting('transaction_isolation') = 'read committed' then
    perform pg_advisory_xact_lock_shared(:'wake_class', :'wake_key');
    -- a statement after that of the lock: its snapshot is newer
    if due is null then
      perform from :"schema".sleeper s
      where s.queue in (wake.queue, '*') and s.wake_at > statement_timestamp() - interval '1 s' limit 1;
    else
      perform from :"schema".sleeper s
      where s.queue = '' and s.wake_at > greatest(wake.due, statement_timestamp() - interval '1 s') limit 1;
    end if;
    if not found then
      return;
    end if;
  end if;
  if pg_notification_queue_usage() < 0.9 then
    perform pg_notify(:'wake_channel', case when due is null then 'r:' else 'd:' end || queue);
  end if;
end $$;
