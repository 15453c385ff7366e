"""`app.jobs` and `app.queues`: what cannot be meant is one clear error, before anything is sent."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from uuid_utils.compat import uuid7

from jobqueue.app import App
from jobqueue.base.errors import InvalidOption
from tests.app.test_steering import LATER, everything, note
from tests.support.jobs.working import new_app

SOME = uuid7()
HIGH: Any = "high"
NONE: Any = None
FIVE: Any = 5
BAD: dict[str, tuple[str, Callable[[App], Awaitable[Any]]]] = {
    "neither ids nor filter": ("ids", lambda app: app.jobs.cancel()),
    "a filter of None": ("ids", lambda app: app.jobs.delete(queue=None)),
    "both": ("ids", lambda app: app.jobs.retry(SOME, queue="mail")),
    "an unknown filter": ("colour", lambda app: app.jobs.cancel(colour="red")),  # type: ignore[call-arg]
    "an unknown filter with ids": ("colour", lambda app: app.jobs.cancel(SOME, colour="red")),  # type: ignore[call-arg]
    "an unknown state": ("state", lambda app: app.jobs.cancel(state="asleep")),
    "a key and more": ("key", lambda app: app.jobs.cancel(key="k", task="t", queue="mail")),
    "a key without its task": ("key", lambda app: app.jobs.cancel(key="k")),
    "a naive time": ("at", lambda app: app.jobs.reschedule(SOME, at=datetime(2030, 1, 1))),
    "a time and a delay": ("delay", lambda app: app.jobs.reschedule(SOME, at=LATER, delay=1.0)),
    "neither time nor delay": ("delay", lambda app: app.jobs.reschedule(SOME)),
    "a negative delay": ("delay", lambda app: app.jobs.reschedule(SOME, delay=-1.0)),
    "an endless delay": ("delay", lambda app: app.jobs.reschedule(SOME, delay=float("inf"))),
    "no queue": ("to", lambda app: app.jobs.move(SOME, to="")),
    "a long queue": ("to", lambda app: app.jobs.move(SOME, to="q" * 101)),
    "a queue of None": ("to", lambda app: app.jobs.move(SOME, to=None)),  # type: ignore[arg-type]
    "a priority too high": ("priority", lambda app: app.jobs.set_priority(SOME, priority=2**15)),
    "a priority of another kind": ("priority", lambda app: app.jobs.set_priority(SOME, priority=HIGH)),
    "a priority of None": ("priority", lambda app: app.jobs.set_priority(SOME, priority=NONE)),
    "a foreign connection": ("connection", lambda app: app.jobs.cancel(SOME, connection=object())),
    "an id that is none": ("ids", lambda app: app.jobs.cancel("abc")),  # type: ignore[arg-type]
    "a list of ids": ("ids", lambda app: app.jobs.cancel([SOME])),  # type: ignore[arg-type]
    "an id of None": ("ids", lambda app: app.jobs.delete(None)),  # type: ignore[arg-type]
    "a pause of no queue": ("name", lambda app: app.queues.pause("")),
    "a pause of None": ("name", lambda app: app.queues.pause(None)),  # type: ignore[arg-type]
    "a queue of all": ("to", lambda app: app.jobs.move(SOME, to="*")),
    "a queue of another kind": ("to", lambda app: app.jobs.move(SOME, to=FIVE)),
    "a length that is none": ("delay", lambda app: app.jobs.reschedule(SOME, delay=HIGH)),
    "a length below 0": ("delay", lambda app: app.jobs.reschedule(SOME, delay=timedelta(seconds=-1))),
    "a time of another kind": ("at", lambda app: app.jobs.reschedule(SOME, at=FIVE)),
    "a key of another kind": ("key", lambda app: app.jobs.cancel(task="t", key=FIVE)),
    "a key with NUL": ("key", lambda app: app.jobs.cancel(task="t", key="a\0b")),
    "a task of another kind": ("task", lambda app: app.jobs.cancel(task=FIVE, key="k")),
    "a queue that is no text": ("queue", lambda app: app.jobs.cancel(queue="\ud800")),
    "a state of another kind": ("state", lambda app: app.jobs.cancel(state=FIVE)),
    "a look at a queue with NUL": ("queue", lambda app: app.jobs.list(queue="a\0b")),
    "a look at a queue of another kind": ("queue", lambda app: app.jobs.list(queue=FIVE)),
    "a look at a task that is no text": ("task", lambda app: app.jobs.list(task="\udcff")),
    "a look at a long origin": ("origin", lambda app: app.jobs.list(origin="o" * 101)),
    "a look after no id": ("after", lambda app: app.jobs.list(after=HIGH)),
    "a page of another kind": ("limit", lambda app: app.jobs.list(limit=HIGH)),
    "a page of nothing": ("limit", lambda app: app.jobs.list(limit=0)),
    "a page of None": ("limit", lambda app: app.jobs.list(limit=NONE)),
    "a look at no id": ("id", lambda app: app.jobs.get(HIGH)),
    "a pause until another kind": ("until", lambda app: app.queues.pause("mail", until=FIVE)),
    "a pause until a naive time": ("until", lambda app: app.queues.pause("mail", until=datetime(2030, 1, 1))),
    "a pause of no length": ("seconds", lambda app: app.queues.pause("mail", seconds=0)),
    "a pause with two ends": ("seconds", lambda app: app.queues.pause("mail", until=LATER, seconds=5)),
    "a resume of a long queue": ("name", lambda app: app.queues.resume("q" * 101)),
}


@pytest_asyncio.fixture
async def app(database: str) -> AsyncIterator[App]:
    async with new_app(database) as app:
        yield app


@pytest.mark.parametrize("fault", list(BAD))
async def test_invalid_use_is_one_clear_error(app: App, database: str, fault: str) -> None:
    """S2-43: the error names the field, and nothing has changed."""
    await app.task(note).defer("a")
    before = await everything(database)
    field, attempt = BAD[fault]
    with pytest.raises(InvalidOption) as caught:
        await attempt(app)
    assert str(caught.value).startswith(f"{field}: "), caught.value
    assert caught.value.__cause__ is None
    assert field == caught.value.option
    assert before == await everything(database)
