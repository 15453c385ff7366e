"""A claim that cannot be kept is given up here before others may take it: its run is cancelled, and no other."""

import asyncio
import json
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import anyio
import pytest
from uuid_utils.compat import uuid7

from jobqueue.base.job import JobState
from jobqueue.tasks.context import JobContext
from tests.support.jobs.beating import QUICK
from tests.support.jobs.deaths import take_away
from tests.support.jobs.store import connect
from tests.support.jobs.working import asked, counted, end_of, new_app
from tests.support.patience import NEVER, PATIENCE, stretched
from tests.support.postgres.backends import terminate
from tests.support.postgres.proxy import proxied
from tests.support.waiting import wait_until

SLOW: dict[str, Any] = {"lease": stretched(3.0), "beat": stretched(1.0), "rescue_interval": NEVER}
"""Leaves a second between the moment when a claim is given up and its end."""


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What threads wait for; opened at the end whatever happens, so that none outlives its test."""
    event = threading.Event()
    yield event
    event.set()


async def test_a_claim_that_another_has_is_cancelled_alone(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """S1-26, S4-69, reliability A3: a run whose claim was taken over ends at the next beat; its batch goes on."""
    app = new_app(database, **QUICK)
    release = asyncio.Event()
    cleaned: list[int] = []
    ran: list[int] = []

    @app.task
    async def work(number: int) -> int:
        ran.append(number)
        try:
            await release.wait()
        except asyncio.CancelledError:
            await anyio.lowlevel.checkpoint()
            cleaned.append(number)
            raise
        return number

    async with app, app.worker(concurrency=3) as worker:
        handles = await app.defer_many([work.job(number) for number in range(3)])
        await wait_until(lambda: len(ran) == 3, "all run")
        await take_away(database, handles[1].id)
        await wait_until(lambda: cleaned, "one is cancelled")
        await wait_until(lambda: worker.snapshot().running == 2, "its slot is free")
        release.set()
        assert [0, 2] == [await handles[place].result(timeout=PATIENCE) for place in (0, 2)]
        assert JobState.RUNNING is await handles[1].status(), "it is the other's"
        assert 0 == worker.snapshot().refused

    assert [1] == cleaned
    lines = [line for line in caplog.text.splitlines() if "job.lost" in line]
    assert 1 == len(lines)
    assert str(handles[1].id) in lines[0]
    assert "gone=True" in lines[0]


async def test_a_claim_lost_ahead_never_starts(database: str) -> None:
    """A job that waits for a slot, and that another has taken over meanwhile, is not run here."""
    app = new_app(database, prefetch=2, **QUICK)
    release = asyncio.Event()
    ran: list[int] = []

    @app.task
    async def work(number: int) -> int:
        ran.append(number)
        await release.wait()
        return number

    async with app:
        handles = await app.defer_many([work.job(number) for number in range(3)])
        async with app.worker(concurrency=1) as worker:
            await wait_until(lambda: counted_is(database, 3), "all are claimed")
            await take_away(database, handles[1].id)
            await wait_until(lambda: worker.snapshot().ahead == 1, "the claim is given up")
            release.set()
            assert [0, 2] == [await handles[place].result(timeout=PATIENCE) for place in (0, 2)]
    assert [0, 2] == ran


async def counted_is(dsn: str, running: int) -> bool:
    return await counted(dsn, "state = 'running'") == running


@pytest.mark.parametrize("fault", ["silent", "refused"])
async def test_runs_are_cancelled_before_their_lease_ends(
    database: str, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Reliability A3: cut off from the database, a worker cancels what runs while nobody else may have taken it over.

    Once the database is back the jobs run again; the cut-off runs cost no attempt, and nobody has crashed.
    """
    cancelled: list[float] = []
    began: list[int] = []

    async with proxied(database) as proxy:
        far = new_app(proxy.dsn, **SLOW)

        @far.task
        async def work(ctx: JobContext, number: int) -> int:
            began.append(number)
            if len(began) > 5:
                return ctx.attempt
            try:
                await anyio.sleep_forever()
            except asyncio.CancelledError:
                cancelled.append(time.time())
                raise
            raise AssertionError

        async with far, far.worker(concurrency=5):
            handles = await far.defer_many([work.job(number) for number in range(5)])
            await wait_until(lambda: len(began) == 5, "all run")
            if fault == "silent":
                proxy.stall()
            else:
                proxy.break_all()
            await wait_until(lambda: len(cancelled) == 5, "all are cancelled")
            first_end = await asked(database, "select extract(epoch from min(lease_until))::float from jobqueue.job")
            await wait_until(lambda: over(database), "every lease is over")
            proxy.let_pass()
            assert [1] * 5 == [await handle.result(timeout=PATIENCE) for handle in handles]
            jobs = [await far.jobs.get(handle.id) for handle in handles]

    assert max(cancelled) < first_end
    assert 10 == len(began)
    assert 5 == caplog.text.count("event='job.lost'")
    assert [(0, ())] * 5 == [(job.crashes, job.errors) for job in jobs]


async def over(dsn: str) -> bool:
    return await counted(dsn, "lease_until > clock_timestamp()") == 0


async def test_a_short_silence_is_no_loss(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """A network that is silent for less than a lease costs nothing: the runs go on."""
    async with proxied(database) as proxy:
        far = new_app(proxy.dsn, **SLOW)
        release = asyncio.Event()
        began: list[int] = []

        @far.task
        async def work() -> str:
            began.append(1)
            await release.wait()
            return "done"

        async with far, far.worker():
            handle = await work.defer()
            await wait_until(lambda: began, "it runs")
            proxy.stall()
            await wait_until(lambda: "doing='beat'" in caplog.text, "a beat has failed")
            proxy.let_pass()
            lease = await asked(database, "select lease_until from jobqueue.job")
            await wait_until(lambda: renewed(database, lease), "it is renewed")
            release.set()
            assert "done" == await handle.result(timeout=PATIENCE)
    assert [1] == began
    assert "job.lost" not in caplog.text


async def renewed(dsn: str, lease: object) -> bool:
    return bool(await asked(dsn, "select lease_until > $1 from jobqueue.job", lease))


async def test_a_thread_without_its_claim_keeps_its_slot(
    database: str, gate: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    """Reliability A16: a sync task cannot be cancelled: its slot is taken until it returns.

    It is told so, by `ctx.cancelled`, and the log says it once, not at every beat.
    """
    app = new_app(database, **QUICK)
    began: list[bool] = []
    told: list[bool] = []
    ran: list[int] = []

    @app.task
    def threaded(ctx: JobContext) -> None:
        began.append(ctx.cancelled)
        gate.wait(PATIENCE)
        told.append(ctx.cancelled)

    @app.task
    async def quick() -> None:
        ran.append(1)

    async with app, app.worker(concurrency=1) as worker:
        handle = await threaded.defer()
        await wait_until(lambda: began, "the thread runs")
        await take_away(database, handle.id)
        await wait_until(lambda: "job.lost" in caplog.text, "the loss is noticed")
        waiting = await quick.defer()
        await beats(database, 3)
        assert (1, [], JobState.READY) == (worker.snapshot().running, ran, await waiting.status())
        gate.set()
        await end_of(app, waiting)
        assert JobState.RUNNING is await handle.status(), "it is the other's"

    assert ([False], [True]) == (began, told)
    assert 1 == caplog.text.count("event='job.lost'")


async def beats(dsn: str, count: int) -> None:
    """Return once the one worker has beaten so often."""
    seen: set[object] = set()

    async def often_enough() -> bool:
        seen.add(await asked(dsn, "select seen_at from jobqueue.worker"))
        return len(seen) > count

    await wait_until(often_enough, f"{count} beats")


async def test_who_was_taken_for_dead_takes_the_crash_back(database: str) -> None:
    """Protocols A4: a worker that was only frozen, and finds its job taken back as crashed, says that it lives.

    The job is no suspect then; crashes of others, and other errors, stay in its story.
    """
    app = new_app(database, **QUICK)
    began: list[str] = []

    @app.task
    async def work(name: str) -> None:
        began.append(name)
        await anyio.sleep_forever()

    async with app, app.worker() as worker:
        ours, others = await app.defer_many([work.job("ours"), work.job("another's")])
        await wait_until(lambda: len(began) == 2, "both run")
        for handle, blamed in ((ours, worker.id), (others, uuid7())):
            await rescued(database, handle.id, blamed)
        await beats(database, 2)
        await wait_until(lambda: worker.snapshot().running == 0, "both are cancelled")
        jobs = [await app.jobs.get(handle.id) for handle in (ours, others)]
    assert [(1, 1, 1), (2, 0, 2)] == [(job.crashes, job.lost, len(job.errors)) for job in jobs]


async def rescued(dsn: str, id: UUID, blamed: UUID) -> None:
    """Take a job back as a rescuer does that believes its worker dead; it has crashed once before."""
    story = [{"class": "WorkerCrashed", "message": "", "attempt": 1, "worker": str(each)} for each in (uuid7(), blamed)]
    async with connect(dsn) as connection:
        await connection.execute(
            "update jobqueue.job set state = 'scheduled', due_at = now() + interval '1 h', fence = 0, worker_id = null,"
            " lease_until = null, attempt = 0, crashes = 2, errors = $2::jsonb where id = $1",
            id, json.dumps(story),
        )  # fmt: skip


async def test_a_thread_is_not_given_back_while_it_runs(
    database: str, gate: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    """Protocols A6: given up, but on record still ours, its claim is renewed until the thread ends; its word counts."""
    runs: list[int] = []
    beside: list[int] = []

    async with proxied(database) as proxy:
        far = new_app(proxy.dsn, **SLOW)

        @far.task
        def threaded(ctx: JobContext) -> int:
            runs.append(1)
            beside.append(1)
            first = len(runs) == 1
            if first:
                gate.wait(PATIENCE)
            beside.pop()
            return len(beside)

        async with far, far.worker(concurrency=2) as worker:
            handle = await threaded.defer()
            await wait_until(lambda: runs, "the thread runs")
            proxy.stall()
            await wait_until(lambda: "job.lost" in caplog.text, "the claim is given up")
            proxy.let_pass()
            lease = await asked(database, "select lease_until from jobqueue.job")
            await wait_until(lambda: renewed(database, lease), "the claim is renewed")
            assert (1, JobState.RUNNING) == (worker.snapshot().running, await handle.status())
            gate.set()
            assert 0 == await handle.result(timeout=PATIENCE)
            job = await far.jobs.get(handle.id)
    assert (1, 1, 0, 0) == (len(runs), job.attempt, job.crashes, job.lost)


async def test_jobs_outlive_the_loss_of_every_connection(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """The beat's own connection is replaced like any other: ended again and again, it costs no claim."""
    app = new_app(database, **QUICK)
    caplog.set_level(logging.INFO, "jobqueue")
    release = asyncio.Event()
    began: list[int] = []

    @app.task
    async def work() -> str:
        began.append(1)
        await release.wait()
        return "done"

    async with app, app.worker():
        handle = await work.defer()
        await wait_until(lambda: began, "it runs")
        for _ in range(4):
            before = await asked(database, "select lease_until from jobqueue.job")
            await wait_until(lambda: renewed(database, before), "it is renewed")  # noqa: B023 - used at once
            assert 1 == await terminate(database, "query like 'with alive as%'")
        release.set()
        assert "done" == await handle.result(timeout=PATIENCE)
    assert [1] == began
    assert "job.lost" not in caplog.text
