"""Plans of bulk actions: what is asked costs what it gives, however many have ended, whatever the planner believes."""

from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

import pytest

from tests.support.postgres.database import Databases
from tests.support.postgres.plans import Cases, Connection, assert_none_dear

BULKS = """
alter table jobqueue.bulk set (autovacuum_enabled = false);
insert into jobqueue.bulk (id, at, action, filter, state, finished_at)
  select lpad(to_hex(n), 32, '0')::uuid, now() - (50001 - n) * interval '2 min', 'cancel', '{"queue": "mail"}',
    case when n % 10000 = 50 then 'running' else 'finished' end,
    case when n % 10000 = 50 then null else now() - (50000 - n) * interval '2 min' end
  from generate_series(1, 50000) n;
"""
JOBS = """
alter table jobqueue.job set (autovacuum_enabled = false);
insert into jobqueue.job (id, queue, task, args, priority, state, due_at, attempt, max_attempts, crashes, lost, fence,
    via, created_at)
  select lpad(to_hex(n), 32, '0')::uuid, 'mail', 't', '{}', 0, 'ready', now(), 0, 1, 0, 0, 0,
    'py', now() - interval '1 h'
  -- see full.py
  from generate_series(1, case when current_setting('server_version_num')::int < 170000 then 100000 else 50000 end) n;
"""
LEARNED: dict[str, tuple[str, list[str]]] = {
    "unknown": ("stocked", []),
    "before": ("template", ["analyze jobqueue.bulk, jobqueue.job", BULKS, JOBS]),
    "analysed": ("stocked", ["analyze jobqueue.bulk, jobqueue.job"]),
}
"""A database, and what is done in it: the planner knows nothing of 50 000 bulk actions, what was there before, all."""
HIGHEST = UUID(int=2**128 - 1)
PAGE = [UUID(int=n * 100) for n in range(1, 501)]

CASES: Cases = {
    "any_bulk": ((), 10),
    "take_bulk": ((), 40),
    "move_bulk": ((UUID(int=50), "running", 1, 1, None, "{}", [], 0, 1.0), 60),
    "end_bulk": ((UUID(int=50), "cancelled", None), 60),
    "find_bulk": ((UUID(int=7),), 10),
    "list_bulks": ((HIGHEST, 50), 60),
    "list_bulks on a later page": ((UUID(int=25_000), 50), 60),
    "unfinished_bulks": ((HIGHEST, 50), 60),
    "older_than": ((PAGE, datetime.now(UTC)), 2_100),  # before version 17 it goes down the index for each: 2 000
    "forget_bulks": ((68 * 86_400.0, 500), 2_600),  # 2 521 in versions 14 to 16
}
"""Each statement with its arguments, and how many pages it may touch; the table alone has over 750."""


@pytest.fixture(scope="module")
def stocked(databases: Databases, template: str) -> Iterator[str]:
    """The name of a database with 50 000 bulk actions, and jobs; the planner knows nothing of them."""
    with databases.stocked(template, BULKS + JOBS) as name:
        yield name


@pytest.mark.parametrize("learned", LEARNED.values(), ids=list(LEARNED), indirect=True)
def test_bulk_actions_cost_what_they_give(learned: Connection) -> None:
    """No statement reads all bulk actions, or all jobs, with a custom or a generic plan."""
    assert_none_dear(learned, CASES)
