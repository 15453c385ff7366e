-- Whose claim it is stands beside its fence everywhere: after an asynchronous failover the sequence of fences may repeat.

-- Which worker gave the job back last, beside `returned`, its fence.
alter table :"schema".job add column returned_by uuid;

-- One crash more ends the job, so it runs with nothing beside it: then nobody else can have been the cause.
alter table :"schema".job add column alone boolean not null default false;
