"""Plans of phases and signals: whatever the planner believes, each costs what it is about, beside 70 000 of others."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.support.postgres.database import Databases
from tests.support.postgres.full import GIVEN_UP, LONGEST, PHASES
from tests.support.postgres.plans import Connection, Plan, assert_none_dear, run_learned

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
WORKER = UUID("a2f1c0de-0000-4000-8000-000000000000")
FIRST = UUID(GIVEN_UP)
"""After the jobs with 10 000 phases."""
MISLEADING = """
insert into jobqueue.phase (job_id, name, kind, place, attempt, fence, began_at)
  select '00000000-0000-7000-8000-000000000001', n::text, 'phase', 1, 1, 1, now() from generate_series(1, 20000) n;
insert into jobqueue.signal (job_id, name, payload)
  select '00000000-0000-7000-8000-000000000001', 'go', '1' from generate_series(1, 20000);
analyze;
truncate jobqueue.phase, jobqueue.signal;
"""
LEARNED: dict[str, tuple[str, list[str]]] = {
    "unknown": ("stocked", []),
    "before": ("analysed", [PHASES]),
    "misled": ("filled", [MISLEADING, PHASES]),
    "analysed": ("stocked", ["analyze"]),
}
"""A database, and what is done in it.

So the planner knows nothing, what was before any phase, that all are of one job, all.
"""

Case = tuple[Sequence[object], int]


def ids_of(connection: "psycopg.Connection[Any]", place: str, size: int) -> list[Any]:
    found = connection.execute(f"select id, fence from jobqueue.{place} limit {size}".encode()).fetchall()
    return [list(column) for column in zip(*found, strict=True)]


def of_running(connection: "psycopg.Connection[Any]", size: int) -> dict[str, Case]:
    """What a worker says for so many running jobs, with its arguments, and how many pages it may touch."""
    ids, fences = ids_of(connection, "job where state = 'running' order by id", size)
    none, yes, ones, texts = [None] * size, [True] * size, [1] * size, ["1"] * size
    said = ones, ones, [0.5] * size, yes, none, none, texts, none, WORKER
    look = ["new"] * size, ["go"] * size, ones, ones, [60.0] * size, WORKER
    no = [False] * size
    back = ids, fences, [0.0] * size, none, ones, no, no, none, none, none, [0] * size, [0] * size, none, WORKER
    return {
        "load_phases": ((ids, 16_384), 20 * size),
        "record_phases of new": ((ids, fences, ["new"] * size, ["phase"] * size, *said), 30 * size),
        "record_phases again": ((ids, fences, ["step 3"] * size, ["phase"] * size, *said), 30 * size),
        "take_signals": ((ids, fences, *look), 40 * size),
        "phases_under_way": ((ids, [WORKER] * size), 20 * size),
        "return_jobs": (back, 100 * size),
    }


def of_others(connection: "psycopg.Connection[Any]", size: int) -> dict[str, Case]:
    """What is done to so many waiting or finished jobs."""
    waiting, _ = ids_of(connection, "job where state = 'ready' order by id", size)
    finished, _ = ids_of(connection, "job_archive order by id", size)
    return {
        "change_waiting": ((waiting, 5.0, None, "q0", 1, True, False, True), 100 * size),
        "delete_waiting": ((waiting,), 100 * size),
        "delete_finished": ((finished, LONG_AGO), 150 * size),
        "retry_finished": ((finished, LONG_AGO, False, False, True), 150 * size),
    }


def single(connection: "psycopg.Connection[Any]") -> dict[str, Case]:
    """Those for one job."""
    (sleeping, *_), _ = ids_of(connection, "job where state = 'scheduled' order by id", 1)
    return {
        "load_phases of 10 000": (([LONGEST], 16_384), 3_000),
        "phase_result": ((LONGEST, "step 5000"), 10),
        "list_phases": ((LONGEST, 10_000, True), 3_000),
        "list_phases of one that ended": ((GIVEN_UP, 10_000, False), 3_000),
        "unread_signals": ((LONGEST,), 100),
        "send_signal": ((sleeping, "go", "1", 100), 100),
        "send_signal to one with 999": ((LONGEST, "go", "1", 100), 200),
        "forget_phases": ((FIRST, 5_000, 86_400.0), 40_000),
        "forget_signals": ((FIRST, 5_000, 86_400.0), 40_000),
    }


def wrong_with(plan: Plan, pages: int) -> list[str]:
    """What it should not have read, or compared."""
    wrong = [f"{plan.buffers} pages"] if plan.buffers > pages else []
    for node in plan.nodes():
        table = str(node.get("Relation Name", ""))
        read = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        if node["Node Type"] == "Seq Scan" and read > 1_000:
            wrong.append(f"all of {table}")
        compared = node.get("Rows Removed by Join Filter", 0) * node["Actual Loops"]
        if compared > 10_000:
            wrong.append(f"{compared} pairs")
    return wrong


@pytest.fixture(scope="module")
def stocked(databases: Databases, filled: str) -> Iterator[str]:
    """The name of a database with phases and signals of 18 000 jobs; the planner knows nothing of them."""
    with databases.stocked(filled, PHASES) as name:
        yield name


@pytest.mark.parametrize("learned", LEARNED.values(), ids=list(LEARNED), indirect=True)
def test_a_phase_costs_its_own_job(learned: Connection) -> None:
    """No statement of phases and signals reads a table from end to end, or more of it than its own jobs have."""
    looks = {
        f"{name} of {size}": case
        for size in (1, 500)
        for name, case in {**of_running(learned, size), **of_others(learned, size)}.items()
    }
    looks |= single(learned)
    cases = {name: (values, max(200, pages)) for name, (values, pages) in looks.items()}
    assert_none_dear(learned, cases, wrong_with)


COME_AND_GO = """
alter table jobqueue.phase set (autovacuum_enabled = false);
alter table jobqueue.signal set (autovacuum_enabled = false);
insert into jobqueue.phase (job_id, name, kind, place, attempt, fence, began_at)
  select gen_random_uuid(), 'step', 'phase', 1, 1, 1, now() from generate_series(1, 40000);
insert into jobqueue.signal (job_id, name, payload) select gen_random_uuid(), 'go', '1' from generate_series(1, 40000);
insert into jobqueue.job (task, state, via, fence, worker_id, claim_no, lease_until, attempt)
  select 'task', 'running', 'py', n, 'a2f1c0de-0000-4000-8000-000000000000', 1, now(), 1 from generate_series(1, 500) n;
delete from jobqueue.phase;
delete from jobqueue.signal;
insert into jobqueue.phase (job_id, name, kind, place, attempt, fence, began_at)
  select id, 'step 3', 'phase', 1, 1, 1, now() from jobqueue.job;
insert into jobqueue.signal (job_id, name, payload) select id, 'go', '1' from jobqueue.job, generate_series(1, 10);
delete from jobqueue.signal where seq % 10 <> 0;
"""


def test_an_old_snapshot_makes_no_phase_slow(databases: Databases, template: str) -> None:
    """While a transaction sees what 40 000 others have left behind, a job pays for its own phases, as without it."""
    with (
        databases.temporary(template) as dsn,
        psycopg.connect(dsn) as old,
        psycopg.connect(dsn, autocommit=True) as connection,
    ):
        old.execute("set transaction isolation level repeatable read")
        old.execute("select count(*) from jobqueue.phase")
        connection.execute(COME_AND_GO.encode())
        for _ in range(10):  # each job has come to its phase again and again
            connection.execute("update jobqueue.phase set attempt = attempt + 1")
        for size in (1, 500):
            for name, (values, pages) in of_running(connection, size).items():
                for mode in ("custom", "generic"):
                    most = max(200, 2 * pages)
                    plan = run_learned(connection, name.split()[0], tuple(values), mode, most)
                    assert plan.buffers <= most, f"{name} of {size}, {mode}: {plan.buffers}\n{plan}"
