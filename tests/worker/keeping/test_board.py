"""Handlers that are stuck can be seen from outside while they are, with the place where."""

import asyncio
import threading
import time
from typing import Any
from uuid import UUID, uuid4

import pytest

from jobqueue import JobContext
from jobqueue.base.looking.stuck import ASKED, BLOCKS, WAITS
from jobqueue.store.looking.overview import StuckJob, stuck_now
from jobqueue.worker.keeping.board import Board, Stuck
from tests.support.jobs.store import connect, open_database
from tests.support.jobs.working import end_of, new_app
from tests.support.patience import PATIENCE, SLOWNESS
from tests.support.postgres.database import Databases
from tests.support.waiting import wait_until

QUICK_BEATS: dict[str, Any] = {"lease": 60.0, "beat": 0.2}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobqueue.worker.slots.stuck._PATIENCE", 0.3)
    monkeypatch.setattr("jobqueue.worker.slots.stuck._LOOK", 0.1)
    monkeypatch.setattr("jobqueue.worker.keeping.watchdog._BLOCKED", 0.3)


def looks_from_outside(dsn: str, seen: list[StuckJob], let_go: threading.Event) -> None:
    """Another loop and connection, as in another process; lets the handler go once it is seen."""

    async def look() -> None:
        async with open_database(dsn) as db:

            async def found() -> bool:
                seen[:] = [one for one in await stuck_now(db) if one.job_id is not None]
                return bool(seen)

            try:
                await wait_until(found, "it is shown")
            finally:
                let_go.set()

    asyncio.run(look())


async def nothing_is_shown(dsn: str) -> None:
    async with open_database(dsn) as db:

        async def none() -> bool:
            return not await stuck_now(db)

        await wait_until(none, "it is gone")


async def test_who_blocks_the_loop_is_shown_meanwhile(database: str, impatient: None) -> None:
    """Job, task and place, no value; gone once the loop turns again."""
    app, let_go, seen = new_app(database, **QUICK_BEATS), threading.Event(), list[StuckJob]()

    @app.task
    async def sums_up(secret: str) -> None:
        let_go.wait(PATIENCE)  # blocks the loop

    async with app, app.worker() as worker:
        thread = threading.Thread(target=looks_from_outside, args=(database, seen, let_go))
        thread.start()
        handle = await sums_up.defer("hunter2-secret")
        await end_of(app, handle)
        await asyncio.to_thread(thread.join)
        (stuck,) = seen
        assert (handle.id, "sums_up", BLOCKS) == (stuck.job_id, stuck.task, stuck.how)
        assert worker.supervisor.id == stuck.worker_id
        assert "sums_up" in stuck.stack
        assert "test_board.py" in stuck.stack
        assert "hunter2" not in stuck.stack
        assert 0.3 <= stuck.seconds < PATIENCE
        await nothing_is_shown(database)


async def test_who_swallows_its_cancellation_is_shown_meanwhile(database: str, impatient: None) -> None:
    """With where it waits, and for how long it has been asked; gone once it has ended."""
    app, let_go = new_app(database, **QUICK_BEATS), asyncio.Event()

    @app.task(timeout=0.05, max_attempts=1)
    async def clings(ctx: JobContext) -> None:
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    async with app, app.worker(), open_database(database) as db:
        handle = await clings.defer()
        seen: list[StuckJob] = []

        async def found() -> bool:
            seen[:] = await stuck_now(db)
            return any(one.job_id for one in seen)

        await wait_until(found, "it is shown")
        (stuck,) = [one for one in seen if one.job_id]
        assert (handle.id, "clings", ASKED) == (stuck.job_id, stuck.task, stuck.how)
        assert "clings" in stuck.stack
        let_go.set()
        await end_of(app, handle)
        await nothing_is_shown(database)


def test_the_board_shows_a_few_of_bounded_size() -> None:
    """Who blocks the loop first, then who waits for others, then the newest.

    A stack that cannot be stored as it is loses what is wrong.
    """
    board = Board()
    board.asked([Stuck(str(n), "task", ASKED, "\0\udc80ж" * 9_000, time.monotonic() - 5) for n in range(7)])
    board.waits(Stuck("7", "task", WAITS, ""))
    board.blocks(Stuck(None, None, BLOCKS, "here"))
    assert [None, "7", "6", "5", "4"] == [one.job_id for one in board.now()]
    told = board.now()[2].told()
    stack = told["stack"]
    assert isinstance(stack, str)
    assert 8_180 < len(stack.encode()) <= 8_192
    assert "\0" not in stack
    assert 5.0 == pytest.approx(told["seconds_since"], abs=2 * SLOWNESS)
    board.blocks(None)
    board.waits(None)
    board.asked([])
    assert () == board.now()


ODD = [
    "7", "[]", "{}", "null", '"a"', "[1, null]", "[1e999]", '[{"job_id": 7}]',
    '[{"job_id": "x", "task": [], "seconds_since": {}}]',
    '[{"job_id": null, "task": null, "seconds_since": "a", "how": 1, "stack": 2}]',
    '[{"job_id": null, "task": null, "seconds_since": "nan", "how": "asked to end", "stack": ""}]',
    '[{"job_id": null, "task": null, "seconds_since": 1e300, "how": "asked to end", "stack": ""}]',
]  # fmt: skip


async def test_odd_things_in_a_row_end_no_page(databases: Databases, template: str) -> None:
    """Whatever somebody has written there: it is left out; so is what a worker says that is dead."""
    good = '[{"job_id": null, "task": null, "seconds_since": 1, "how": "blocks the loop", "stack": "here"}]'
    with databases.temporary(template) as dsn:
        async with connect(dsn) as connection, open_database(dsn) as db:
            for said in (*ODD, good):
                await add_worker(connection, said, "now() + interval '1 hour'")
            await add_worker(connection, good, "now() - interval '1 hour'")
            (found,) = await stuck_now(db)
    assert (None, None, BLOCKS, "here", "h 1") == (found.job_id, found.task, found.how, found.stack, found.worker)
    assert isinstance(found.worker_id, UUID)


async def add_worker(connection: object, said: str, until: str) -> None:
    await connection.execute(  # type: ignore[attr-defined]
        "insert into jobqueue.worker (id, app, host, pid, version, queues, concurrency, alive_until, stuck, stuck_at) "
        f"values ($1, 'a', 'h', 1, '1', '{{}}', 1, {until}, $2, now())",
        uuid4(),
        said,
    )
