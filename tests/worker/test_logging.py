"""What is logged: facts about jobs, never their payload."""

import asyncio
import logging
from typing import Any

import anyio
import anyio.to_thread
import pytest
import structlog
from structlog.testing import LogCapture

from jobqueue.app import App
from jobqueue.base.job import Job, JobState
from jobqueue.base.outcome import Cancel, Fatal, Snooze
from jobqueue.base.retry import steps
from jobqueue.base.settings import Settings
from jobqueue.tasks.bounded import bounded_map
from jobqueue.tasks.context import JobContext
from tests.support.jobs.store import connect
from tests.support.jobs.working import all_ended, end_of, new_app, reached

MARKER = "marker-7f3a9"


@pytest.fixture
def lines() -> Any:
    """Every structlog line of a user who has configured structlog."""
    capture = LogCapture()
    kept = structlog.get_config()
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, capture], cache_logger_on_first_use=False)
    yield capture.entries
    structlog.reset_defaults()
    if kept["cache_logger_on_first_use"]:
        structlog.configure(**kept)


async def test_lines_of_a_task_tell_its_job(database: str, lines: list[dict[str, Any]]) -> None:
    """S4-42: what any logger logs inside a task or its thread carries job, task, attempt, queue and worker."""
    app = new_app(database)
    logger = structlog.get_logger("shop")

    @app.task(queue="mail")
    async def in_task(ctx: JobContext) -> None:
        logger.info("from the task")
        ctx.log.info("from the context", extra=1)

    @app.task(queue="mail")
    def in_thread() -> None:
        logger.info("from a thread")

    async with app, app.worker() as worker:
        handles = [await in_task.defer(), await in_thread.defer()]
        for handle in handles:
            await end_of(app, handle)
    logger.info("outside")

    told = {line["event"]: line for line in lines}
    names = {"from the task": 0, "from the context": 0, "from a thread": 1}
    for event, place in names.items():
        expected = {"job_id": str(handles[place].id), "task": handles[place].task, "attempt": 1, "queue": "mail"}
        expected["worker"] = str(worker.id)
        assert expected.items() <= told[event].items()
    assert "job_id" not in told["outside"]


async def test_lines_of_what_a_task_starts_tell_its_job_too(database: str, lines: list[dict[str, Any]]) -> None:
    """S4-42: child tasks and threads of a handler, also those of a `def` task, log with the facts of their job."""
    app = new_app(database)
    logger = structlog.get_logger("shop")

    async def child(ctx: JobContext, name: str) -> None:
        logger.info(name)
        ctx.log.info("by ctx.log: " + name)  # noqa: G003 - each line is to be found by its words

    def in_thread(ctx: JobContext, name: str) -> None:
        logger.info(name)
        ctx.log.info("by ctx.log: " + name)  # noqa: G003 - each line is to be found by its words

    @app.task(queue="mail")
    async def starts_all(ctx: JobContext) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(child(ctx, "asyncio task"))
        async with anyio.create_task_group() as children:
            children.start_soon(child, ctx, "anyio task")
        await bounded_map(lambda name: child(ctx, name), ["bounded_map"])
        await asyncio.to_thread(in_thread, ctx, "asyncio thread")
        await anyio.to_thread.run_sync(in_thread, ctx, "anyio thread")

    @app.task(queue="mail")
    def threaded(ctx: JobContext) -> None:
        in_thread(ctx, "task in a thread")

    async with app, app.worker() as worker:
        handles = [await starts_all.defer(), await threaded.defer()]
        for handle in handles:
            await end_of(app, handle)

    told = {line["event"]: line for line in lines if not line["event"].startswith(("job.", "worker.", "listener."))}
    assert 12 == len(told)
    for event, line in told.items():
        handle = handles["task in a thread" in event]
        facts = {"job_id": str(handle.id), "task": handle.task, "attempt": 1, "queue": "mail", "worker": str(worker.id)}
        assert facts.items() <= line.items(), event


async def test_no_log_line_and_no_error_has_a_payload(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """S3-20: with a marker in every argument, result and meta, no line at debug level and no error text contains it."""
    app = new_app(database, max_result=200)
    caplog.set_level(logging.DEBUG)

    @app.task(retry=steps(0), max_attempts=2, timeout=0.5)
    async def work(ctx: JobContext, how: str, secret: str) -> Any:
        match how:
            case "fails":
                raise OSError("no route")
            case "is fatal":
                raise Fatal("refused")
            case "cancels":
                raise Cancel("not needed")
            case "snoozes" if not ctx.job.errors and ctx.job.due_at == ctx.job.created_at:
                raise Snooze(0)
            case "gives too much":
                return secret * 100
            case "exits":
                raise SystemExit(1)
        return secret

    ways = ["works", "fails", "is fatal", "cancels", "snoozes", "gives too much", "exits"]
    async with app, app.worker():
        handles = [await work.options(meta={"secret": MARKER}).defer(way, MARKER) for way in ways]
        jobs = [await end_of(app, handle) for handle in handles]
        async with connect(database) as connection:
            id = await connection.fetchval("select jobqueue.defer('work', $1)", f'{{"how": 1, "secret": "{MARKER}"}}')
        await reached(app, work.handle(id), JobState.SCHEDULED)

    assert "job.completed" in caplog.text
    assert "job.dead" in caplog.text
    assert MARKER not in caplog.text
    assert MARKER not in "".join(errors_of(job) for job in jobs)
    assert MARKER not in repr(jobs)


def errors_of(job: Job) -> str:
    return "".join(f"{error.message}{error.traceback}{error.data}" for error in job.errors) + (job.reason or "")


async def test_the_worker_tells_its_start_and_end(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """Start, readiness to listen and end of a worker are logged, with what it serves."""
    app = new_app(database)
    caplog.set_level(logging.INFO, "jobqueue")

    @app.task
    async def work() -> None: ...

    async with app, app.worker(queues=["mail:5", "default"], concurrency=3):
        await work.defer()
        await all_ended(database)

    events = [record.getMessage().split("'")[1] for record in caplog.records if record.name.startswith("jobqueue")]
    assert ["listener.ready", "worker.started", "worker.stopped"] == [event for event in events if "job." not in event]
    assert "mail:5" in caplog.text


BOOM = "no such card"


async def failed_twice(database: str, **knobs: Any) -> None:
    """A job fails and runs again, another is dead at once, a third one completes."""
    app = App(database, settings=Settings(**knobs))

    @app.task(max_attempts=2, retry=steps(0))
    async def pay(ctx: JobContext) -> None:
        raise KeyError(BOOM)

    @app.task
    async def rest() -> None: ...

    await pay.defer()
    await rest.defer()
    async with app:
        await app.run_until_idle()


@pytest.mark.parametrize(
    ("knobs", "has"),
    [
        ({}, (False, False)),
        ({"log_failures": "class"}, (False, False)),
        ({"log_failures": "message"}, (True, False)),
        ({"log_failures": "traceback"}, (True, True)),
    ],
)
async def test_a_failure_is_told_as_the_settings_say(
    knobs: dict[str, Any], has: tuple[bool, bool], database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its message, which may quote the payload, and its traceback are logged only if `log_failures` says so."""
    with caplog.at_level(logging.INFO):
        await failed_twice(database, **knobs)

    retried, dead = (
        next(record.getMessage() for record in caplog.records if record.getMessage().startswith(f"event='{event}'"))
        for event in ("job.retried", "job.dead")
    )
    for line in (retried, dead):
        assert "error='KeyError'" in line
        assert " seconds=0." in line
        assert has == (BOOM in line, "in pay" in line)


@pytest.mark.parametrize(("level", "lines"), [(None, 0), ("debug", 0), ("info", 1)])
async def test_completed_jobs_have_a_line_if_that_is_wanted(
    level: str | None, lines: int, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """`log_completed` says at which level they are logged, with how long they ran."""
    with caplog.at_level(logging.INFO):
        await failed_twice(database, log_completed=level)

    told = [record.getMessage() for record in caplog.records if "job.completed" in record.getMessage()]
    assert lines == len(told)
    assert all(" seconds=0." in line and "task='rest'" in line for line in told)
