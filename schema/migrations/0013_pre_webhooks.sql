-- Webhooks: readers of the log whose place is kept. What they are to tell becomes ordinary jobs of the queue `webhooks`, in
-- the transaction that moves the place. No secret is stored: it is made of a key that only the processes have.
create table :"schema".webhook (
  id uuid not null,
  url text not null,
  types text[] not null,
  task text,
  queue text collate "C",
  origin text,
  bundle_id uuid,
  job_id uuid,
  secret_env text,
  version integer not null default 1,
  rotated_at timestamptz,
  cursor bigint not null,
  failures integer not null default 0,
  failing_since timestamptz,
  paused_at timestamptz,
  disabled_reason text,
  created_at timestamptz not null default now(),
  constraint webhook_pkey primary key (id)
);

-- How many deliveries of a webhook wait: no other job is in it.
create index job_delivery on :"schema".job (origin) where task = 'jobqueue.webhook';
