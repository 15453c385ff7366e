-- concurrent: job may be large. The members of a bundle; no other job is in this index.
drop index concurrently if exists :"schema".job_bundle;
create index concurrently job_bundle on :"schema".job (bundle_id, id) where bundle_id is not null;
