"""What handle.result gives: the value by its annotation, or the error that says how the job ended."""

import asyncio
import re
from dataclasses import dataclass

import pytest
from pydantic import BaseModel
from uuid_utils.compat import uuid7

from jobqueue.app import App
from jobqueue.base.errors import InvalidPayload, JobCancelled, JobFailed, JobNotFound, ResultTimeout
from jobqueue.base.job import JobState
from jobqueue.base.outcome import Cancel, Fatal
from jobqueue.base.retry import steps
from tests.support.jobs.store import connect
from tests.support.jobs.working import reached
from tests.support.patience import PATIENCE
from tests.support.postgres.backends import AWAITS_RESULTS, becomes
from tests.support.programs.scripts import run_script


class Report(BaseModel):
    width: int
    tags: list[str] = []


@dataclass
class Point:
    x: int
    y: float


async def test_a_result_is_decoded_by_the_annotation(database: str) -> None:
    """handle.result gives the value by the return annotation: models, None and empty objects each as they are."""
    app = App(database)

    @app.task
    async def report(width: int) -> Report:
        return Report(width=width, tags=["a"])

    @app.task
    async def points(count: int) -> dict[str, list[Point]]:
        return {"points": [Point(number, 0.5) for number in range(count)]}

    @app.task
    async def nothing() -> None: ...

    @app.task
    async def empty() -> dict[str, int]:
        return {}

    @app.task
    async def optional(given: bool) -> int | None:
        return 0 if given else None

    async with app.worker():
        assert Report(width=3, tags=["a"]) == await (await report.defer(3)).result(timeout=PATIENCE)
        assert {"points": [Point(0, 0.5)]} == await (await points.defer(1)).result(timeout=PATIENCE)
        results = [await (await task.defer()).result(timeout=PATIENCE) for task in (nothing, empty)]
        assert [None, {}] == results
        assert [0, None] == [await (await optional.defer(given)).result(timeout=PATIENCE) for given in (True, False)]
        again: Report = await report.handle(str((await report.defer(4)).id)).result(timeout=PATIENCE)
        assert Report(width=4, tags=["a"]) == again
    await app.close()


async def test_each_end_has_its_error(database: str) -> None:
    """Dead, cancelled, unknown and not in time are told apart, with what the handler said."""
    app = App(database)

    @app.task(max_attempts=1)
    async def end(how: str) -> int:
        errors: dict[str, Exception] = {
            "fatal": Fatal("no way", data={"code": 7}),
            "cancel": Cancel("not wanted"),
            "raise": ValueError("wrong"),
        }
        raise errors[how]

    fatal, cancelled, raised = [await end.defer(how) for how in ("fatal", "cancel", "raise")]
    later = await end.options(delay=3600).defer("fatal")
    await app.run_until_idle()

    with pytest.raises(JobFailed, match="no way") as failed:
        await fatal.result(timeout=PATIENCE)
    assert (fatal.id, "fatal", "no way", {"code": 7}) == (
        failed.value.id, failed.value.reason, failed.value.message, failed.value.data,
    )  # fmt: skip
    with pytest.raises(JobFailed, match="ValueError: wrong") as failed:
        await raised.result(timeout=PATIENCE)
    assert ("attempts", "ValueError") == (failed.value.reason, failed.value.error_class)
    for limit in (PATIENCE, 0):  # what has ended is told, however short the limit
        with pytest.raises(JobCancelled, match="not wanted"):
            await cancelled.result(timeout=limit)
        with pytest.raises(JobNotFound):
            await end.handle(uuid7()).result(timeout=limit)
    with pytest.raises(TimeoutError, match=f"job {later.id}.*within 0.05 s: it is scheduled for"):
        await later.result(timeout=0.05)
    states = [await handle.status() for handle in (fatal, cancelled, raised, later)]
    assert [JobState.DEAD, JobState.CANCELLED, JobState.DEAD, JobState.SCHEDULED] == states
    with pytest.raises(JobNotFound):
        await end.handle(uuid7()).status()
    await app.close()


async def test_a_result_that_does_not_fit_any_more(database: str) -> None:
    """After a deploy that changed the annotation the wait ends with InvalidPayload, which names the place only."""
    before, after = App(database), App(database)

    @before.task(name="measure")
    async def measure() -> dict[str, str]:
        return {"width": "marker-7f3a"}

    @after.task(name="measure")
    async def measured() -> Report:
        raise NotImplementedError

    handle = await measure.defer()
    await before.run_until_idle()

    with pytest.raises(InvalidPayload, match="width") as told:
        await measured.handle(handle.id).result(timeout=PATIENCE)
    assert "marker" not in str(told.value)
    await before.close()
    await after.close()


async def test_a_job_of_another_process(database: str) -> None:
    """A job that a worker in another process runs is waited for like one of our own."""
    app = App(database)

    async def whoami(number: int) -> int:
        raise NotImplementedError

    handles = await app.task(whoami).defer_many(range(5))
    waiting = [asyncio.create_task(handle.result(timeout=PATIENCE)) for handle in handles]
    await becomes(database, 1, AWAITS_RESULTS)
    printed = await run_script(
        """
        import asyncio, os
        from jobqueue import App

        app = App()

        @app.task
        async def whoami(number: int) -> int:
            return os.getpid() + number

        asyncio.run(app.run_until_idle())
        print(os.getpid())
        """,
        database,
    )

    assert [int(printed) + number for number in range(5)] == await asyncio.gather(*waiting)
    await app.close()


async def test_a_result_that_does_not_come_says_why(database: str) -> None:
    """S2-11: the error names job and task, where the job is and what it waits for; a TimeoutError, and one of ours."""
    app = App(database)
    began, going = asyncio.Event(), asyncio.Event()

    @app.task(queue="mail", retry=steps(3600))
    async def end(how: str) -> None:
        if how == "fail":
            raise ValueError("never mind")
        began.set()
        await going.wait()

    waits, fails, runs = [await end.options(queue=f"q{how}").defer(how) for how in ("wait", "fail", "run")]
    async with app.worker(queues=["qfail", "qrun"]):
        await began.wait()
        await reached(app, fails, JobState.SCHEDULED)
        for handle, state, words in (
            (
                waits,
                JobState.READY,
                "it is ready in queue 'qwait', and no worker has taken it; does one serve this queue?",
            ),
            (fails, JobState.SCHEDULED, "attempt 1 of 20 failed with ValueError"),
            (runs, JobState.RUNNING, "it runs, attempt 1 of 20"),
        ):
            with pytest.raises(ResultTimeout, match=re.escape(words)) as told:
                await handle.result(timeout=0.05)
            assert isinstance(told.value, TimeoutError)
            assert (handle.id, "end", state) == (told.value.id, told.value.task, told.value.state)
            assert f"job {handle.id} (end) has not ended within 0.05 s" in str(told.value)
            assert "never mind" not in str(told.value)
        going.set()
    await app.close()


async def test_a_job_of_an_open_transaction_is_no_mystery(database: str) -> None:
    """Whoever looks for it before they have committed is told that as well."""
    async with App(database) as app, connect(database) as connection, connection.transaction():

        @app.task
        async def note() -> None: ...

        handle = await note.options(connection=connection).defer()
        with pytest.raises(JobNotFound, match="the transaction that defers it is still open"):
            await handle.status()
