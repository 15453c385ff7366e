"""Waiting for a job's end: told at once, in whatever order the two meet, and nothing is left of the wait."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from jobqueue.app import App
from jobqueue.base.errors import ResultTimeout
from jobqueue.base.job import Job, JobState, NewJob
from jobqueue.base.outcome import Done
from jobqueue.store.connection.session import Session
from jobqueue.store.intake import insert_all
from jobqueue.store.outcomes import Ended
from jobqueue.tasks.context import JobContext
from jobqueue.tasks.sending import waiting as waiting_module
from jobqueue.tasks.sending.waiting import Waiters
from tests.support.jobs.store import claim, connect, ended, new_job, new_jobs, open_database, open_sessions, write
from tests.support.jobs.working import asked
from tests.support.patience import NEVER, PATIENCE, scaled, stretched
from tests.support.postgres.backends import AWAITS_RESULTS, LISTENS, backends, becomes, change, terminate
from tests.support.postgres.proxy import proxied
from tests.support.waiting import wait_until


@asynccontextmanager
async def waiters(dsn: str, *, listens: bool = True) -> AsyncIterator[Waiters]:
    async with open_database(dsn, max_size=4) as database:
        waiting = Waiters(database, listens=listens)
        try:
            yield waiting
        finally:
            await waiting.close()


# What the wait costs, and what it leaves.


async def test_an_ended_job_is_answered_without_listening(database: str) -> None:
    """The result of a job that has ended is read at once: nothing starts to listen, no task is left."""
    app = App(database)

    @app.task
    async def note() -> int:
        return 1

    handle = await note.defer()
    await app.run_until_idle()
    before = asyncio.all_tasks()

    result = asyncio.create_task(handle.result(timeout=PATIENCE))
    watches: set[object] = set()
    while not result.done():
        (place,) = app._opening._producers._places.values()
        watches.add(place.value and place.value._waiters._watch)
        await asyncio.sleep(0)

    assert ({None}, 1, before) == (watches, result.result(), asyncio.all_tasks())
    assert [] == await backends(database, LISTENS)
    await app.close()


@pytest.mark.parametrize("how", ["cancel", "timeout", "several"])
async def test_a_wait_that_is_given_up_leaves_nothing(how: str, database: str) -> None:
    """After the last waiter has gone, cancelled or timed out, there is no task and no listening connection."""
    async with App(database) as app:

        @app.task
        async def note() -> None: ...

        handles = [await note.options(delay=3600).defer() for _ in range(3)]
        before = asyncio.all_tasks()
        waiting = [asyncio.create_task(handle.result(stretched(2) if how == "timeout" else None)) for handle in handles]
        await becomes(database, 1, AWAITS_RESULTS)
        if how == "several":
            waiting[0].cancel()
            await asyncio.wait({waiting[0]})
            assert 1 == len(await backends(database, AWAITS_RESULTS)), "the others still wait"
        if how != "timeout":
            for wait in waiting:
                wait.cancel()
        answers = await asyncio.gather(*waiting, return_exceptions=True)

        assert {ResultTimeout if how == "timeout" else asyncio.CancelledError} == {type(answer) for answer in answers}
        assert before == asyncio.all_tasks()
        await becomes(database, 0, AWAITS_RESULTS)
        assert JobState.SCHEDULED is await handles[0].status(), "the job is left alone"


async def test_many_waiters_share_one_connection(database: str) -> None:
    """200 waiters share one listening connection and get 200 results, each its own."""
    async with App(database) as app:

        @app.task
        async def double(number: int) -> int:
            return 2 * number

        handles = await double.options(delay=0.5).defer_many(range(200))
        waiting = [asyncio.create_task(handle.result(timeout=PATIENCE)) for handle in handles]
        await becomes(database, 1, AWAITS_RESULTS)
        async with app.worker():
            results = await asyncio.gather(*waiting)

        assert [2 * number for number in range(200)] == results
        await becomes(database, 0, AWAITS_RESULTS)


async def test_several_waiters_for_one_job(database: str) -> None:
    """However many wait for the same job, each is told."""
    async with App(database) as app:

        @app.task
        async def note() -> str:
            return "yes"

        handle = await note.options(delay=0.2).defer()
        waiting = [asyncio.create_task(note.handle(handle.id).result(timeout=PATIENCE)) for _ in range(20)]
        async with app.worker():
            assert ["yes"] * 20 == await asyncio.gather(*waiting)


# Told in time.


class Bench:
    """Jobs that are running, a wait for one, and its end at a moment of the test's choosing."""

    def __init__(self, waiting: Waiters, session: Session) -> None:
        self.waiting = waiting
        self.session = session

    async def running(self, count: int) -> list[Ended]:
        """New jobs, claimed; what it takes to end each."""
        await insert_all(self.session, new_jobs(count), always=True)
        rows = await claim(self.session, count)
        return [ended(row, Done('"value"')) for row in rows]

    async def end(self, job: Ended) -> None:
        while not await write(self.session, [job]):  # a waiter has the row locked, to mark it
            pass


@pytest.fixture
def told_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither looks of the waiter's own nor the poll find anything, so that they hide no notification that was lost."""

    async def find_none(database: object, ids: object) -> set[UUID]:
        return set()

    async def not_gone(database: object, id: UUID) -> bool:
        return False

    monkeypatch.setattr(waiting_module, "gone_jobs", find_none)
    monkeypatch.setattr(waiting_module, "is_gone", not_gone)
    monkeypatch.setattr(waiting_module, "_LOOKERS", 0)


@pytest.mark.usefixtures("told_only")
async def test_a_wait_meets_the_end_at_any_moment(database: str) -> None:
    """500 waits begin around the end of their job, in either order: each is told, and at once, without the poll."""
    chance = random.Random(3)  # noqa: S311 - the same moments each time
    slow: list[float] = []
    async with waiters(database) as waiting, open_sessions(database, 1) as (session,):
        bench = Bench(waiting, session)
        keeper = await held_wait(database, waiting, session)
        await bench.end((await bench.running(1))[0])
        for job in await bench.running(500):
            gap = chance.uniform(-0.003, 0.003)
            wait = asyncio.create_task(after(max(0.0, gap), waiting.final(job.id)))
            await after(max(0.0, -gap), bench.end(job))
            written = time.monotonic()
            async with asyncio.timeout(PATIENCE):
                assert job.id == (await wait).id
            slow.append(time.monotonic() - written)
        keeper.cancel()
        await asyncio.wait({keeper})

    late = [round(seconds, 3) for seconds in slow if seconds > scaled(2)]
    assert [] == late, f"{len(late)} of 500 were told late; the median is {sorted(slow)[250] * 1000:.1f} ms"


async def held_wait(dsn: str, waiting: Waiters, session: Session) -> "asyncio.Task[Job]":
    """A wait for a job that does not end: keeps the listening connection open."""
    (sent,) = await insert_all(session, [new_job(delay=3600.0)], always=True)
    keeper = asyncio.create_task(waiting.final(sent.id))
    await becomes(dsn, 1, AWAITS_RESULTS)
    return keeper


async def after(seconds: float, step: Any) -> Any:
    """Take a step a little later, at a random moment around another's: there is no signal to wait for."""
    await asyncio.wait({asyncio.get_running_loop().create_future()}, timeout=seconds)
    return await step


@pytest.mark.usefixtures("told_only")
async def test_the_end_that_is_heard_before_the_look_is_answered(database: str) -> None:
    """A notification that comes while the waiter still looks is not forgotten: the next look is at once."""
    async with waiters(database) as waiting, open_sessions(database, 1) as (session,):
        bench = Bench(waiting, session)
        (job,) = await bench.running(1)
        looks = 0
        look = waiting._look

        async def slow_look(id: UUID) -> Job | None:
            nonlocal looks
            found = await look(id)
            if looks == 0:
                await bench.end(job)  # the waiter is marked by now, and the answer is still on its way
                waiting._tell({job.id})
            looks += 1
            return found

        waiting._look = slow_look  # type: ignore[method-assign]  # the moment between two steps has no other handle
        async with asyncio.timeout(PATIENCE):
            assert job.id == (await waiting.final(job.id)).id

    assert 2 == looks


@pytest.mark.parametrize("listens", [True, False], ids=["listening", "polling"])
async def test_a_lost_notification_costs_a_second(listens: bool, database: str) -> None:
    """Without a notification, lost or never sent, the poll finds the end within about a second."""
    async with waiters(database, listens=listens) as waiting, open_sessions(database, 1) as (session,):
        bench = Bench(waiting, session)
        (job,) = await bench.running(1)
        wait = asyncio.create_task(waiting.final(job.id))
        if listens:
            await becomes(database, 1, AWAITS_RESULTS)
        async with connect(database) as connection:
            await connection.execute("update jobqueue.job set awaited = false")  # so that nobody notifies
        await bench.end(job)
        started = time.monotonic()
        assert JobState.COMPLETED is (await wait).state

    assert time.monotonic() - started < 1 + scaled(2)


async def test_a_newcomer_is_not_left_to_a_slow_poll(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody listens, a wait that joins a long one begins with quick polls like the first."""
    monkeypatch.setattr(waiting_module, "_LOOKERS", 0)
    monkeypatch.setattr(waiting_module, "_POLL_FIRST", NEVER)
    async with waiters(database, listens=False) as waiting, open_sessions(database, 1) as (session,):
        bench = Bench(waiting, session)
        (sent,) = await insert_all(session, [new_job(delay=3600.0)], always=True)
        keeper = asyncio.create_task(waiting.final(sent.id))
        await wait_until(lambda: waiting._watch is not None, "somebody waits")
        monkeypatch.setattr(waiting_module, "_POLL_FIRST", 0.05)
        (job,) = await bench.running(1)
        wait = asyncio.create_task(waiting.final(job.id))
        await marked(database, 2)
        await bench.end(job)
        async with asyncio.timeout(PATIENCE):
            assert job.id == (await wait).id
        keeper.cancel()
        await asyncio.wait({keeper})


async def test_the_listening_connection_is_replaced(database: str) -> None:
    """The listening backend is terminated: a job that ends meanwhile is found, and the next one is heard of again."""
    async with waiters(database) as waiting, open_sessions(database, 1) as (session,):
        bench = Bench(waiting, session)
        keeper = await held_wait(database, waiting, session)
        first, second = await bench.running(2)
        wait = asyncio.create_task(waiting.final(first.id))
        await becomes(database, 1, AWAITS_RESULTS)
        assert 1 == await terminate(database, AWAITS_RESULTS)
        await bench.end(first)
        started = time.monotonic()
        await wait
        assert time.monotonic() - started < 1 + scaled(2)
        await becomes(database, 1, AWAITS_RESULTS)
        wait = asyncio.create_task(waiting.final(second.id))
        await wait_until(lambda: second.id in waiting._waiting, "it waits")
        await bench.end(second)
        await wait
        keeper.cancel()
        await asyncio.wait({keeper})


async def test_the_database_may_be_away_for_a_while(database: str) -> None:
    """Every connection is terminated while jobs are waited for: the waits go on and end with their jobs."""
    async with waiters(database) as waiting:
        async with open_sessions(database, 1) as (session,):
            jobs = await Bench(waiting, session).running(5)
        waits = [asyncio.create_task(waiting.final(job.id)) for job in jobs]
        await becomes(database, 1, AWAITS_RESULTS)
        await terminate(database)
        async with open_sessions(database, 1) as (session,):
            for job in jobs:
                await Bench(waiting, session).end(job)

        assert [job.id for job in jobs] == [job.id for job in await asyncio.gather(*waits)]


async def test_a_wait_may_begin_while_the_database_is_away(database: str) -> None:
    """A wait that begins while no connection can be had asks on until the database is back."""
    async with proxied(database) as proxy, waiters(proxy.dsn) as waiting, open_sessions(database, 1) as (session,):
        bench = Bench(waiting, session)
        (job,) = await bench.running(1)
        proxy.break_all()
        wait = asyncio.create_task(waiting.final(job.id))
        await wait_until(lambda: proxy.turned_away >= 2, "it has asked again")
        assert not wait.done()
        proxy.let_pass()
        await bench.end(job)

        assert job.id == (await wait).id


async def test_a_task_may_wait_for_another_job(database: str) -> None:
    """A task waits for the result of a job it defers, on the same app and worker."""
    async with App(database) as app:

        @app.task
        async def inner(number: int) -> int:
            return number + 1

        @app.task
        async def outer(ctx: JobContext, number: int) -> int:
            return await (await inner.defer(number)).result(timeout=PATIENCE) * 10

        handle = await outer.defer(1)
        async with app.worker(concurrency=2):
            assert 20 == await handle.result(timeout=PATIENCE)


async def test_a_timeout_holds_for_the_first_use_too(database: str) -> None:
    """result(timeout=) is all the time it takes, connecting included."""
    async with connect(database) as connection, connection.transaction():
        await connection.execute("lock table jobqueue.migration in access exclusive mode")
        app = App(database)

        @app.task
        async def note() -> None: ...

        started = time.monotonic()
        with pytest.raises(TimeoutError):
            await note.handle(uuid7()).result(timeout=0.2)
        assert time.monotonic() - started < scaled(3)
    await app.close()


async def test_a_job_that_ends_in_a_moment_is_not_even_marked(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait first looks a few times: for a quick job nothing is written, and nobody listens."""
    monkeypatch.setattr(waiting_module, "_LOOKS", (0.01,) * 300)
    async with waiters(database) as waiting, open_sessions(database, 1) as (session,):
        bench = Bench(waiting, session)
        (job,) = await bench.running(1)
        await change(database, NO_MARKS)
        wait = asyncio.create_task(waiting.final(job.id))
        await wait_until(lambda: job.id in waiting._waiting, "it waits")
        await bench.end(job)
        assert job.id == (await wait).id
        assert waiting._watch is None


NO_MARKS = "alter table jobqueue.job add constraint no_marks check (not awaited)"


async def marked(dsn: str, count: int) -> None:
    async def are() -> bool:
        return bool(count == await asked(dsn, "select count(*) from jobqueue.job where awaited"))

    await wait_until(are, f"{count} jobs are marked as awaited")


async def test_a_crowd_of_waiters_does_not_look_one_by_one(database: str) -> None:
    """More than twenty waiters at once are all marked after one look: they share the poll and the notifications."""
    async with waiters(database) as waiting, open_sessions(database, 1) as (session,):
        sent = await insert_all(session, [new_job(delay=3600.0) for _ in range(40)], always=True)
        waits = [asyncio.create_task(waiting.final(job.id)) for job in sent]
        await marked(database, 40)
        for wait in waits:
            wait.cancel()
        await asyncio.wait(waits)
        assert {} == waiting._waiting


async def test_waiting_marks_the_job(database: str) -> None:
    """Only a job that somebody waits for notifies at its end."""
    async with App(database) as app:
        jobs: list[NewJob[Any]] = [new_job(delay=3600.0), new_job(delay=3600.0)]
        handles = await app.defer_many(jobs)
        waiting = asyncio.create_task(handles[0].result())
        await becomes(database, 1, AWAITS_RESULTS)
        found = await asked(database, "select array_agg(id) from jobqueue.job where awaited")
        waiting.cancel()
        await asyncio.wait({waiting})

    assert [handles[0].id] == found
