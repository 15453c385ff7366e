"""What stands around a drain is really there while it runs: else a good ratio would mean nothing."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from jobqueue.bench.crowds import backlog, history, old_snapshot, quiet_queues, scheduled
from jobqueue.bench.ground import Ground, own_ground
from tests.support.jobs.store import connect

SCHEMA = "measured"
JOBS = "select count(*) from measured.job where queue = 'default' and state ="
HELD = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and"


@pytest.mark.parametrize(
    ("crowd", "query", "count"),
    [
        (history, "select count(*) from measured.job_archive where state = 'completed'", 1000),
        (backlog, f"{JOBS} 'ready'", 1000),
        (scheduled, f"{JOBS} 'scheduled' and due_at > now() + interval '1 hour'", 1000),
        (old_snapshot, f"{HELD} backend_xmin is not null and state = 'idle in transaction'", 1),
        (quiet_queues, "select count(distinct queue) from measured.job where state = 'ready'", 99),
    ],
)
async def test_a_crowd_is_there(
    empty_database: str, crowd: Callable[[Ground], AbstractAsyncContextManager[None]], query: str, count: int
) -> None:
    """History, backlog and scheduled jobs ten times as many as jobs; one old snapshot; all queues but the busy one."""
    async with own_ground(empty_database, SCHEMA, 100) as ground, connect(empty_database) as connection:
        assert 0 == await connection.fetchval(query)
        async with crowd(ground):
            assert count == await connection.fetchval(query)
