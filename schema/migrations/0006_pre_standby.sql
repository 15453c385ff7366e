-- A commit waits for a synchronous standby only if its transaction has written something. A call that is sent again, since
-- its first try was cut off while it waited, finds its work done and writes nothing: it would promise what only this server
-- knows. So whoever answers with what was there before calls this. Nothing is written where no commit waits for a standby.
create function :"schema".await_standby() returns boolean language sql volatile
return current_setting('synchronous_standby_names') <> '' and pg_logical_emit_message(true, 'jobqueue', ''::text) is not null;
comment on function :"schema".await_standby() is 'Makes this commit wait for the standby, though nothing else was written.';
