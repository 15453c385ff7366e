"""Records of phases: fenced, kept while the database is away or a row is locked, and written before the job's end."""

import asyncio
import threading
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from jobqueue import App, Change, ClaimLost, JobContext, JobState, PhaseState, steps
from jobqueue.base.flows.phase import Record
from jobqueue.store.flows.phases import load_phases, record_phases
from jobqueue.tasks.phases import phases
from tests.support.jobs.beating import BEAT, LEASE, QUIET, outlived
from tests.support.jobs.deaths import take_away
from tests.support.jobs.gate import Gate
from tests.support.jobs.store import WORKER, claim_one, connect, insert, new_job, open_session
from tests.support.jobs.working import asked, end_of, new_app, reached
from tests.support.patience import NEVER
from tests.support.postgres.locks import row_held
from tests.support.postgres.proxy import proxied
from tests.support.waiting import wait_until


def gated(app: App, gate: Gate, errors: list[BaseException] | None = None, **options: Any) -> Any:
    """A task of one phase, which waits at the gate."""

    @app.task(**options)
    async def work(ctx: JobContext) -> int:
        try:
            return await ctx.phase("gate", gate.step)
        except BaseException as error:
            if errors is not None:
                errors.append(error)
            raise

    return work


async def recorded(dsn: str, phases: int) -> bool:
    """Whether so many phases have ended on record."""
    return bool(await asked(dsn, "select count(*) = $1 from jobqueue.phase where ended_at is not null", phases))


async def test_a_worker_that_lost_its_claim_records_nothing(database: str) -> None:
    """The fence: what a frozen worker brings late is refused, and its handler gets ClaimLost."""
    app, gate, errors = new_app(database, **QUIET), Gate(), list[BaseException]()
    work = gated(app, gate, errors)

    async with app:
        handle = await work.defer()
        async with app.worker():
            await gate.begun.wait()
            await take_away(database, handle.id)
            gate.open.set()
            await wait_until(lambda: bool(errors), "its handler has heard")

    assert [ClaimLost] == [type(error) for error in errors]
    assert await recorded(database, 0)


async def test_a_locked_row_holds_up_its_own_phases_only(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that has the job's row: its phase is recorded when that ends; other jobs go on meanwhile.

    That it has begun is said at once here, and must not take the place of its end, which waits to be written.
    """
    monkeypatch.setattr(phases, "_TELL_AFTER", 0.0)
    app, gate, free = new_app(database), Gate(), Gate()
    free.open.set()
    held, other = gated(app, gate), gated(app, free, name="other")

    async with app:
        handle = await held.defer()
        async with app.worker():
            await gate.begun.wait()
            async with row_held(database, handle.id):
                gate.open.set()
                await end_of(app, await other.defer())
                assert await recorded(database, 1)
            job = await end_of(app, handle)

    assert (1, JobState.COMPLETED) == (job.result, job.state)
    assert await recorded(database, 2)


async def test_what_was_done_when_the_worker_stops_is_recorded(database: str) -> None:
    """A step that has ended before the drain cut its job is on record before the job is given back."""
    app, gate, ends = new_app(database), Gate(), Gate()

    @app.task
    async def work(ctx: JobContext) -> int:
        n = await ctx.phase("gate", gate.step)
        await ctx.phase("end", ends.step)
        return n

    async with app:
        handle = await work.defer()
        async with app.worker() as worker:
            await gate.begun.wait()
            async with row_held(database, handle.id):
                gate.open.set()
                await wait_until(lambda: worker.supervisor.parts.recorder.unwritten > 0, "it is to be recorded")
                stop = asyncio.create_task(worker.drain(0))
                await wait_until(lambda: not worker.supervisor.parts.slots.running, "its job was cut off")
            with pytest.raises(TimeoutError):
                await stop
        assert await recorded(database, 1)
        ends.open.set()
        await app.run_worker(burst=True)
        job = await end_of(app, handle)

    assert (1, 1, 1) == (job.result, gate.runs, job.attempt)


async def test_records_outlast_an_outage(database: str) -> None:
    """The database is away when a step ends: it is recorded when that is back, and nothing runs twice."""
    async with proxied(database) as proxy:
        app, far, gate = new_app(database), new_app(proxy.dsn), Gate()
        work = gated(far, gate)
        async with app, far:
            handle = await work.defer()
            async with far.worker():
                await gate.begun.wait()
                await asyncio.sleep(0)
                proxy.break_all()
                gate.open.set()
                await wait_until(lambda: proxy.turned_away > 0, "it has tried")
                proxy.let_pass()
                job = await end_of(app, handle)

    assert (1, 1, JobState.COMPLETED) == (job.result, gate.runs, job.state)


async def test_an_answer_that_was_lost_is_no_loss(database: str) -> None:
    """The record is stored, its answer never comes: it is sent again, and is the same."""
    async with proxied(database) as proxy:
        app, far, warm, gate = new_app(database), new_app(proxy.dsn), Gate(), Gate()
        warm.open.set()

        @far.task
        async def work(ctx: JobContext) -> int:
            await ctx.phase("warm", warm.step)  # the statement is known from now on
            return await ctx.phase("gate", gate.step)

        async with app, far:
            handle = await work.defer()
            async with far.worker():
                await gate.begun.wait()
                proxy.lose_answers()
                gate.open.set()
                await wait_until(partial(recorded, database, 2), "it is stored")
                proxy.cut()
                proxy.let_pass()
                job = await end_of(app, handle)
            found = await app.jobs.phases(handle.id)

    assert (1, 1, 1) == (job.result, gate.runs, job.attempt)
    assert [PhaseState.COMPLETED] * 2 == [phase.state for phase in found]


async def test_a_cancel_leaves_finished_phases_and_no_other(database: str) -> None:
    """S2-30 to 32: one cancelled event; the step that ran reads as cancelled, the one before keeps its result."""
    app, gate = new_app(database), Gate()

    async def one() -> str:
        return "kept"

    @app.task
    async def work(ctx: JobContext) -> None:
        await ctx.phase("one", one)
        await ctx.phase("gate", gate.step)

    async with app:
        handle = await work.defer()
        async with app.worker():
            await gate.begun.wait()
            await wait_until(partial(begun, database), "that it has begun is on record")
            await handle.cancel()
            await reached(app, handle, JobState.CANCELLED)
        found = await app.jobs.phases(handle.id)
        events = "select count(*) from jobqueue.event where type = 'job.cancelled'"

    assert [("one", "completed", "kept"), ("gate", "cancelled", None)] == [
        (p.name, str(p.state), p.result) for p in found
    ]
    assert 1 == await asked(database, events)


async def begun(dsn: str) -> int:
    """How many phases are on record as begun."""
    return int(await asked(dsn, "select count(*) from jobqueue.phase where ended_at is null"))


async def test_a_timeout_names_the_phase_under_way(database: str) -> None:
    """The attempt's error says in which phase its time was over."""
    app, gate = new_app(database), Gate()
    work = gated(app, gate, timeout=0.05, max_attempts=1)

    async with app:
        handle = await work.defer()
        await app.run_worker(burst=True)
        job = await end_of(app, handle)

    assert job.error is not None
    assert ("timeout after 0.05 s", "gate", 1) == (job.error.message, job.error.phase, job.error.place)


async def test_a_thread_of_a_phase_is_waited_for(database: str) -> None:
    """A plain step cannot be cut: its job is given back only when its thread has ended, so that no two run at once."""

    app, begins, go, ended = new_app(database), threading.Event(), threading.Event(), list[int]()

    def step() -> None:
        begins.set()
        go.wait(NEVER)
        ended.append(1)

    @app.task(retry=steps(0))
    async def work(ctx: JobContext) -> None:
        if not ended:
            await ctx.phase("thread", step)

    async with app:
        handle = await work.defer()
        async with app.worker() as worker:
            await wait_until(begins.is_set, "its thread runs")
            stop = asyncio.create_task(worker.drain(0))
            await wait_until(lambda: worker.supervisor.drain.cut_off > 0, "it was cut off")
            assert JobState.RUNNING is await handle.status()
            go.set()
            with pytest.raises(TimeoutError):
                await stop
        assert (JobState.READY, [1]) == (await handle.status(), ended)


async def test_a_job_that_records_phases_is_in_nobodys_way(database: str) -> None:
    """While a record is on its way, beats renew the claim, and reports and requests to cancel get through.

    A job with one quick phase after the other has its row locked most of the time: by what the record locks it with.
    """
    app, gate = new_app(database, lease=LEASE, beat=BEAT, rescue_interval=NEVER), Gate()

    @app.task
    async def work(ctx: JobContext) -> None:
        ctx.progress(0.5)
        await ctx.phase("gate", gate.step)

    async with app:
        handle = await work.defer()
        async with app.worker(), connect(database) as connection:
            await gate.begun.wait()
            async with connection.transaction():
                await connection.execute("select from jobqueue.job where id = $1 for key share", handle.id)
                await outlived(database, 2.0)
                assert 0.5 == (await app.jobs.get(handle.id)).progress["fraction"]
                assert Change.ASKED is await handle.cancel()
            await reached(app, handle, JobState.CANCELLED)


async def test_nothing_takes_back_that_a_phase_is_completed(database: str) -> None:
    """Neither that it has begun, said late, nor that its commit failed: whoever got no answer to it believes so."""
    async with open_session(database) as session:
        await insert(session, new_job())
        row = await claim_one(session)
        claim = row["id"], row["fence"]
        ended = Record("one", "phase", 1, 1, 0.5, over=True, result="7")
        late, failed = replace(ended, over=False, result=None), replace(ended, result=None, error="{}")
        for record in (ended, ended, late, failed):
            assert {(row["fence"], "one"): None} == await record_phases(session, WORKER, [(claim, record)])
            (found,) = (await load_phases(session, [row["id"]]))[row["id"]]
            assert (True, False, "7") == (found.over, found.failed, found.result)


async def test_a_commit_whose_answer_is_lost_is_found_again(database: str) -> None:
    """Rows and record are there, though the run was told that the connection broke: no later try does it again."""
    async with connect(database) as connection:
        await connection.execute("create table stock (n integer)")
    async with proxied(database) as proxy:
        far, runs = new_app(proxy.dsn), list[int]()

        async def reserve(connection: Any) -> int:
            runs.append(1)
            await connection.execute("insert into stock values (1)")
            proxy.lose_answer_to(b"COMMIT;")
            return 5

        @far.task(retry=steps(0))
        async def work(ctx: JobContext) -> list[int]:
            return [await ctx.phase_in_transaction("reserve", reserve), ctx.attempt]

        async with far, far.worker():
            handle = await work.defer()
            await wait_until(partial(asked, database, "select count(*) from stock"), "it has committed")
            proxy.cut()
            proxy.let_pass()
            job = await end_of(far, handle)

    assert ([5, 2], [1], 1) == (job.result, runs, await asked(database, "select count(*) from stock"))
