-- concurrent: job may be large. Jobs that wait for others are in no index of what comes due: their time may be long over, and
-- whoever looks for due jobs queue by queue would step over every one of them. A worker of old code reads more meanwhile.
drop index concurrently if exists :"schema".job_due_in_queue;
create index concurrently job_due_in_queue on :"schema".job (queue, due_at)
  where state <> 'ready' and state <> 'running' and state <> 'blocked';
drop index concurrently if exists :"schema".job_due_by_queue;
