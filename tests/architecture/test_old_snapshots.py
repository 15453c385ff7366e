"""Promise 7: an old snapshot anywhere keeps what has gone in the indexes, and nobody walks over it at each look."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest

from jobqueue.store.claims import EVERYTHING, Arm
from jobqueue.worker.claiming.marks import Marks
from tests.support.postgres.database import Databases
from tests.support.postgres.plans import Plan, run_plan

Connection = psycopg.Connection[Any]

GONE = 200_000
LEFT = 500
NOBODY = UUID(int=1)
PRIORITIES = range(5)
CLAIM = "state = 'running', attempt = 1, fence = 1, worker_id = gen_random_uuid(), lease_until = now() + interval '1 h'"
COME_AND_GO = f"""
alter table jobqueue.job set (autovacuum_enabled = false);
insert into jobqueue.job (queue, task, priority, state, via, due_at)
  select 'q' || n % 2, 'task', n % 5, 'scheduled', 'py', now() - interval '1 h' from generate_series(1, {GONE}) n;
update jobqueue.job set state = 'ready';
update jobqueue.job set {CLAIM};
delete from jobqueue.job;
insert into jobqueue.job (queue, task, priority, via)
  select 'q' || n % 2, 'task', n % 5, 'py' from generate_series(1, {LEFT}) n;
insert into jobqueue.job (task, state, via, due_at)
  select 'task', 'scheduled', 'py', now() from generate_series(1, 100);
"""


@pytest.fixture(scope="module")
def haunted(databases: Databases, template: str) -> Iterator[Connection]:
    """Behind an old snapshot: 200 000 jobs of two queues and five priorities have come, waited, run and gone."""
    with (
        databases.temporary(template) as dsn,
        psycopg.connect(dsn) as old,
        psycopg.connect(dsn, autocommit=True) as connection,
    ):
        old.execute("set transaction isolation level repeatable read")
        old.execute("select count(*) from jobqueue.job")
        connection.execute(COME_AND_GO)
        yield connection


def worked_off(newest: int) -> Marks:
    """The marks of a worker that has seen all jobs up to this one go."""
    marks = Marks()
    marks.tell(newest, now=1.0)
    tops = {(queue, priority): newest for queue in ("q0", "q1") for priority in PRIORITIES}
    marks.learn(tops, emptied=["q0", "q1"], sent=10.0)
    return marks


def claim_of(arms: list[Arm]) -> tuple[object, ...]:
    columns = [list(column) for column in zip(*arms, strict=True)]
    return (NOBODY, 1, 20.0, ["q0"], [50], 50, 50, 1, [1], [len(arms)], *columns, [], 60.0)


def pages(connection: Connection, name: str, values: tuple[object, ...]) -> dict[str, Plan]:
    return {mode: run_plan(connection, name, values, mode) for mode in ("custom", "generic")}


def test_who_was_there_steps_over_nothing(haunted: Connection) -> None:
    """A claim, a patrol, a promotion and a rescue that go on from where they were touch few pages."""
    marks = worked_off(GONE)
    seen = haunted.execute("select now() - interval '1 minute'").fetchone()
    assert seen is not None
    looks = {
        "claim_jobs": claim_of(marks.arms("q0")),
        "ready_between": (GONE, EVERYTHING[3], [], 60.0),
        "promote_due": (100, seen[0]),
        "take_expired": (NOBODY, 500, [], 0.0, [], 3, GONE, EVERYTHING[3]),
        "strays": (NOBODY, 1, [], GONE, EVERYTHING[3]),
    }
    for name, values in looks.items():
        for mode, plan in pages(haunted, name, values).items():
            # Versions before 18 may read an index, which has about 700 pages; no table.
            assert plan.buffers <= 2_000, f"{name}, {mode}: {plan.buffers} pages\n{plan}"


def test_who_looks_at_everything_pays_for_everything(haunted: Connection) -> None:
    """The same looks from the beginning do walk over what has gone: else the other test would show nothing."""
    looks = {
        "claim_jobs": claim_of([EVERYTHING]),
        "ready_between": (*EVERYTHING[2:], [], 60.0),
        "promote_due": (100, datetime(2020, 1, 1, tzinfo=UTC)),
        "take_expired": (NOBODY, 500, [], 0.0, [], 3, *EVERYTHING[2:]),
    }
    for name, values in looks.items():
        for mode, plan in pages(haunted, name, values).items():
            assert plan.buffers > 2_000, f"{name}, {mode}: {plan.buffers} pages\n{plan}"


def test_a_patrol_pays_for_its_piece(haunted: Connection) -> None:
    """What a piece of the patrol costs follows its width, not all that has gone."""
    narrow = pages(haunted, "ready_between", (100_000, 110_000, [], 60.0))["custom"].buffers
    wide = pages(haunted, "ready_between", (0, GONE, [], 60.0))["custom"].buffers

    assert 4 * narrow < wide
