-- Hands that steer: a running job can be asked to end. Its worker hears of it by a notification, or from its next beat.

alter table :"schema".job add column cancel_asked timestamptz;

-- In seconds: what a retry by hand gives anew. The deadline alone does not tell it any more once there was one.
alter table :"schema".job add column budget double precision;
alter table :"schema".job_archive add column budget double precision;
