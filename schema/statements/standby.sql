-- name: await_standby
-- takes:
-- gives: waits boolean
select :"schema".await_standby() as waits;
