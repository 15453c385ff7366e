"""Plans of the history: two days of ten queues by the minute, whatever the planner knows of them."""

import json
from collections.abc import Iterator
from uuid import UUID

import pytest

from tests.support.postgres.database import Databases
from tests.support.postgres.plans import Connection, run_plan

QUEUES, TASKS = 10, 2
ROW = "100, 90, 1, 2, 7, 0, 0, 0, 0, 0, 0, 0, 12.5, array[50, 20, 10, 5, 3], array[10, 20, 30, 20, 10, 5, 5]"
PAIRS = f"generate_series(1, {QUEUES}) q, generate_series(1, {TASKS}) t"
NAMES = f"'queue' || q, 'task' || (q * {TASKS} + t)"
MINUTES = "generate_series(date_trunc('minute', now()) - interval '2 days', now(), interval '1 min') m"
HOURS = "generate_series(date_trunc('hour', now()) - interval '60 days', now(), interval '1 hour') m"
FILL = f"""
alter table jobqueue.minute set (autovacuum_enabled = false);
alter table jobqueue.hour set (autovacuum_enabled = false);
alter table jobqueue.depth set (autovacuum_enabled = false);
insert into jobqueue.minute select m, {NAMES}, {ROW} from {MINUTES}, {PAIRS} order by 1, 2, 3;
insert into jobqueue.minute select m, '', '', {ROW} from {MINUTES};
insert into jobqueue.hour select m, {NAMES}, {ROW} from {HOURS}, {PAIRS} order by 1, 2, 3;
insert into jobqueue.hour select m, '', '', {ROW} from {HOURS};
insert into jobqueue.depth select m, case when q > 0 then 'queue' || q else '' end, 1, 2, 3, 4, 5, 6
  from {MINUTES}, generate_series(0, {QUEUES}) q order by 1, 2;
"""
HOUR = 3600.0
STEPS = 2 * 24 * 60
SLACK = 1.3
ASKED: dict[str, list[tuple[tuple[object, ...], float]]] = {
    "rates": [
        ((48 * HOUR, 0.0, 300.0, "", None, "minute"), STEPS),
        ((48 * HOUR, 0.0, 300.0, "queue7", None, "minute"), STEPS * TASKS),
        ((48 * HOUR, 0.0, 300.0, "queue7", "task15", "minute"), STEPS * TASKS),
        ((48 * HOUR, 0.0, 300.0, None, "task15", "minute"), STEPS),
        ((1440 * HOUR, 0.0, 3600.0, "", None, "hour"), 60 * 24),
        ((1440 * HOUR, 0.0, 3600.0, None, "task15", "hour"), 60 * 24),
    ],
    "deferred": [((3 * HOUR, 60.0), 180)],
    "depths": [(("queue7", 3 * HOUR, 60.0), 2 * 180), (("", 3 * HOUR, 60.0), 2 * 180)],
    "times": [
        ((1 * HOUR, None, None, "minute", 1000), 61 * (QUEUES * TASKS + 1)),
        ((48 * HOUR, None, None, "hour", 1000), 49 * (QUEUES * TASKS + 1)),
        ((48 * HOUR, "queue7", None, "hour", 1000), 49 * TASKS),
        ((48 * HOUR, None, "task15", "hour", 1000), 49),
    ],
    "sparks": [
        ((3 * HOUR, 300.0, "minute", 200), 181 * (QUEUES * TASKS + 1)),
        ((24 * HOUR, 3600.0, "hour", 200), 25 * (QUEUES * TASKS + 1)),
    ],
    "forget_history": [((2_000, 3 * 86_400.0, 70 * 86_400.0), 10)],
}
COUNTED = {
    **dict.fromkeys(
        ("claimed", "completed", "cancelled", "dead", "retried", "snoozed", "suspended", "released", "put_aside",
         "lined_up", "refused", "lost", "seconds"), 1), "run": [1, 2], "wait": [3],
}  # fmt: skip
LEARNED: dict[str, tuple[str, list[str]]] = {
    "unknown": ("stocked", []),
    "before": ("template", ["analyze", FILL]),
    "analysed": ("stocked", ["analyze"]),
}
"""A database, and what is done in it: the planner knows nothing, what there was before, all."""


@pytest.fixture(scope="module")
def stocked(databases: Databases, template: str) -> Iterator[str]:
    """The name of a database with two days of minutes; the planner knows nothing of them."""
    with databases.stocked(template, FILL) as name:
        yield name


@pytest.mark.parametrize("learned", LEARNED.values(), ids=list(LEARNED), indirect=True)
def test_a_look_back_reads_only_what_it_shows(learned: Connection) -> None:
    """Every statement reads the rows of its time, and those of its queue or task; so does what writes and removes."""
    wrong = []
    rows = [{"queue": f"queue{n % 10}", "task": f"task{n}", **COUNTED} for n in range(50)]
    values = (UUID(int=1), 1, 0.0, json.dumps(rows))
    for mode in ("custom", "generic"):
        asked: dict[str, list[tuple[tuple[object, ...], float]]] = {**ASKED, "note_counts": [(values, 100)]}
        for name, calls in asked.items():
            for given, most in calls:
                plan = run_plan(learned, name, given, mode)
                read = sum(plan.rows_read(table) for table in ("minute", "hour", "depth"))
                if read > most * SLACK:
                    wrong.append(f"{name}{given[1:]}, {mode}: {read:g} rows, not {most:g}\n{plan}")
    assert [] == wrong
