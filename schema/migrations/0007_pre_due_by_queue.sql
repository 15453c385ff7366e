-- Of many jobs that came due at once each queue gets its share. Its condition is in other words than that of job_due: a
-- planner that believes in few scheduled jobs takes either, and by job_due it would read all of them for each queue.
create index job_due_by_queue on :"schema".job (queue, due_at) where state <> 'ready' and state <> 'running';

-- A worker that starts looks for jobs of its tasks that were put aside for want of it.
create index job_aside on :"schema".job (task) where state = 'scheduled' and aside_since is not null;
