"""Running jobs are asked to end, from anywhere: they do, at once, once, and what they have reached counts."""

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from jobqueue.base.errors import JobCancelled
from jobqueue.base.job import Job, JobState
from jobqueue.base.outcome import Fatal, Retry, Snooze
from jobqueue.base.retry import steps
from jobqueue.base.steering import Change
from jobqueue.store import claims
from jobqueue.store.schema.statements import channel
from jobqueue.tasks.context import JobContext
from tests.support.jobs.beating import QUICK, worker_elsewhere
from tests.support.jobs.deaths import SILENT, left_running, worker_row
from tests.support.jobs.store import connect
from tests.support.jobs.working import archived, counted, end_of, new_app, reached
from tests.support.patience import PATIENCE, scaled
from tests.support.waiting import wait_until


def events(caplog: pytest.LogCaptureFixture, name: str) -> list[str]:
    """The log lines of an event."""
    return [record.getMessage() for record in caplog.records if name in record.getMessage()]


async def test_a_running_job_is_ended_from_another_loop(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """S2-09: cancelled from another app while a worker in another thread runs it: within a second it has cleaned up."""
    caplog.set_level(logging.INFO)
    began, cleaned = threading.Event(), threading.Event()

    async def sleeps() -> None:
        try:
            began.set()
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
            cleaned.set()

    app = new_app(database)
    async with app, worker_elsewhere(database, sleeps):
        handle = await app.task(sleeps).defer()
        await wait_until(began.is_set, "it runs")
        waiting = asyncio.create_task(handle.result(timeout=PATIENCE))
        async with asyncio.timeout(PATIENCE):
            assert Change.ASKED is await handle.cancel()
            job = await end_of(app, handle)
            with pytest.raises(JobCancelled, match="requested"):
                await waiting
        assert Change.TOO_LATE is await handle.cancel()

    assert cleaned.is_set()
    assert (JobState.CANCELLED, "requested", 1, ()) == (job.state, job.reason, job.attempt, job.errors)
    assert 1 == len(events(caplog, "job.cancelled"))


async def test_a_thread_learns_of_it(database: str) -> None:
    """S2-09: a sync task in its thread sees `ctx.cancelled`; its slot is free only when it has returned."""
    began, saw = threading.Event(), threading.Event()
    app = new_app(database)

    @app.task
    def work(ctx: JobContext) -> None:
        began.set()
        for _ in range(2_000):
            if ctx.cancelled:
                saw.set()
                raise InterruptedError
            threading.Event().wait(0.005)

    async with app, app.worker(concurrency=1):
        handle = await work.defer()
        await wait_until(began.is_set, "it runs")
        assert Change.ASKED is await handle.cancel()
        job = await end_of(app, handle)
        await wait_until(saw.is_set, "the thread has seen it")
    assert (JobState.CANCELLED, "requested") == (job.state, job.reason)


def raise_it(error: BaseException) -> None:
    raise error


ENDINGS: dict[str, tuple[Callable[[], object], JobState, str | None]] = {
    "value": (lambda: 7, JobState.COMPLETED, None),
    "retry": (lambda: raise_it(Retry(delay=0.0)), JobState.CANCELLED, "requested"),
    "snooze": (lambda: raise_it(Snooze(0.0)), JobState.CANCELLED, "requested"),
    "error": (lambda: raise_it(OSError("broken")), JobState.CANCELLED, "requested"),
    "fatal": (lambda: raise_it(Fatal("broken")), JobState.CANCELLED, "requested"),
}


@pytest.mark.parametrize("ending", list(ENDINGS))
async def test_what_the_handler_reaches_in_spite_of_it(database: str, ending: str) -> None:
    """S2-09, C: a value that is returned in spite of the cancel counts; whatever else the handler does ends the job."""
    began, runs = asyncio.Event(), list[int]()
    act, state, reason = ENDINGS[ending]
    app = new_app(database)

    @app.task(retry=steps(0))
    async def work(ctx: JobContext) -> Any:
        runs.append(ctx.attempt)
        began.set()
        try:
            await anyio.sleep_forever()
        except asyncio.CancelledError:
            return act()

    async with app, app.worker():
        handle = await work.defer()
        await began.wait()
        assert Change.ASKED is await handle.cancel()
        job = await end_of(app, handle)
        assert 0 == await counted(database)

    assert ([1], state, reason) == (runs, job.state, job.reason)


@pytest.mark.parametrize("ending", ["retry", "snooze", "error"])
async def test_a_job_that_fails_before_it_hears_of_it_ends(database: str, ending: str) -> None:
    """S2-09: the request has committed, its hint was not heard yet, the handler fails by itself: no further run."""
    began, may_end, runs = asyncio.Event(), asyncio.Event(), list[int]()
    app = new_app(database, pooler="transaction", poll=0.2)  # no listener

    @app.task(retry=steps(0))
    async def work(ctx: JobContext) -> Any:
        runs.append(ctx.attempt)
        began.set()
        await may_end.wait()
        return ENDINGS[ending][0]()

    async with app, app.worker():
        handle = await work.defer()
        await began.wait()
        assert Change.ASKED is await handle.cancel()
        may_end.set()
        job = await end_of(app, handle)

    assert ([1], JobState.CANCELLED, "requested") == (runs, job.state, job.reason)


async def test_a_job_claimed_ahead_never_starts(database: str) -> None:
    """S2-08: a claimed job that waits for its slot is cancelled at once, though another one holds the slot."""
    began, may_end, ran = asyncio.Event(), asyncio.Event(), list[int]()
    app = new_app(database, prefetch=5)

    @app.task
    async def work(number: int) -> None:
        ran.append(number)
        began.set()
        await may_end.wait()

    async with app:
        first, second = await app.defer_many([work.job(1), work.job(2)])
        async with app.worker(concurrency=1) as worker:
            await began.wait()
            await reached(app, second, JobState.RUNNING)
            assert Change.ASKED is await second.cancel()
            job = await end_of(app, second, scaled(2))
            assert 1 == worker.snapshot().running
            may_end.set()
            await first.result(timeout=PATIENCE)

    assert ([1], JobState.CANCELLED, "requested") == (ran, job.state, job.reason)


@pytest.mark.parametrize("how", ["pooler", "no hint"])
async def test_a_hint_that_is_lost_comes_with_the_beat(database: str, how: str) -> None:
    """S2-09, C: with no listener, or none at that moment, the worker learns of the request from its beat's answer."""
    began, cleaned = asyncio.Event(), list[int]()
    knobs: dict[str, Any] = {"pooler": "transaction", "poll": 0.2} if how == "pooler" else {}
    app, other = new_app(database, **QUICK, **knobs), new_app(database)

    @app.task
    async def work() -> None:
        try:
            began.set()
            await anyio.sleep_forever()
        finally:
            cleaned.append(1)

    async with app, other, app.worker() as worker:
        handle = await work.defer()
        await began.wait()
        if how != "pooler":
            async with connect(database) as connection:  # asked for without a word to anybody
                await connection.execute("update jobqueue.job set cancel_asked = now()")
        else:
            assert not worker.snapshot().listening
            assert [Change.ASKED] == list((await other.jobs.cancel(handle.id)).each.values())
        job = await end_of(app, handle, scaled(3))

    assert ([1], JobState.CANCELLED, "requested") == (cleaned, job.state, job.reason)


async def test_further_beats_do_not_cut_the_clean_up(database: str) -> None:
    """S2-44: asked again by every beat and by a second cancel, a handler is cancelled once: its clean-up ends."""
    began, cleaning, may_end, cuts = asyncio.Event(), asyncio.Event(), asyncio.Event(), list[int]()
    app = new_app(database, **QUICK)

    @app.task
    async def work() -> None:
        try:
            began.set()
            await anyio.sleep_forever()
        finally:
            try:
                cleaning.set()
                await may_end.wait()
            except asyncio.CancelledError:
                cuts.append(1)
                raise

    async with app, app.worker():
        handle = await work.defer()
        await began.wait()
        await handle.cancel()
        await cleaning.wait()
        assert Change.ASKED is await handle.cancel()
        async with connect(database) as connection:
            lease = await connection.fetchval("select lease_until from jobqueue.job")

            async def renewed_twice() -> bool:
                later = "select lease_until > $1::timestamptz + interval '0.7 s' from jobqueue.job"
                return bool(await connection.fetchval(later, lease))

            await wait_until(renewed_twice, "beats have passed")
        may_end.set()
        job = await end_of(app, handle)

    assert ([], JobState.CANCELLED) == (cuts, job.state)


async def test_a_cancel_during_the_retry_policy(database: str) -> None:
    """S2-09: the handler has failed, its policy still thinks: the job is cancelled, neither dead nor run again."""
    thinking, runs = asyncio.Event(), list[int]()
    app = new_app(database)

    async def policy(job: Job, error: BaseException) -> float:
        thinking.set()
        await anyio.sleep_forever()
        return 0.0

    @app.task(retry=policy)
    async def work() -> None:
        runs.append(1)
        raise OSError("broken")

    async with app, app.worker():
        handle = await work.defer()
        await thinking.wait()
        assert Change.ASKED is await handle.cancel()
        job = await end_of(app, handle)

    assert ([1], JobState.CANCELLED, "requested") == (runs, job.state, job.reason)


@pytest.mark.parametrize("crashed", [True, False])
async def test_the_rescue_ends_what_was_asked_to_end(
    database: str, crashed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """S2-09, S2-30: asked to end, then its worker dies: whoever takes it back ends it and tells of it once."""
    caplog.set_level(logging.INFO)
    runs: list[int] = []
    app = new_app(database, **QUICK)

    @app.task
    async def work() -> None:
        runs.append(1)

    async with app:
        handle = await work.defer()
        await left_running(database, [handle.id], await worker_row(database, SILENT), lease=60.0, started=crashed)
        assert Change.ASKED is await handle.cancel()
        async with connect(database) as connection:
            await connection.execute("update jobqueue.job set lease_until = now() - interval '1 s'")
        async with app.worker() as worker:
            job = await end_of(app, handle)
            assert 1 == await archived(database, "cancelled")
            await wait_until(lambda: worker.snapshot().rescued, "it is counted")

    assert ([], JobState.CANCELLED, "requested") == (runs, job.state, job.reason)
    assert 1 == len(events(caplog, "job.cancelled"))
    assert [] == events(caplog, "job.rescued")


async def test_a_drain_cuts_off_a_job_that_was_asked_to_end(database: str) -> None:
    """S2-09, S1-16: what the end of a drain would give back is cancelled instead, and stays so."""
    began, runs = asyncio.Event(), list[int]()
    app = new_app(database, pooler="transaction", poll=0.2)  # only the outcome's own statement knows of the request

    @app.task
    async def work() -> None:
        runs.append(1)
        began.set()
        await anyio.sleep_forever()

    async with app:
        async with app.worker() as worker:
            handle = await work.defer()
            await began.wait()
            assert Change.ASKED is await handle.cancel()
            with pytest.raises(TimeoutError):
                await worker.drain(0.05)
        job = await app.jobs.get(handle.id)
        await app.run_until_idle()

    assert ([1], JobState.CANCELLED, "requested") == (runs, job.state, job.reason)


async def test_a_hint_of_rubbish_harms_nobody(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """S2-09: whatever somebody says on the channel: no error in the log, and the next request is heard."""
    began = asyncio.Event()
    app = new_app(database)

    @app.task
    async def work() -> None:
        began.set()
        await anyio.sleep_forever()

    async with app, app.worker():
        handle = await work.defer()
        await began.wait()
        async with connect(database) as connection:
            for rubbish in ("c:", "c:rubbish", "c:é", "", "x:1"):
                await connection.execute("select pg_notify($1, $2)", channel("jobqueue", "wake"), rubbish)
        await handle.cancel()
        job = await end_of(app, handle, scaled(2))

    assert JobState.CANCELLED is job.state
    assert [] == [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_request_that_overtakes_the_claims_answer_is_heard(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S2-09: heard of before the claim's answer has come, a cancel is kept: the job that comes with it never starts."""
    ran, heard = list[int](), list[str]()
    app, other = new_app(database), new_app(database)
    claim = claims.claim

    async def slow_claim(*values: Any, **said: Any) -> Any:
        rows = await claim(*values, **said)
        for row in rows:
            assert Change.ASKED is await other.sender.cancel(row["id"])
            await wait_until(lambda row=row: f"c:{row['fence']}" in heard, "everybody has heard of it")
            await other.jobs.counts()
        return rows

    monkeypatch.setattr("jobqueue.store.claims.claim", slow_claim)

    @app.task
    async def work() -> None:
        ran.append(1)
        await anyio.sleep_forever()

    async with app, other, connect(database) as connection:
        await connection.add_listener(channel("jobqueue", "wake"), lambda *said: heard.append(str(said[-1])))
        async with app.worker():
            handle = await work.defer()
            job = await end_of(app, handle, scaled(2))

    assert ([], JobState.CANCELLED, "requested") == (ran, job.state, job.reason)
