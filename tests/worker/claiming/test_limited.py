"""A worker with limits: how many run at once, whoever frees a place; and its last look at what it has claimed."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from jobqueue.app import App
from jobqueue.base.job import JobState
from jobqueue.base.outcome import Retry
from jobqueue.store.flows.limits import LimitRow, declare
from jobqueue.tasks.context import JobContext
from jobqueue.tasks.handle import JobHandle
from jobqueue.tasks.task import Task
from jobqueue.worker.slots.last_look import GatesNow
from tests.support.jobs.gates import wrong_with_gates
from tests.support.jobs.store import connect, open_session
from tests.support.jobs.working import all_ended, archived, end_of, new_app, reached
from tests.support.patience import NEVER
from tests.support.waiting import wait_until


class Site:
    """An app whose jobs note how many of a key run at once, and hold on until they are let go."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.app: App = new_app(dsn, poll=NEVER)
        self.running, self.most = Counter[str](), Counter[str]()
        self.go = asyncio.Event()

        async def run(ctx: JobContext, key: str = "a", how: str = "") -> None:
            await self.run(ctx, key, how)

        self.task: Task[..., Any] = self.app.task(run)

    async def run(self, ctx: JobContext, key: str, how: str) -> None:
        self.running[key] += 1
        self.most[key] = max(self.most[key], self.running[key])
        try:
            await self.go.wait()
            await asyncio.sleep(0)
            if how == "fails once" and ctx.attempt == 1:
                raise Retry(delay=0)
            if how == "in transaction":
                async with ctx.transaction():
                    ctx.complete(None)
        finally:
            self.running[key] -= 1

    async def send(self, count: int, *gates: str, key: str = "a", how: str = "") -> list[JobHandle[Any]]:
        """Defer so many jobs with these gates."""
        return await self.app.defer_many([replace(self.task.job(key, how), gates=gates) for _ in range(count)])

    def with_gates(self, gates_now: GatesNow) -> None:
        """Have the last look ask this."""
        self.app.registry.gates_now = gates_now  # type: ignore[method-assign]


@asynccontextmanager
async def site_with(dsn: str, *rows: LimitRow) -> AsyncIterator[Site]:
    """A site with these limits, open."""
    async with open_session(dsn) as session:
        await declare(session, rows, "tests")
    site = Site(dsn)
    async with site.app:
        yield site


@pytest.mark.parametrize("how", ["", "fails once", "in transaction"])
async def test_no_more_run_at_once_than_the_limit(database: str, how: str) -> None:
    """Twenty jobs of a limit of three, beside ten plain ones: three at once, all of them in the end."""
    async with site_with(database, LimitRow("smtp", 3)) as site:
        await site.send(20, "smtp", how=how)
        async with site.app.worker(concurrency=10):
            await wait_until(lambda: site.running["a"] == 3, "three run")
            await site.send(10, key="plain")
            await wait_until(lambda: site.running["plain"] == 7, "the other slots are for others")
            site.go.set()
            await all_ended(database)
        assert 3 == site.most["a"]
        async with connect(database) as connection:
            assert [] == await wrong_with_gates(connection)
    assert 30 == await archived(database)


async def test_who_comes_to_a_free_gate_starts_at_once(database: str) -> None:
    """A job whose limit is free starts without anybody's poll, also after the worker has gone to sleep."""
    async with site_with(database, LimitRow("smtp", 1)) as site:
        site.go.set()
        async with site.app.worker():
            for _ in range(3):
                (handle,) = await site.send(1, "smtp")
                await end_of(site.app, handle)


async def test_a_limit_added_to_a_backlog_holds_at_once(database: str) -> None:
    """Jobs stored without a limit that their task has now line up for it, in their order, and no attempt is spent."""
    async with site_with(database, LimitRow("smtp", 2)) as site:
        handles = await site.send(30)
        site.with_gates(lambda task, queue, args: ("smtp",))
        async with site.app.worker(concurrency=10):
            await wait_until(lambda: site.running["a"] == 2, "two run")
            for handle in handles[2:]:
                assert "smtp" == (await reached(site.app, handle, JobState.BLOCKED)).waits_for
            site.go.set()
            await all_ended(database)
        assert 2 == site.most["a"]
        jobs = [await site.app.sender.find(handle.id) for handle in handles]
        assert {1} == {job.attempt for job in jobs}
        assert sorted(job.claimed_at for job in jobs if job.claimed_at) == [job.claimed_at for job in jobs]


async def test_a_key_that_cannot_be_made_puts_the_job_aside(database: str) -> None:
    """What the user's key function raises does not run the job past its limit, and hurts nobody else."""

    def gates_now(task: str, queue: str, args: str) -> tuple[str, ...] | None:
        if '"bad"' in args:
            raise KeyError(args)
        return None

    async with site_with(database) as site:
        site.go.set()
        bad, good = await site.send(1, key="bad") + await site.send(1, key="good")
        site.with_gates(gates_now)
        async with site.app.worker():
            await end_of(site.app, good)
            assert 0 == (await reached(site.app, bad, JobState.SCHEDULED)).attempt
        assert 0 == site.most["bad"]


async def test_what_is_cancelled_or_moved_in_line_makes_way(database: str) -> None:
    """Jobs that wait at a gate are cancelled, put off, deleted; those behind them go when it is their turn."""
    async with site_with(database, LimitRow("smtp", 1)) as site:
        handles = await site.send(5, "smtp")
        async with site.app.worker():
            await wait_until(lambda: site.running["a"] == 1, "one runs")
            assert [handles[1].id] == (await site.app.jobs.cancel(handles[1].id)).changed
            assert [handles[2].id] == (await site.app.jobs.delete(handles[2].id)).changed
            assert [handles[3].id] == (await site.app.jobs.reschedule(handles[3].id, delay=timedelta(hours=1))).changed
            site.go.set()
            await end_of(site.app, handles[4])
            assert JobState.SCHEDULED is (await site.app.sender.find(handles[3].id)).state
            await site.app.jobs.reschedule(handles[3].id, delay=0)
            await end_of(site.app, handles[3])
        assert 1 == site.most["a"]


async def test_a_burst_ends_only_when_all_have_passed(database: str) -> None:
    """`run_until_idle` runs jobs that wait at gates as well."""
    async with site_with(database, LimitRow("smtp", 1), LimitRow("key", 2)) as site:
        site.go.set()
        await site.send(6, "key\na", "smtp")
        await site.app.run_until_idle()
        assert 6 == await archived(database)
        assert 1 == site.most["a"]


async def test_a_drain_gives_back_what_has_a_place(database: str) -> None:
    """What a stopped worker gives back keeps its place, and the next worker goes on with just as many."""
    async with site_with(database, LimitRow("smtp", 2)) as site:
        await site.send(6, "smtp")
        async with site.app.worker(drain_timeout=0.1):
            await wait_until(lambda: site.running["a"] == 2, "two run")
        async with connect(database) as connection:
            assert [] == await wrong_with_gates(connection)
            assert 2 == await connection.fetchval(
                "select count(*) from jobqueue.job where passed = 1 and state = 'ready'"
            )
        site.go.set()
        async with site.app.worker():
            await all_ended(database)
        assert 2 == site.most["a"]
