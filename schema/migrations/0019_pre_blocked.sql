-- concurrent: job may be large. Jobs that wait for others; no other job is in this index.
drop index concurrently if exists :"schema".job_blocked;
create index concurrently job_blocked on :"schema".job (queue, id) where state = 'blocked';
