"""Plans: whatever the planner knows of a long log, a page of it costs a page."""

from datetime import UTC, datetime
from uuid import UUID

import psycopg
import pytest

from tests.support.postgres.database import Databases
from tests.support.postgres.plans import run_learned

ROWS = 60_000
FILL = f"""
alter table jobqueue.event attach partition jobqueue.early
  for values from ('2020-01-01 00:00Z') to ('2020-01-02 00:00Z');
insert into jobqueue.event (at, type, task, queue, jobs, attempts)
select case when n <= {ROWS // 2} then timestamptz '2020-01-01 12:00+00' else now() end, 'job.completed', 't', 'q',
  array[gen_random_uuid()], array[1]
from generate_series(1, {ROWS}) as n;
"""
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("analysed", [False, True], ids=["unknown", "analysed"])
def test_a_page_of_the_log_costs_a_page(databases: Databases, template: str, analysed: bool) -> None:
    """S4-29: with 60 000 rows in two of its days a page is read by the index, from both ends; all plans."""
    with databases.temporary(template) as dsn, psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("create table jobqueue.early (like jobqueue.event including defaults including storage)")
        connection.execute(FILL)
        if analysed:
            connection.execute("analyze jobqueue.event")
        for mode in ("custom", "generic"):
            for name, values in {
                "read_events": (ROWS // 2 - 100, ROWS, 200),
                "last_events": (ROWS // 2 + 100, 200),
                "events_of_job": (UUID(int=1), LONG_AGO, 200),
            }.items():
                plan = run_learned(connection, name, values, mode)
                label = f"{name}, {mode} plan:\n{plan}"
                assert plan.buffers <= 500, label
