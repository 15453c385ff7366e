"""Jobs whose fate is told at once, and what is heard of it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from jobqueue.app import App
from jobqueue.base.flows.event import Event
from jobqueue.events import feed
from jobqueue.store.flows.events import look_at_edge
from tests.support.jobs.store import connect, new_jobs
from tests.support.patience import PATIENCE


async def cancelled(
    app: App, count: int = 1, *, task: str = "task", queue: str = "default", origin: str | None = None
) -> list[UUID]:
    """Cancel so many new jobs: the log tells of them in one row, in the order of their ids."""
    handles = await app.defer_many(new_jobs(count, task=task, queue=queue, origin=origin))
    await app.jobs.cancel(*(handle.id for handle in handles))
    return [handle.id for handle in handles]


async def taken(events: AsyncIterator[Event], count: int) -> list[Event]:
    """The next so many events."""
    async with asyncio.timeout(PATIENCE):
        return [await anext(events) for _ in range(count)]


def ids(events: list[Event]) -> list[str]:
    return [event.id for event in events]


def jobs(events: list[Event]) -> list[UUID]:
    return [event.job_id for event in events]


async def make_old(dsn: str, days: int) -> None:
    """Move what the log has of today to a day that lies so many days back."""
    day = (datetime.now(UTC) - timedelta(days=days)).date()
    leaf = f"event_{day:%Y%m%d}"
    made = (
        f"create table jobqueue.{leaf} (like jobqueue.event including defaults including storage);"
        f"alter table jobqueue.event attach partition jobqueue.{leaf}"
        f" for values from ('{day} 00:00+00') to ('{day + timedelta(1)} 00:00+00');"
    )
    async with connect(dsn) as connection:
        await connection.execute(
            f"{made if days > 1 else ''}"
            f"update jobqueue.event set at = '{day} 12:00+00' where at > now() - interval '1 day'"
        )


async def lock_of_the_log(dsn: str) -> str:
    """What every writer of the log says before it draws a number."""
    async with connect(dsn) as connection:
        source = await connection.fetchval("select prosrc from pg_proc where proname = 'log_late'")
    return "select" + str(source).partition("perform")[2].partition(";")[0]


@contextmanager
def looks() -> Iterator[list[object]]:
    """Grows with each look at the log's edge."""
    seen: list[object] = []

    async def noted(*given: Any) -> None:
        seen.append(None)
        await look_at_edge(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed, "look_at_edge", noted)
        yield seen
