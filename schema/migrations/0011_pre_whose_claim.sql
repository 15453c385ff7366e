-- Whose claim it is stands beside its fence everywhere: after an asynchronous failover the sequence of fences may repeat.

-- Which worker gave the job back last, beside `returned`, its fence.
alter table :"schema".job add column returned_by uuid;

-- The claim has its worker for itself: only such a crash can end the job.
alter table :"schema".job add column alone boolean not null default false;
