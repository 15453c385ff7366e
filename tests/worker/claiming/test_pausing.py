"""Paused queues: nothing of theirs is claimed, by any worker; what runs goes on, and a resume is heard at once."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobqueue.app import App
from jobqueue.base.job import JobState
from jobqueue.tasks.handle import JobHandle
from jobqueue.tasks.task import Task
from tests.support.jobs.store import connect
from tests.support.jobs.working import asked, counted, new_app, reached, seen
from tests.support.patience import PATIENCE, scaled
from tests.support.waiting import wait_until

SOON = scaled(5.0)
"""Seconds within which a resumed queue is served on a busy machine; the poll comes after the test."""


class Notes:
    """What has started, in order, and when."""

    def __init__(self, app: App) -> None:
        self.started: list[str] = []
        self.at: dict[str, float] = {}
        self.may_end = asyncio.Event()
        self.may_end.set()

        async def note(text: str) -> None:
            self.started.append(text)
            self.at[text] = asyncio.get_running_loop().time()
            await self.may_end.wait()

        self.task: Task[Any, Any] = app.task(name="note")(note)

    async def defer(self, queue: str, text: str, **options: Any) -> JobHandle[Any]:
        return await self.task.options(queue=queue, **options).defer(text)

    async def runs(self, *texts: str) -> None:
        await wait_until(lambda: set(texts) <= set(self.started), f"{texts} have started")


async def now_of(dsn: str) -> datetime:
    found: datetime = await asked(dsn, "select clock_timestamp()")
    return found


async def asleep(dsn: str, workers: int = 1) -> None:
    """Return once the claimer and the stager of so many workers sleep, however many queues each serves."""
    query = "select count(distinct (worker_id, queue = '')) = $1 from jobqueue.sleeper"

    async def all_sleep() -> bool:
        return bool(await asked(dsn, query, 2 * workers))

    await wait_until(all_sleep, "claimers and stagers sleep")


async def states(handles: Sequence[JobHandle[Any]]) -> set[JobState]:
    return {await handle.status() for handle in handles}


@pytest.mark.parametrize("queues", [None, ["mail", "other"]], ids=["all", "named"])
async def test_a_pause_stops_every_worker_at_once(database: str, queues: list[str] | None) -> None:
    """S2-01: no worker starts another job of a paused queue; what runs goes on, and so do the other queues."""
    app, second, boss = new_app(database), new_app(database), new_app(database)
    notes, more = Notes(app), Notes(second)
    notes.may_end.clear()
    async with app, second, boss, app.worker(queues=queues), second.worker(queues=queues):
        notes.may_end.clear()
        more.may_end.clear()
        running = await notes.defer("mail", "running")
        await wait_until(lambda: notes.started + more.started == ["running"], "it runs")
        await boss.queues.pause("mail")
        held = [await notes.defer("mail", "held") for _ in range(30)]
        other = await notes.defer("other", "other")
        await wait_until(lambda: "other" in notes.started + more.started, "the other queue goes on")
        notes.may_end.set()
        more.may_end.set()
        await running.result(timeout=PATIENCE)
        await other.result(timeout=PATIENCE)
        await asleep(database, 2)  # they have looked once more, and found nothing
        assert "held" not in notes.started + more.started
        assert {JobState.READY} == await states(held)
        (mail,) = [queue for queue in await boss.queues.stats() if queue.queue == "mail"]
        assert (True, 30, 0, None) == (mail.paused, mail.ready, mail.running, mail.resume_at)
        assert mail.oldest_due is not None

        await boss.queues.resume("mail")
        resumed = asyncio.get_running_loop().time()
        await wait_until(lambda: (notes.started + more.started).count("held") == 30, "all have started")
        assert min(done.at["held"] for done in (notes, more) if "held" in done.at) - resumed < SOON
        await asyncio.gather(*(handle.result(timeout=PATIENCE) for handle in held))
        assert not any(queue.paused for queue in await boss.queues.stats())


async def test_a_queue_that_nobody_knows_can_be_paused(database: str) -> None:
    """S2-01: paused before its first job, a queue is served only once it is resumed; a second resume does nothing."""
    app = new_app(database)
    notes = Notes(app)
    async with app, app.worker():
        await app.queues.resume("never heard of")
        await app.queues.pause("new")
        await app.queues.pause("new")
        handle = await notes.defer("new", "a")
        await asleep(database)
        assert JobState.READY is await handle.status()
        await app.queues.resume("new")
        await notes.runs("a")
        await app.queues.resume("new")
    assert ["a"] == notes.started


@pytest.mark.parametrize("nearer", [False, True], ids=["set once", "moved nearer"])
async def test_a_pause_ends_by_itself(database: str, nearer: bool) -> None:
    """S2-01: with an end, a queue is served again at that time, without a poll; also if the end was moved nearer."""
    app = new_app(database)
    notes = Notes(app)
    async with app, app.worker():
        await asleep(database)
        if nearer:
            await app.queues.pause("mail", until=await now_of(database) + timedelta(hours=1))
            await asleep(database)
        await notes.defer("mail", "a")
        if not nearer:
            # A job that started before the pause would show nothing.
            await notes.runs("a")
            notes.started.clear()
        clock = asyncio.get_running_loop().time
        earliest = clock() + 0.6
        until = await now_of(database) + timedelta(seconds=0.6)
        latest = clock() + 0.6
        await app.queues.pause("mail", until=until)
        if not nearer:
            await notes.defer("mail", "a")
        await notes.runs("a")
        assert earliest <= notes.at["a"] < latest + SOON
        assert (None, None) == await pause_of(database, "mail")


async def pause_of(dsn: str, name: str) -> tuple[Any, Any]:
    async with connect(dsn) as connection:
        row = await connection.fetchrow("select paused_at, resume_at from jobqueue.queue where name = $1", name)
    assert row is not None
    return tuple(row)


async def test_a_pause_without_an_end_takes_the_end_away(database: str) -> None:
    """S2-01: paused again without an end, a queue stays paused; it is paused since the first time."""
    app = new_app(database)
    async with app:
        await app.queues.pause("mail", until=datetime(2100, 1, 1, tzinfo=UTC))
        since, until = await pause_of(database, "mail")
        assert datetime(2100, 1, 1, tzinfo=UTC) == until
        await app.queues.pause("mail")
        assert (since, None) == await pause_of(database, "mail")


async def test_an_end_that_has_passed_is_no_pause(database: str) -> None:
    """S2-01: `until` in the past: the queue is served at once."""
    app = new_app(database)
    notes = Notes(app)
    async with app, app.worker():
        await app.queues.pause("mail", until=datetime(2020, 1, 1, tzinfo=UTC))
        await notes.defer("mail", "a")
        await notes.runs("a")


async def test_limits_hold_after_a_resume(database: str) -> None:
    """S2-01: with `mail:1` a pause holds back all of mail; resumed, one at a time runs."""
    app = new_app(database)
    notes = Notes(app)
    async with app, app.worker(queues=["mail:1", "other"]) as worker:
        await app.queues.pause("mail")
        held = [await notes.defer("mail", f"m{number}") for number in range(3)]
        await (await notes.defer("other", "o")).result(timeout=PATIENCE)
        await asleep(database)
        assert ["o"] == notes.started
        notes.may_end.clear()
        await app.queues.resume("mail")
        await notes.runs("m0")
        await notes.defer("other", "p")
        await notes.runs("p")
        assert ["o", "m0", "p"] == notes.started
        assert 2 == worker.snapshot().running
        notes.may_end.set()
        await asyncio.gather(*(handle.result(timeout=PATIENCE) for handle in held))


async def test_delayed_jobs_of_a_paused_queue_become_ready_only(database: str) -> None:
    """S2-01: their time comes while the queue is paused: ready, but not started; the resume starts them."""
    app = new_app(database)
    notes = Notes(app)
    async with app, app.worker():
        await app.queues.pause("mail")
        handle = await notes.defer("mail", "a", delay=0.1)
        await reached(app, handle, JobState.READY)
        await asleep(database)
        assert [] == notes.started
        await app.queues.resume("mail")
        await notes.runs("a")


async def test_suspects_of_a_paused_queue_are_not_claimed(database: str) -> None:
    """S2-01, A4: a job whose worker has died is held back by the pause as well, and does not block other suspects."""
    app = new_app(database)
    notes = Notes(app)
    async with app:
        await app.queues.pause("mail")
        held, other = await notes.defer("mail", "held"), await notes.defer("other", "other")
        async with connect(database) as connection:
            await connection.execute("update jobqueue.job set crashes = 1")
        async with app.worker():
            await other.result(timeout=PATIENCE)
            await asleep(database)
            assert JobState.READY is await held.status()
            assert ["other"] == notes.started
            await app.queues.resume("mail")
            await seen(held)


async def test_a_burst_ends_in_front_of_a_paused_queue(database: str) -> None:
    """S2-01: a run until nothing is left does not wait for what is paused."""
    app = new_app(database)
    notes = Notes(app)
    async with app:
        await app.queues.pause("mail")
        await notes.defer("mail", "held")
        await notes.defer("other", "other")
        async with asyncio.timeout(PATIENCE):
            await app.run_until_idle()
    assert ["other"] == notes.started
    assert 1 == await counted(database)


async def test_a_pause_ends_for_workers_that_only_poll(database: str) -> None:
    """S2-01: behind a pooler nobody is notified: the queue is served again by the next poll at the latest."""
    app = new_app(database, pooler="transaction", poll=0.3)
    notes = Notes(app)
    async with app, app.worker():
        await app.queues.pause("mail", until=await now_of(database) + timedelta(seconds=0.3))
        await notes.defer("mail", "a")
        await notes.runs("a")
