"""What the tests of heartbeat and rescue stand on: short leases, a blocked loop, and a worker on another loop."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import psycopg

from tests.support.jobs.working import asked, new_app
from tests.support.patience import NEVER, stretched
from tests.support.waiting import wait_until

LEASE, BEAT = stretched(2.0), stretched(0.3)
QUICK: dict[str, Any] = {"lease": LEASE, "beat": BEAT, "rescue_interval": 0.3}
QUIET: dict[str, Any] = {"lease": NEVER, "beat": NEVER / 3, "rescue_interval": NEVER}
"""No beat and no sweep comes between what a test does to a claim and what it looks for."""


def block(seconds: float) -> None:
    """Hold up the event loop that calls this, as a synchronous driver does."""
    time.sleep(seconds)


def block_while_watching(dsn: str, seconds: float) -> list[bool]:
    """Block the loop, and look from there again and again whether every lease still holds."""
    seen: list[bool] = []
    until = time.monotonic() + seconds
    with psycopg.connect(dsn, autocommit=True) as connection:
        while time.monotonic() < until:
            row = connection.execute("select bool_and(lease_until > clock_timestamp()) from jobqueue.job").fetchone()
            seen.append(bool(row and row[0]))
            time.sleep(0.02)
    return seen


async def outlived(dsn: str, leases: float = 1.2, lease: float = LEASE, condition: str = "true") -> None:
    """Return once every claim of now is that many leases old; fail at once if the lease of one is over meanwhile."""
    held = f"state = 'running' and {condition}"
    jobs = int(await asked(dsn, f"select count(*) from jobqueue.job where {held}"))
    assert jobs > 0, "nothing is claimed"

    async def old_enough() -> bool:
        holds = await asked(dsn, f"select count(*) from jobqueue.job where {held} and lease_until > clock_timestamp()")
        assert jobs == holds, f"of {jobs} claims only {holds} hold a lease"
        query = f"select min(clock_timestamp() - claimed_at) > make_interval(secs => $1) from jobqueue.job where {held}"
        return bool(await asked(dsn, query, leases * lease))

    await wait_until(old_enough, f"the claims are {leases} leases old")


@asynccontextmanager
async def worker_elsewhere(dsn: str, *tasks: Callable[..., Any], **knobs: Any) -> AsyncIterator[None]:
    """A second worker in a thread, with a loop that nobody here can block."""
    started, over = threading.Event(), threading.Event()
    errors: list[BaseException] = []

    async def serve() -> None:
        app = new_app(dsn, **knobs)
        for task in tasks:
            app.task(task)
        async with app, app.worker():
            started.set()
            await wait_until(over.is_set, "the test is over", timeout=NEVER)

    def body() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=body, name="worker elsewhere")
    thread.start()
    try:
        await wait_until(lambda: started.is_set() or errors, "the other worker has started")
        yield
    finally:
        over.set()
        await wait_until(lambda: not thread.is_alive(), "the other worker has ended")
        assert not errors, errors
