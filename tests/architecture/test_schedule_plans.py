"""Plans of schedules: one of 100 000 costs what it is about, whatever the planner believes."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.support.postgres.database import Databases, name_of
from tests.support.postgres.plans import Plan, run_learned

SCHEDULES = """
alter table jobqueue.schedule set (autovacuum_enabled = false);
insert into jobqueue.schedule (name, source, task, queue, args, options, cron, tz, missed, overlap, next_at, seen_at)
  select 's' || n, case when n % 500 = 0 then 'code' else 'stored' end, 'task', 'default', '{"user": 1}', '{}',
    '0 8 * * *', 'UTC', 'skip', 'allow', now() + (n - 1000) * interval '1 s',
    case when n % 500 = 0 then now() - n % 3 * interval '5 days' end
  from generate_series(1, 100000) n;
"""
"""1 000 are due, 200 are of the code, of which a third was forgotten ten days ago."""
MISLEADING = """
insert into jobqueue.schedule (name, source, task, queue, args, options, cron, tz, missed, overlap, next_at, seen_at)
  select 's' || n, 'code', 'task', 'default', '{}', '{}', '0 8 * * *', 'UTC', 'skip', 'allow',
    '2020-01-01', '2020-01-01'
  from generate_series(1, 20000) n;
analyze jobqueue.schedule;
truncate jobqueue.schedule;
"""
LEARNED = {
    "unknown": [SCHEDULES],
    "before": ["analyze jobqueue.schedule", SCHEDULES],
    "misled": [MISLEADING, SCHEDULES],
    "analysed": [SCHEDULES, "analyze jobqueue.schedule"],
}
"""What the planner knows: nothing, what there was before any, that all are due and of the code, all."""
UNSEEN = 300.0
CODE = [f"s{n}" for n in range(500, 100_000, 500)]

CASES: dict[str, tuple[tuple[object, ...], int]] = {
    "take_due_schedules": ((100, UNSEEN, ["s1", "s7"]), 800),
    "next_schedule": ((UNSEEN,), 50),
    "next_firings": ((5, UNSEEN), 50),
    "move_schedules": ((["s1", "s7"], ["2030-01-01T00:00Z"] * 2, [None] * 2, [None] * 2), 100),
    "lock_schedules": ((["s1", "s7"],), 100),
    "find_schedules": ((["s50000"],), 50),
    "list_schedules": (("s5", 100, None), 400),
    "list_schedules of stored ones": (("s5", 100, "stored"), 400),
    "see_schedules": ((CODE,), 6_000),
    "steer_schedule": (("s1", None, True, None), 100),
    "delete_schedule": (("s1",), 50),
    "forget_schedules": ((7 * 86_400.0,), 1_000),
}
"""Each statement with its arguments, and how many pages it may touch; the table alone has over 2 000."""


@pytest.fixture(scope="module", params=LEARNED)
def planned(request: pytest.FixtureRequest, databases: Databases, template: str) -> Iterator[str]:
    """The name of a database with 100 000 schedules, of which the planner knows this."""
    with databases.temporary(template) as dsn:
        with psycopg.connect(dsn, autocommit=True) as connection:
            for statement in LEARNED[request.param]:
                connection.execute(statement.encode())
        yield name_of(dsn)


def wrong_with(plan: Plan, pages: int) -> list[str]:
    """What it should not have read."""
    wrong = [f"{plan.buffers} pages"] if plan.buffers > pages else []
    return wrong + [f"all of {node['Relation Name']}" for node in plan.nodes() if node["Node Type"] == "Seq Scan"]


def test_a_schedule_costs_itself(databases: Databases, planned: str) -> None:
    """No statement of schedules reads all of them, with a custom or a generic plan."""
    wrong = []
    with databases.temporary(planned) as dsn, psycopg.connect(dsn, autocommit=True) as connection:
        for name, (values, pages) in CASES.items():
            for mode in ("custom", "generic"):
                plan = run_learned(connection, name.split()[0], values, mode)
                found = wrong_with(plan, pages)
                wrong += [f"{name}, {mode}: {found}\n{plan}\n"] if found else []
    assert not wrong, "\n".join(wrong)


def rows_of(connection: "psycopg.Connection[Any]", name: str) -> int:
    return int(run_learned(connection, name, CASES[name][0], "generic").root["Actual Rows"])


def test_the_cases_are_what_they_say(databases: Databases, planned: str) -> None:
    """A page of those that are due is full, and what is forgotten is a third of the code's."""
    with databases.temporary(planned) as dsn, psycopg.connect(dsn, autocommit=True) as connection:
        assert (100, 1, 5) == tuple(
            rows_of(connection, name) for name in ("take_due_schedules", "next_schedule", "next_firings")
        )
        assert 66 <= rows_of(connection, "forget_schedules") <= 67
