"""Plans of schedules: one of 100 000 costs what it is about, whatever the planner believes."""

from typing import Any

import psycopg
import pytest

from tests.support.postgres.database import Databases
from tests.support.postgres.plans import Cases, assert_none_dear, run_plan

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

CASES: Cases = {
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


@pytest.mark.parametrize("learned", LEARNED)
def test_a_schedule_costs_itself(databases: Databases, template: str, learned: str) -> None:
    """No statement of schedules reads all of them, with a custom or a generic plan; the cases are what they say."""
    with databases.temporary(template) as dsn, psycopg.connect(dsn, autocommit=True) as connection:
        for statement in LEARNED[learned]:
            connection.execute(statement.encode())
        assert (100, 1, 5) == tuple(
            rows_of(connection, name) for name in ("take_due_schedules", "next_schedule", "next_firings")
        )
        assert 66 <= rows_of(connection, "forget_schedules") <= 67, "a third of the code's"
        assert_none_dear(connection, CASES)


def rows_of(connection: "psycopg.Connection[Any]", name: str) -> int:
    return int(run_plan(connection, name, tuple(CASES[name][0]), "generic").root["Actual Rows"])
