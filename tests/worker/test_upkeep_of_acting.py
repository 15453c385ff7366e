"""The audit and ended bulk actions are removed by the hour, once they are older than `keep_audit`, in bounded steps."""

import asyncio

from jobqueue.base.settings import Settings
from jobqueue.worker.upkeep import Upkeep
from tests.support.jobs.store import connect, open_database
from tests.support.waiting import wait_until

DAY = 86_400.0
ROWS = """
insert into jobqueue.audit (at, who, action, what)
  select now() - case when n <= 1200 then interval '11 d' else interval '9 d' end, 'ada', 'job.cancel', '{}'
  from generate_series(1, 1203) n;
insert into jobqueue.bulk (id, at, action, filter, state, finished_at)
  select gen_random_uuid(), now() - interval '20 d', 'cancel', '{}',
    case when n > 1205 then 'running' else 'finished' end,
    case when n <= 1200 then now() - interval '11 d' when n <= 1205 then now() - interval '9 d' end
  from generate_series(1, 1207) n;
"""
COUNTING = """
create table jobqueue.gone (what text, many bigint);
create function jobqueue.count_gone() returns trigger language plpgsql as $$ begin
  insert into jobqueue.gone select tg_table_name, count(*) from old; return null; end $$;
create trigger gone after delete on jobqueue.audit referencing old table as old
  for each statement execute function jobqueue.count_gone();
create trigger gone after delete on jobqueue.bulk referencing old table as old
  for each statement execute function jobqueue.count_gone();
"""
STEPS = "select array_agg(many order by many desc) from jobqueue.gone where what = $1"


async def test_what_is_old_goes_in_bounded_steps(database: str) -> None:
    """Old rows go, 500 in a transaction; young rows stay, and so does a bulk action that is not done, however old."""
    async with connect(database) as connection, open_database(database) as db:
        await connection.execute(ROWS)
        await connection.execute(COUNTING)
        keeping = asyncio.create_task(Upkeep(db, Settings(keep_audit=10 * DAY), first=0.01).run())

        async def all_gone() -> bool:
            return bool(await connection.fetchval("select sum(many) = 2400 from jobqueue.gone"))

        await wait_until(all_gone, "what is old is gone")
        keeping.cancel()
        await asyncio.wait([keeping])

        assert [500, 500, 200] == await connection.fetchval(STEPS, "audit")
        assert [500, 500, 200] == await connection.fetchval(STEPS, "bulk")
        assert 3 == await connection.fetchval("select count(*) from jobqueue.audit where at > now() - interval '10 d'")
        assert 3 == await connection.fetchval("select count(*) from jobqueue.audit")
        left = "select state, count(*)::int from jobqueue.bulk group by state order by state"
        assert [("finished", 5), ("running", 2)] == [tuple(row) for row in await connection.fetch(left)]
