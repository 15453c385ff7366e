-- concurrent: job may be large. Jobs that wait at a gate, and those that have passed some and wait for a worker; no other job
-- is in these.
drop index concurrently if exists :"schema".job_gate;
create index concurrently job_gate on :"schema".job (gate, priority desc, seq) where state = 'blocked' and gate is not null;
drop index concurrently if exists :"schema".job_admitted;
create index concurrently job_admitted on :"schema".job (queue, token_until) where state = 'ready' and passed > 0;
