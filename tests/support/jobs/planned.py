"""Schedules of a task that notes nothing; and what fires them, without the worker around it."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from jobqueue import App, Job, Schedule
from jobqueue.base.flows.cron import Cron
from jobqueue.cron.firing import Firer
from jobqueue.tasks.registry import Declared
from tests.support.jobs.store import connect, open_database
from tests.support.jobs.working import asked, new_app


@cache
def minute() -> int:
    """Of the hour, far from the present one. Each test of schedules forgets it: a long run comes to any minute."""
    return (datetime.now(UTC).minute + 40) % 60


def hourly() -> str:
    """Once an hour, and not while this test runs: no planned time comes between two of its lines."""
    return f"{minute()} * * * *"


def half_an_hour_later() -> str:
    """The same, between those of `hourly`."""
    return f"{(minute() + 30) % 60} * * * *"


async def note(what: str = "nothing") -> str:
    return what


@asynccontextmanager
async def app_on(dsn: str) -> AsyncIterator[App]:
    """An app with a task `note`, whose workers nobody has started."""
    app = new_app(dsn)
    app.task(note)
    async with app:
        yield app


async def put(app: App, name: str, cron: str, **more: Any) -> Schedule:
    """A schedule of `note`."""
    task = app.registry.find("note")
    assert task is not None
    return await app.schedules.put(name, task.job(), cron, **more)


@asynccontextmanager
async def firer_on(dsn: str, declared: Callable[[], Sequence[Declared]] = list) -> AsyncIterator[Firer]:
    """What fires."""
    async with open_database(dsn) as database:
        firer = Firer(database, declared)
        try:
            yield firer
        finally:
            await firer.close()


async def fire(dsn: str, declared: Callable[[], Sequence[Declared]] = list) -> Firer:
    """Fire what is due now, as a worker does whose code declares this."""
    async with firer_on(dsn, declared) as firer:
        await firer.look()
        return firer


async def last_hour(dsn: str) -> datetime:
    """The last planned time of `hourly`, by the database's clock."""
    now = await asked(dsn, "select now()")
    return Cron(hourly()).latest(now - timedelta(hours=2), now, 1)[0]


async def move_back(dsn: str, ago: timedelta, name: str = "note") -> datetime:
    """Make the next planned time one so long before the last of `hourly`, as if no worker had been there since."""
    moment = await last_hour(dsn) - ago
    async with connect(dsn) as connection:
        await connection.execute("update jobqueue.schedule set next_at = $2 where name = $1", name, moment)
    return moment


async def jobs_of(app: App, name: str = "note") -> list[Job]:
    """All jobs that a schedule has stored, the earliest planned first."""
    page = await app.jobs.list(origin=f"schedule:{name}", limit=1000)
    found = [*page]
    while page.next is not None:
        page = await app.jobs.list(origin=f"schedule:{name}", after=page.next, limit=1000)
        found += page
    return sorted(found, key=lambda job: str(job.planned_at))
