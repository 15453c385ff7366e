"""Jobs commit with their caller's data: nobody sees them before, and everybody is woken then."""

import pytest

from jobqueue.base.job import JobState
from tests.support.jobs.store import connect
from tests.support.jobs.working import asleep, counted, end_of, new_app, seen


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
