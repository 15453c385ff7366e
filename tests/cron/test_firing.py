"""Schedules fire: a job for each planned time, whatever the worker missed, and by the row's own words."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobqueue import App, JobContext, JobState
from jobqueue.cron import firing
from tests.support.jobs.store import connect
from tests.support.jobs.working import asked, new_app
from tests.support.waiting import wait_until

NEVER = "0 0 29 2 *"


async def note(what: str = "nothing") -> str:
    return what


@asynccontextmanager
async def app_on(dsn: str) -> AsyncIterator[App]:
    """An app with a task `note`."""
    app = new_app(dsn)
    app.task(note)
    async with app:
        yield app


async def move_back(dsn: str, name: str, **ago: float) -> datetime:
    """Make a schedule's next planned time one in the past, a whole minute, as if no worker had been there."""
    moment = (datetime.now(UTC) - timedelta(**ago)).replace(second=0, microsecond=0)
    async with connect(dsn) as connection:
        await connection.execute("update jobqueue.schedule set next_at = $2 where name = $1", name, moment)
    return moment


async def jobs_of(app: App, name: str) -> list[Any]:
    """All jobs that a schedule has stored, the earliest planned first."""
    found: list[Any] = []
    after = None
    while True:
        page = await app.jobs.list(origin=f"schedule:{name}", after=after, limit=500)
        found += page
        after = page.next
        if after is None:
            return sorted(found, key=lambda job: job.planned_at)


async def test_a_schedule_of_every_second_runs(database: str) -> None:
    """What is put while a worker sleeps fires at its next second, and the handler knows the planned time."""
    planned: list[datetime | None] = []
    app = new_app(database)

    @app.task
    async def tick(ctx: JobContext) -> None:
        planned.append(ctx.job.planned_at)

    async with app, app.worker():
        await app.schedules.put("tick", tick.job(), "* * * * * *")
        await wait_until(lambda: len(planned) >= 3, "three seconds have had their jobs")
        schedule = await app.schedules.get("tick")

    assert schedule.last_at is not None
    first = planned[0]
    assert first is not None
    assert [first + timedelta(seconds=n) for n in range(len(planned))] == planned
    assert ("active", "stored", "tick") == (schedule.state, schedule.source, schedule.task)
