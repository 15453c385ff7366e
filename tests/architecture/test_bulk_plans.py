"""Plans of bulk actions: what is asked costs what it gives, however many have ended, whatever the planner believes."""

from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

import psycopg
import pytest

from tests.support.postgres.database import Databases, name_of
from tests.support.postgres.plans import Plan, run_learned

BULKS = """
alter table jobqueue.bulk set (autovacuum_enabled = false);
insert into jobqueue.bulk (id, at, action, filter, state, finished_at)
  select lpad(to_hex(n), 32, '0')::uuid, now() - (100001 - n) * interval '1 min', 'cancel', '{"queue": "mail"}',
    case when n % 20000 = 50 then 'running' else 'finished' end,
    case when n % 20000 = 50 then null else now() - (100000 - n) * interval '1 min' end
  from generate_series(1, 100000) n;
"""
JOBS = """
alter table jobqueue.job set (autovacuum_enabled = false);
insert into jobqueue.job (id, queue, task, args, priority, state, due_at, attempt, max_attempts, crashes, lost, fence,
    via, created_at)
  select lpad(to_hex(n), 32, '0')::uuid, 'mail', 't', '{}', 0, 'ready', now(), 0, 1, 0, 0, 0,
    'py', now() - interval '1 h'
  from generate_series(1, 100000) n;
"""
LEARNED = {
    "unknown": [BULKS, JOBS],
    "before": ["analyze jobqueue.bulk, jobqueue.job", BULKS, JOBS],
    "analysed": [BULKS, JOBS, "analyze jobqueue.bulk, jobqueue.job"],
}
HIGHEST = UUID(int=2**128 - 1)
PAGE = [UUID(int=n * 200) for n in range(1, 501)]

CASES: dict[str, tuple[str, tuple[object, ...], int]] = {
    "whether there is one": ("any_bulk", (), 10),
    "the next to do": ("take_bulk", (), 40),
    "how far it came": ("move_bulk", (UUID(int=50), "running", 1, 1, None, "{}", [], 0, 1.0), 60),
    "one is cancelled": ("end_bulk", (UUID(int=50), "cancelled", None), 60),
    "one": ("find_bulk", (UUID(int=7),), 10),
    "the newest": ("list_bulks", (HIGHEST, 50), 60),
    "a later page": ("list_bulks", (UUID(int=50_000), 50), 60),
    "those not done": ("unfinished_bulks", (HIGHEST, 50), 60),
    "jobs of a page": ("older_than", (PAGE, datetime.now(UTC)), 1_500),
    "the old": ("forget_bulks", (68 * 86_400.0, 500), 2_500),
}
"""Each look with its statement, arguments, and how many pages it may touch; the table alone has over 1 500."""


@pytest.fixture(scope="module", params=LEARNED)
def planned(request: pytest.FixtureRequest, databases: Databases, template: str) -> Iterator[str]:
    """The name of a database with 100 000 bulk actions, five of them not done, of which the planner knows this."""
    with databases.temporary(template) as dsn:
        with psycopg.connect(dsn, autocommit=True) as connection:
            for statement in LEARNED[request.param]:
                connection.execute(statement.encode())
        yield name_of(dsn)


def wrong_with(plan: Plan, pages: int) -> list[str]:
    """What it should not have read."""
    wrong = [f"{plan.buffers} pages"] if plan.buffers > pages else []
    return wrong + [f"all of {node['Relation Name']}" for node in plan.nodes() if node["Node Type"] == "Seq Scan"]


def test_bulk_actions_cost_what_they_give(databases: Databases, planned: str) -> None:
    """No statement reads all bulk actions, or all jobs, with a custom or a generic plan."""
    wrong = []
    with databases.temporary(planned) as dsn, psycopg.connect(dsn, autocommit=True) as connection:
        for look, (name, values, pages) in CASES.items():
            for mode in ("custom", "generic"):
                plan = run_learned(connection, name, values, mode)
                found = wrong_with(plan, pages)
                wrong += [f"{look}, {mode}: {found}\n{plan}\n"] if found else []
    assert [] == wrong, "\n".join(wrong)
