-- concurrent: job may be large. How many deliveries of a webhook wait: no other job is in this index.
drop index concurrently if exists :"schema".job_delivery;
create index concurrently job_delivery on :"schema".job (origin) where task = 'jobqueue.webhook';
