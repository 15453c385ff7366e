"""Our own side's tasks, and the App that `python -m jobqueue worker` gets for them."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from jobqueue.app import App
from jobqueue.bench.child import SCHEMA, Meter
from jobqueue.tasks.router import Router

tasks = Router()
meter = Meter()


@tasks.task
async def noop(n: int) -> None:
    """Do nothing."""
    meter.job()


@tasks.task
async def nap(seconds: float) -> None:
    """Wait, as for a network."""
    meter.job()
    await asyncio.sleep(seconds)


@tasks.task
async def stamp(sent: float) -> None:
    """Note how long the way here took."""
    meter.delays.append(time.monotonic() - sent)


@tasks.batch_task(size=100, wait=0.01)
async def gather(numbers: list[int]) -> None:
    """Do nothing, for a hundred jobs at once."""
    meter.job(len(numbers))


def app_on(dsn: str, schema: str) -> App:
    """An App on the bench's schema. A worker of it reports at its end."""
    made = App(dsn, schema=schema, name="jobqueue bench", lifespan=_reported)
    made.include(tasks)
    return made


def app() -> App:
    """The same for `python -m jobqueue worker`, from the environment."""
    return app_on(os.environ["JOBQUEUE_DSN"], os.environ[SCHEMA])


@asynccontextmanager
async def _reported(app: App) -> AsyncIterator[None]:
    yield
    meter.report()
