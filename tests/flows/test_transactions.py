"""Jobs commit with their caller's data: nobody sees them before, and everybody is woken then."""

import signal
from pathlib import Path

import pytest

from jobqueue.base.job import JobState
from tests.support.jobs.joining import for_sqlalchemy
from tests.support.jobs.ledger import Ledger
from tests.support.jobs.store import connect
from tests.support.jobs.working import archived, asked, asleep, counted, end_of, new_app, seen
from tests.support.waiting import wait_until

PAYING = """
import os

from sqlalchemy import text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from jobqueue import App, JobContext, steps

app = App(os.environ["LEDGER_DSN"], name="ledger")
Session = async_sessionmaker(create_async_engine(os.environ["LEDGER_URL"], pool_size=4))

@app.task
async def thank(number: int) -> None: ...

@app.task(retry=steps(0))
async def pay(ctx: JobContext, number: int) -> None:
    async with ctx.transaction(session=Session) as session:
        row = {"job": ctx.job.id, "process": os.getpid()}
        await session.execute(text("insert into ledger values (:job, 1, :process)"), row)
        await thank.options(connection=session).defer(number)
        ctx.complete()
"""


async def test_a_job_starts_only_after_its_transaction_has_committed(database: str) -> None:
    """S1-06: with idle workers a job in an open transaction waits for the commit, and starts at once then."""
    app = new_app(database)
    ran: list[str] = []

    @app.task
    async def work(name: str) -> None:
        ran.append(name)

    async with app, app.worker(), connect(database) as connection:
        await asleep(database)
        async with connection.transaction():
            handle = await work.options(connection=connection).defer("inside")
            for _ in range(5):  # the worker wakes up, looks, and goes to sleep again: the job is not to be seen
                await end_of(app, await work.defer("outside"))
                await asleep(database)
            assert ["outside"] * 5 == ran
        await end_of(app, handle)

    assert ["outside"] * 5 + ["inside"] == ran


async def test_a_job_of_a_transaction_that_rolls_back_never_runs(database: str) -> None:
    """Rolled back, the job does not exist, whatever has been notified."""
    app = new_app(database)
    ran: list[str] = []

    @app.task
    async def work(name: str) -> None:
        ran.append(name)

    async with app, app.worker(), connect(database) as connection:
        await asleep(database)
        with pytest.raises(OSError, match="no"):
            async with connection.transaction():
                await work.options(connection=connection).defer("inside")
                raise OSError("no")
        await end_of(app, await work.defer("outside"))

    assert (["outside"], 0) == (ran, await counted(database))


async def test_an_open_transaction_does_not_keep_workers_awake_or_asleep(database: str) -> None:
    """While a transaction with a job stays open, a worker goes to sleep as usual and wakes for others."""
    app = new_app(database)

    @app.task
    async def work() -> str:
        return "ran"

    async with app, connect(database) as connection, connection.transaction():
        held = await work.options(connection=connection).defer()
        async with app.worker():
            for _ in range(3):
                await asleep(database)
                assert "ran" == await seen(await work.defer())
        state = await connection.fetchval("select state from jobqueue.job where id = $1", held.id)

    assert JobState.READY == state


async def pay(number: int) -> None:
    """Stands for the task of the workers' module."""


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_effects_are_exactly_once_whoever_is_killed(driver: str, database: str, tmp_path: Path) -> None:
    """S1-26, S4-110: workers are killed in mid-work; each job has one row by the user's library, and one follow-up."""
    async with await Ledger.opened(tmp_path, database) as ledger:
        ledger.cli.module("ledger", PAYING)
        ledger.cli.environment |= {"LEDGER_URL": for_sqlalchemy(driver, database), "JOBQUEUE_RESCUE_INTERVAL": "0.3"}
        task = ledger.app.task(pay)
        await ledger.app.defer_many([task.options(queue="pay").job(number) for number in range(600)])
        for _ in range(2):
            (doomed,) = await ledger.workers(1, "--concurrency", "8", "--queues", "pay")
            before = await archived(database)
            await wait_until(lambda: some_ended(database, before + 50), "it is busy")  # noqa: B023 - used at once
            doomed.signal(signal.SIGKILL)
            await doomed.ends()
        (last,) = await ledger.workers(1, "--concurrency", "8", "--queues", "pay")
        await wait_until(lambda: all_paid(database), "all have ended")
        last.signal(signal.SIGTERM)
        assert 0 == await last.ends()

        assert {1: 600} == await ledger.runs()
        assert 600 == await archived(database)
        assert 600 == await counted(database, "task = 'thank'")
        ones = "select count(distinct args ->> 'number') from jobqueue.job where task = 'thank'"
        assert 600 == await asked(database, ones)


async def some_ended(dsn: str, count: int) -> bool:
    return await archived(dsn) >= count


async def all_paid(dsn: str) -> bool:
    return await counted(dsn, "queue = 'pay'") == 0
