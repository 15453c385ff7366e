"""Closing an App: it waits for what is being stored, is bounded, may be repeated, and afterwards everything says so."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from jobqueue.app import App
from jobqueue.base.errors import AppClosed, DeferUnknown
from jobqueue.store.connection import pool
from jobqueue.tasks.sending import coalescer, producer, waiting
from tests.support.jobs.working import counted
from tests.support.patience import PATIENCE, scaled
from tests.support.postgres.backends import backends, becomes, stored
from tests.support.postgres.locks import jobs_held
from tests.support.waiting import wait_until


async def note(text: str = "") -> None: ...


@pytest.fixture
def short_limits(monkeypatch: pytest.MonkeyPatch) -> float:
    """Half a second for each part of a closing; together they take less than this gives."""
    for module in (coalescer, producer):
        monkeypatch.setattr(module, "CANCEL_LIMIT", 0.25)
    monkeypatch.setattr(pool, "CLOSE_LIMIT", 0.25)
    return scaled(4.0)


async def enter_worker(app: App) -> None:
    async with app.worker():
        raise AssertionError("a worker of a closed app has started")


METHODS: dict[str, Callable[[App, Any], Any]] = {
    "migrate": lambda app, task: app.migrate(),
    "defer": lambda app, task: task.defer("a"),
    "defer unique": lambda app, task: task.options(unique="a").defer("a"),
    "defer on a connection": lambda app, task: task.options(connection=object()).defer("a"),
    "defer_many": lambda app, task: task.defer_many(["a"]),
    "defer_many of nothing": lambda app, task: task.defer_many([]),
    "app.defer_many": lambda app, task: app.defer_many([task.job("a")]),
    "app.defer_many on a connection": lambda app, task: app.defer_many([task.job("a")], connection=object()),
    "jobs.get": lambda app, task: app.jobs.get(task.job("a").id),
    "jobs.list": lambda app, task: app.jobs.list(),
    "jobs.counts": lambda app, task: app.jobs.counts(),
    "handle.status": lambda app, task: task.handle(task.job("a").id).status(),
    "handle.result": lambda app, task: task.handle(task.job("a").id).result(timeout=PATIENCE),
    "worker": lambda app, task: enter_worker(app),
    "run_worker": lambda app, task: app.run_worker(),
    "run_until_idle": lambda app, task: app.run_until_idle(),
}


@pytest.mark.parametrize("opened", [True, False], ids=["opened", "never opened"])
async def test_after_close_everything_says_so(opened: bool, database: str) -> None:
    """S0-12, S4-100: after close every method but open raises AppClosed, and a second close does nothing."""
    app = App(database)
    task = app.task(note)
    if opened:
        await task.defer("a")
    await app.close()

    for name, method in METHODS.items():
        with pytest.raises(AppClosed):
            await method(app, task)
            pytest.fail(f"{name} on a closed App")
    await app.close()

    assert [] == await backends(database)


@pytest.mark.parametrize("null", [False, True], ids=["database", "null"])
async def test_a_closed_app_can_be_opened_again(null: bool, database: str) -> None:
    """S0-13: as whatever mounts it may start twice in one process, such as a web app under its test client."""
    app = App.null() if null else App(database)
    task = app.task(note)
    for _ in range(3):
        async with app:
            await task.defer("a")
            assert null or app.is_open
        with pytest.raises(AppClosed):
            await task.defer("b")

    assert (0 if null else 3) == await counted(database)
    assert [] == await backends(database)


async def test_what_is_opened_while_it_closes_stays_open(database: str) -> None:
    """An open that meets a close which still waits for a defer comes after it: both end, and the app works."""
    app = App(database)
    task = app.task(note)
    await app.jobs.counts()
    async with jobs_held(database) as hold:
        sending = asyncio.create_task(task.defer("a"))
        await hold.waited_for_by(1)
        closing = asyncio.create_task(app.close())
        await asyncio.sleep(0)
        opening = asyncio.create_task(app.open())
        await asyncio.sleep(0)
        await hold.release()
        await asyncio.gather(sending, closing, opening)

    await task.defer("b")
    assert (2, True) == (await counted(database), app.is_open)
    await app.close()
    assert [] == await backends(database)


def test_defer_sync_after_close_says_so() -> None:
    """S4-100: also without a running loop."""
    app = App("postgresql://postgres@127.0.0.1:1/none")
    task = app.task(note)
    asyncio.run(app.close())

    with pytest.raises(AppClosed):
        task.options(connection=object()).defer_sync("a")


async def test_leaving_the_block_closes(database: str) -> None:
    """S0-13: `async with app:` opens, and closes whatever happens inside."""
    app = App(database)
    with pytest.raises(ZeroDivisionError):
        async with app:
            await app.task(note).defer("a")
            raise ZeroDivisionError

    with pytest.raises(AppClosed):
        await app.jobs.counts()
    assert [] == await backends(database)


async def test_close_waits_for_what_is_being_stored(database: str) -> None:
    """A defer that is under way while the App closes is stored and answered, each in its way."""
    app = App(database)
    task = app.task(note)
    await app.jobs.counts()
    async with jobs_held(database) as hold:
        sending = [
            asyncio.create_task(task.defer("a")),
            asyncio.create_task(task.options(unique="b").defer("b")),
            asyncio.create_task(task.defer_many(["c", "d"])),
        ]
        await hold.waited_for_by(3)
        closing = asyncio.create_task(app.close())
        late = asyncio.create_task(task.defer("late"))
        await asyncio.sleep(0)
        assert not closing.done()
        await hold.release()
        await asyncio.gather(*sending, closing)
        with pytest.raises(AppClosed):
            await late

    assert 4 == await counted(database)


async def test_callers_who_were_there_first_are_served(database: str) -> None:
    """Closing while callers queue behind a batch sends them too."""
    app = App(database)
    task = app.task(note)
    await app.jobs.counts()
    async with jobs_held(database) as hold:
        first = asyncio.create_task(task.defer("first"))
        await hold.waited_for_by(1)
        queued = [asyncio.create_task(task.defer("queued")) for _ in range(5)]
        await asyncio.sleep(0)
        closing = asyncio.create_task(app.close())
        await asyncio.sleep(0)
        await hold.release()
        await asyncio.gather(first, *queued, closing)

    assert 6 == await counted(database)


async def test_close_is_bounded(database: str, short_limits: float) -> None:
    """Closing ends in time though the database does not answer; every caller is told what is known of their job."""
    app = App(database)
    task = app.task(note)
    await app.jobs.counts()
    async with jobs_held(database) as hold:
        sent = [
            asyncio.create_task(task.defer("a")),
            asyncio.create_task(task.options(unique="b").defer("b")),
            asyncio.create_task(task.defer_many(["c", "d"])),
        ]
        await hold.waited_for_by(3)
        queued = [asyncio.create_task(task.defer("queued")) for _ in range(3)]
        reading = asyncio.create_task(app.jobs.counts())
        await hold.waited_for_by(4)
        started = time.monotonic()
        await app.close()
        assert time.monotonic() - started < short_limits
        running = [task.get_coro() for task in asyncio.all_tasks()]
        assert [] == [name for name in map(str, running) if "._run" in name or "._write" in name], "it writes on"

        answers = await asyncio.gather(*sent, *queued, reading, return_exceptions=True)
    assert [DeferUnknown] * 3 + [AppClosed] * 3 == [type(answer) for answer in answers[:6]]
    assert isinstance(answers[6], Exception)


async def test_concurrent_closes_end_together(database: str) -> None:
    """Two closes at once: neither fails, and none returns before everything is closed."""
    app = App(database)
    task = app.task(note)
    await app.jobs.counts()
    async with jobs_held(database) as hold:
        sending = asyncio.create_task(task.defer("a"))
        await hold.waited_for_by(1)
        closings = [asyncio.create_task(app.close()) for _ in range(3)]
        done, _ = await asyncio.wait(closings, timeout=0.1)
        assert set() == done
        await hold.release()
        await asyncio.gather(sending, *closings)
        assert [] == await backends(database), "a connection is left"


async def test_closing_while_it_opens(database: str) -> None:
    """A close that meets the first opening waits for it and leaves nothing open."""
    app = App(database)
    opening = asyncio.create_task(app.open())
    await asyncio.sleep(0)
    await app.close()
    await opening

    await becomes(database, 0)
    with pytest.raises(AppClosed):
        await app.jobs.counts()


@pytest.mark.parametrize("how", ["scope", "native"])
async def test_a_cancelled_close_still_closes(how: str, database: str) -> None:
    """Whatever cancels the block of an App, its connections are closed when it has been left, at once."""
    app = App(database)
    task = app.task(note)
    started = time.monotonic()

    async def use() -> None:
        async with app:
            await asyncio.gather(*(task.defer("a") for _ in range(10)))
            await asyncio.Event().wait()

    if how == "scope":
        async with anyio.create_task_group() as group:
            group.start_soon(use)
            await wait_until(lambda: app.is_open, "it is open")
            await stored(database, 10)
            group.cancel_scope.cancel()
    else:
        user = asyncio.create_task(use())
        await stored(database, 10)
        user.cancel()
        with pytest.raises(asyncio.CancelledError):
            await user

    assert [] == await backends(database)
    assert time.monotonic() - started < scaled(4)


async def test_closing_tells_those_who_wait(database: str) -> None:
    """Whoever waits for a job while the App closes gets AppClosed, in whatever step of the wait they are."""
    app = App(database)
    handles = [await app.task(note).defer("a") for _ in range(3)]
    waiting_for = [asyncio.create_task(handle.result()) for handle in handles]
    await wait_until(lambda: app_waiters(app)._watch is not None, "they wait")
    async with jobs_held(database) as hold:
        looking = asyncio.create_task(handles[0].result())
        await hold.waited_for()  # by this one, or by the look at the three others
        closing = asyncio.create_task(app.close())
        await asyncio.sleep(0)
        await hold.release()
        answers = await asyncio.gather(*waiting_for, looking, closing, return_exceptions=True)

    assert [AppClosed] * 4 == [type(answer) for answer in answers[:4]]


def app_waiters(app: App) -> waiting.Waiters:
    (place,) = app._opening._producers._places.values()
    assert place.value is not None
    return place.value._waiters
