"""`app.queues`: what is read of queues, what they keep, and pauses that are over."""

from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import pytest_asyncio

from jobqueue.app import App
from jobqueue.store.looking.overview import QueueStats
from tests.app.test_steering import LATER, note
from tests.support.jobs.working import new_app
from tests.support.patience import scaled


@pytest_asyncio.fixture
async def app(database: str) -> AsyncIterator[App]:
    async with new_app(database) as app:
        yield app


async def test_queues_are_listed_as_they_stand(app: App, database: str) -> None:
    """S4-98: queues with unfinished jobs, and paused ones without any, by name."""
    task = app.task(note)
    assert [] == await app.queues.stats()
    await task.options(queue="mail").defer_many(["a", "b"])
    await task.options(queue="mail", delay=60.0).defer("c")
    await app.queues.pause("bulk", until=LATER)
    bulk, mail = await app.queues.stats()
    assert ("bulk", True, LATER, 0, None) == (bulk.queue, bulk.paused, bulk.resume_at, bulk.ready, bulk.oldest_due)
    assert QueueStats("mail", 1, 2, 0, mail.oldest_due, False, served=False) == mail
    assert mail.oldest_due is not None
    assert 0 <= mail.oldest_due < scaled(10)


async def test_what_a_queue_keeps_can_be_read(app: App) -> None:
    """S2-15: what was said last holds, all of it; without limits it is taken back."""
    said: list[dict[str, Any]] = [
        {"completed": 3600.0, "most_other": 5}, {"other": 60.0, "most_completed": 2**53}, {}
    ]  # fmt: skip
    for limits in said:
        await app.queues.keep("mail", **limits)
        (mail,) = await app.queues.stats()
        nothing = dict.fromkeys(("completed", "other", "most_completed", "most_other"))
        assert ("mail", nothing | limits) == (mail.queue, asdict(mail.keep))


async def test_a_pause_that_is_over_pauses_nothing(app: App) -> None:
    """S2-01: the database's clock decides; the answer says until when, and the queue is not paused, nor any more."""
    before = datetime(2020, 1, 1, tzinfo=UTC)
    await app.queues.pause("mail")
    assert before == await app.queues.pause("mail", before)
    (mail,) = await app.queues.stats()
    assert (False, before) == (mail.paused, mail.resume_at)
