"""What the tests of the worker stand on: apps that do nothing unasked, and waiting for jobs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from jobqueue.app import App
from jobqueue.base.job import Job, JobState
from jobqueue.base.settings import Settings
from jobqueue.tasks.handle import JobHandle
from tests.support.jobs.store import connect
from tests.support.patience import NEVER, PATIENCE
from tests.support.postgres.backends import WAITS_FOR_LOCK, becomes
from tests.support.waiting import wait_until

POLL = NEVER
"""Seconds: longer than any test waits, so that what starts in time was woken."""
CALM: dict[str, Any] = {"poll": POLL, "lease": 3 * NEVER, "beat": NEVER, "rescue_interval": NEVER}
"""Nothing happens by itself while a test looks, however long that takes on a busy machine."""


def new_app(dsn: str, *, lifespan: Any = None, name: str | None = None, **knobs: Any) -> App:
    """An app on this database; `knobs` are those of `Settings`."""
    return App(dsn, name=name, lifespan=lifespan, settings=Settings(**{**CALM, **knobs}))


async def end_of(app: App, handle: JobHandle[Any], timeout: float = PATIENCE) -> Job:
    """The job once it is completed, cancelled or dead."""
    return await app.sender.wait_final(handle.id, timeout)


async def reached(app: App, handle: JobHandle[Any], state: JobState, timeout: float = PATIENCE) -> Job:
    """The job once it is in this state."""
    found: list[Job] = []

    async def is_there() -> bool:
        found[:] = [await app.jobs.get(handle.id)]
        return found[0].state is state

    await wait_until(is_there, f"job {handle.task} is {state}", timeout)
    return found[0]


async def seen(handle: JobHandle[Any], timeout: float = PATIENCE) -> Any:
    """The job's result, waited for by looking only: whoever asks for a result wakes workers by that."""

    async def has_ended() -> bool:
        return (await handle.status()).final

    await wait_until(has_ended, f"job {handle.task} has ended, and nobody but its defer woke a worker", timeout)
    return await handle.result(timeout=PATIENCE)


async def counted(dsn: str, condition: str = "true", *values: object) -> int:
    """How many unfinished jobs there are for which this SQL condition holds."""
    return int(await asked(dsn, f"select count(*) from jobqueue.job where {condition}", *values))


async def asked(dsn: str, query: str, *values: object) -> Any:
    """The one value that a query past the library gives."""
    async with connect(dsn) as connection:
        return await connection.fetchval(query, *values)


_STANDING = "select count(*) || ' ' || state as state from jobqueue.job group by job.state"


async def all_ended(dsn: str, timeout: float = PATIENCE) -> None:
    """Return once no unfinished job is left. `timeout`: seconds in which they get fewer, however many they are."""
    left = await counted(dsn)
    while left:
        standing = await asked(dsn, f"select string_agg(state, ', ') from ({_STANDING}) as each")

        async def are_fewer() -> bool:
            return await counted(dsn) < left  # noqa: B023 - used at once

        await wait_until(are_fewer, f"fewer jobs are left than {standing}", timeout)
        left = await counted(dsn)


async def archived(dsn: str, state: str = "completed") -> int:
    """How many jobs have ended so."""
    return int(await asked(dsn, "select count(*) from jobqueue.job_archive where state = $1", state))


async def claims_left(dsn: str) -> list[UUID]:
    """Jobs that some worker still holds."""
    async with connect(dsn) as connection:
        rows = await connection.fetch("select id from jobqueue.job where state = 'running'")
    return [row["id"] for row in rows]


@asynccontextmanager
async def claims_held(dsn: str) -> AsyncIterator[None]:
    """Whoever claims a job inside the block waits for its end: jobs can be inserted, but no fence can be drawn."""
    async with connect(dsn) as connection, connection.transaction():
        await connection.execute("alter sequence jobqueue.fence_seq cache 1")
        yield


async def one_waits(dsn: str) -> None:
    """Return once a statement waits for what another holds."""
    await becomes(dsn, 1, WAITS_FOR_LOCK)


async def asleep(dsn: str, workers: int = 1) -> None:
    """Return once claimer and stager of so many workers sleep."""

    async def all_sleep() -> bool:
        return bool(await asked(dsn, "select count(*) = $1 from jobqueue.sleeper", 2 * workers))

    await wait_until(all_sleep, "claimers and stagers sleep")


def seconds_until(job: Job) -> float:
    """Seconds until the job is due, by this machine's clock."""
    return (job.due_at - datetime.now(UTC)).total_seconds()
