-- How many jobs died or were cancelled after the end of this number. They stand at the end of their piece, which is read from
-- behind until 128 pages have none of them, or so many pages are read: `top` and the dashboard ask each second, and read all of
-- those pages each time (34 ms for 4 000; now 1 ms). What was stored in gaps before that is missed: it makes a rate to look at.
-- `since` only leaves out other pieces: a finish is as old as its transaction.
create or replace function :"schema".recent_ends(after bigint, since timestamptz, pages bigint)
returns table (dead bigint, cancelled bigint)
language plpgsql stable set plan_cache_mode = 'force_custom_plan' as $$
declare
  step constant bigint := 128;
  one record;
  low bigint;
  high bigint;
  last bigint;
  found record;
begin
  dead := 0;
  cancelled := 0;
  for one in
    select p.since, p.until, pg_relation_size(p.piece) / current_setting('block_size')::bigint as size
    from :"schema".archive_pieces() p
    where p.kind = 'other' and p.until > recent_ends.since - interval '1 minute' and p.since <= now()
      and pg_relation_size(p.piece) > 0
  loop
    high := one.size;
    last := greatest(one.size - pages, 0);
    while high > last loop
      low := greatest(high - step, last);
      select count(*) filter (where a.state = 'dead') as dead, count(*) filter (where a.state = 'cancelled') as cancelled
      into found from :"schema".job_archive_other a
      where a.finished_at >= one.since and a.finished_at < one.until and a.seq > after
        and a.ctid >= format('(%s,0)', low)::tid and a.ctid < format('(%s,0)', high)::tid;
      exit when found.dead + found.cancelled = 0;
      dead := dead + found.dead;
      cancelled := cancelled + found.cancelled;
      high := low;
    end loop;
  end loop;
  return next;
end $$;
