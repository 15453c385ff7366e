"""Jobs that cannot run here now: their task is unknown, or their payload no longer fits. They wait, unharmed."""

import logging
import re
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from jobqueue.app import App
from jobqueue.base.codec import loads
from jobqueue.base.errors import JobFailed
from jobqueue.base.job import JobState
from jobqueue.tasks.handle import JobHandle
from tests.support.jobs.store import Connection, claim, connect, insert, new_job, open_session
from tests.support.jobs.working import asked, counted, end_of, new_app, reached
from tests.support.patience import PATIENCE
from tests.support.waiting import wait_until

MARKER = "marker-7f3a9"


async def test_an_unknown_task_waits_for_a_worker_that_has_it(database: str) -> None:
    """S3-03: a worker without the task spends no attempt on the job; one that has it runs it; neighbours run on."""
    ours, theirs = new_app(database, name="ours"), new_app(database, name="theirs")
    seen: list[int] = []

    @ours.task
    async def common() -> None: ...

    @theirs.task
    async def special() -> str:
        seen.append(1)
        return "ran"

    async with ours, theirs:
        handle = await special.defer()
        async with ours.worker():
            job = await reached(theirs, handle, JobState.SCHEDULED)
            await end_of(ours, await common.defer())
        assert (0, (), []) == (job.attempt, job.errors, seen)
        async with theirs.worker():
            assert "ran" == await handle.result(timeout=PATIENCE)
        done = await theirs.jobs.get(handle.id)

    assert (1, [1]) == (done.attempt, seen)


async def test_a_task_registered_while_the_worker_runs_is_used(database: str) -> None:
    """S4-23: registering while workers run is allowed: a job that came too early is found again, a later one runs."""
    app = new_app(database)

    async def late() -> str:
        return "ran"

    async with app, app.worker():
        async with connect(database) as connection:
            early = await connection.fetchval("select jobqueue.defer('late')")
        await reached(app, _handle(app, early), JobState.SCHEDULED)
        task = app.task(late)
        assert "ran" == await (await task.defer()).result(timeout=PATIENCE)
        assert "ran" == await task.handle(early).result(timeout=PATIENCE)


def _handle(app: App, id: UUID) -> JobHandle[Any]:
    """The handle of a job whose task is not known here."""
    return JobHandle(id, "unknown", app.sender, loads)


async def test_a_payload_that_does_not_fit_never_runs_the_code(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """S4-39, S3-26: valid JSON of the wrong shape is put aside without an attempt; no line quotes it (S3-20)."""
    app = new_app(database)
    caplog.set_level(logging.DEBUG)
    seen: list[int] = []
    wrong = ['{"number": "%s"}', '{"nummer": "%s"}', '{"number": {"deep": ["%s"]}}', '{"number": 1, "more": "%s"}']

    @app.task
    async def count(number: int) -> None:
        seen.append(number)

    async with app, app.worker(), connect(database) as connection:
        for args in wrong:
            id = await connection.fetchval("select jobqueue.defer('count', $1)", args % MARKER)
            job = await reached(app, count.handle(id), JobState.SCHEDULED)
            assert (0, ()) == (job.attempt, job.errors)
        await end_of(app, await count.defer(5))

    assert [5] == seen
    assert "job.put_aside" in caplog.text
    assert MARKER not in caplog.text


async def test_what_is_put_aside_is_told_by_its_own_task(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """Each task's first job in a second has a line that names the argument at fault, whatever other tasks do."""
    app = new_app(database)
    tasks = [f"count{number}" for number in range(5)]
    for name in tasks:

        @app.task(name=name)
        async def count(a: int, b: int) -> None: ...

    async with connect(database) as connection:
        for name in tasks * 20:
            await connection.execute("select jobqueue.defer($1, '{\"a\": 1}')", name)
    async with app:
        await app.run_until_idle()

    lines = [record.getMessage() for record in caplog.records if "job.put_aside" in record.getMessage()]
    assert set(tasks) == {found[1] for line in lines if (found := re.search(r"task='(\w+)'", line))}
    assert all("reason='payload' detail='b: is missing'" in line for line in lines)


async def test_a_payload_that_fits_again_runs(database: str) -> None:
    """A job put aside by a bad deploy runs once the task takes its payload again."""
    before, after = new_app(database), new_app(database)

    async def take(number: int) -> int:
        return number

    async def take_text(number: str) -> str:
        return number

    bad = before.task(name="take")(take)
    good = after.task(name="take")(take_text)
    async with before, after:
        handle = await good.defer("seven")
        async with before.worker():
            await reached(before, bad.handle(handle.id), JobState.SCHEDULED)
        async with after.worker():
            assert "seven" == await handle.result(timeout=PATIENCE)


@pytest.mark.parametrize(
    ("aside_max_age", "state"), [(0, JobState.DEAD), (3600, JobState.SCHEDULED)], ids=["fail", "leave"]
)
async def test_an_unknown_task_fails_at_once_or_is_left(database: str, aside_max_age: float, state: JobState) -> None:
    """S3-24: left for another worker, which is the default, or dead at first sight; in neither case an attempt."""
    app = new_app(database, aside_max_age=aside_max_age)

    @app.task
    async def known() -> None: ...

    async with app, app.worker():
        handle = known.handle(await asked(database, "select jobqueue.defer('nobody-has-this')"))
        await reached(app, handle, state)
        job = await app.jobs.get(handle.id)
    assert (0, 1 if state is JobState.DEAD else 0) == (len(job.errors), job.attempt)


async def test_what_stays_aside_too_long_is_dead(database: str) -> None:
    """S3-24: put aside for longer than `aside_max_age`, by the database's clock, a job is dead with the reason."""
    app = new_app(database, aside_max_age=3600)

    @app.task
    async def count(number: int) -> None: ...

    async with app, app.worker():
        async with connect(database) as connection:
            ids = [
                await connection.fetchval("select jobqueue.defer('nobody-has-this')"),
                await connection.fetchval("select jobqueue.defer('count', '{}')"),
            ]
            for id in ids:
                await reached(app, count.handle(id), JobState.SCHEDULED)
            await connection.execute(
                "update jobqueue.job set aside_since = aside_since - interval '1 hour', due_at = now()"
            )
        # The stager knows of an earlier due time; what it does not know it finds when a job with a nearer one comes.
        jobs = [await end_of(app, count.handle(id)) for id in ids]
        with pytest.raises(JobFailed, match="unknown task"):
            await count.handle(ids[0]).result()

    assert [(JobState.DEAD, "unknown task"), (JobState.DEAD, "payload")] == [(job.state, job.reason) for job in jobs]


async def test_a_job_aside_is_looked_at_less_and_less_often(database: str) -> None:
    """The longer a job has been aside, the longer it waits for its next look, at most about a minute."""
    app = new_app(database)

    @app.task
    async def count(number: int) -> None: ...

    async with app, app.worker(), connect(database) as connection:
        waits: list[float] = []
        for aside in ("0 s", "40 s", "1 day"):
            id = await connection.fetchval("select jobqueue.defer('count', queue => $1)", f"q{aside[0]}")
            await reached(app, _handle(app, id), JobState.SCHEDULED)
            await wait_until(partial(_ready_again, connection, id, aside), "it is not claimed just then")
            await connection.fetchval("select jobqueue.wake(queue, null, true) from jobqueue.job where id = $1", id)
            await reached(app, _handle(app, id), JobState.SCHEDULED)
            left = "select extract(epoch from due_at - clock_timestamp())::float from jobqueue.job where id = $1"
            waits.append(await asked(database, left, id))

    assert waits[0] <= 1
    assert 8 < waits[1] <= 11
    assert 50 < waits[2] <= 60


async def _ready_again(connection: Connection, id: UUID, aside: str) -> bool:
    found = await connection.fetchval(
        "update jobqueue.job set aside_since = now() - $2::text::interval, state = 'ready'"
        " where id = $1 and state = 'scheduled' returning true",
        id,
        aside,
    )
    return bool(found)


async def test_a_starting_worker_recalls_what_others_put_aside(database: str) -> None:
    """A job that an old worker has put aside for an hour runs as soon as a worker that knows it starts."""
    app = new_app(database)

    @app.task
    async def work() -> str:
        return "ran"

    async with app:
        handle = await work.options(delay=3600).defer()
        await asked(database, "update jobqueue.job set aside_since = now() returning 1")
        async with app.worker():
            assert "ran" == await handle.result(timeout=PATIENCE)


async def test_jobs_of_another_app_are_left_to_it(database: str) -> None:
    """Of 400 jobs in a shared queue a worker that does not know their task claims one lot, and never again."""
    ours, theirs = new_app(database, name="ours"), new_app(database, name="theirs")
    ran: list[int] = []

    @ours.task
    async def common() -> None: ...

    @theirs.task
    async def special(number: int) -> None:
        ran.append(number)

    async def some_aside() -> bool:
        return await counted(database, "aside_since is not null") > 0

    async with ours, theirs:
        await theirs.defer_many([special.job(number) for number in range(400)])
        async with ours.worker(concurrency=5):
            await wait_until(some_aside, "it has met the task")
            for _ in range(20):
                await end_of(ours, await common.defer())
            assert 350 < await counted(database, "aside_since is null"), "it has claimed on"
            async with theirs.worker():
                await wait_until(lambda: len(ran) == 400, "they have run where they are known")


async def test_a_claim_leaves_unknown_tasks_unless_they_are_to_end(database: str) -> None:
    """Unknown tasks are passed over where they lie; those aside for too long are claimed once more, to end."""
    async with open_session(database) as session, connect(database) as connection:
        await insert(session, *(new_job(task) for task in ("unknown", "known", "unknown", "unknown")))
        await connection.execute("update jobqueue.job set aside_since = now() - interval '1 h' where seq = 3")
        await connection.execute("update jobqueue.job set aside_since = now() where seq = 4")
        rows = await claim(session, unknown=["unknown", "never met"], aside_age=60.0)

    assert [("known", 2), ("unknown", 3)] == [(row["task"], row["seq"]) for row in rows]
