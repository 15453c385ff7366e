"""Nobody misses an event, and nobody hears one twice, in whatever order the writers commit, and however they end."""

import asyncio
import os
from uuid import UUID

import pytest

from jobqueue.app import App
from tests.support.jobs.log_writers import Writers, read_naively
from tests.support.jobs.store import connect, new_job
from tests.support.jobs.told import cancelled, jobs, taken
from tests.support.jobs.working import new_app
from tests.support.patience import PATIENCE
from tests.support.waiting import wait_until

LONG = bool(os.environ.get("JOBQUEUE_LONG"))
ROUNDS = 600 if LONG else 15


class Reader:
    """Notes the place and the job of each event that it hears."""

    def __init__(self, app: App) -> None:
        self.heard: list[tuple[int, int, UUID]] = []
        self.events = app.events()

    async def read(self) -> None:
        async for event in self.events:
            seq, part = map(int, event.id.split("."))
            self.heard.append((seq, part, event.job_id))


async def in_the_log(dsn: str) -> list[tuple[int, int, UUID]]:
    async with connect(dsn) as connection:
        rows = await connection.fetch("select seq, jobs from jobqueue.event order by seq")
    return [(row["seq"], part, UUID(str(id))) for row in rows for part, id in enumerate(row["jobs"])]


@pytest.mark.timeout(900 if LONG else 120)
async def test_no_reader_misses_or_doubles_an_event(database: str) -> None:
    """S2-33, S2-35: random commits, rollbacks, terminated backends, steering in callers' transactions; two readers.

    Each hears exactly what the log has, in its order. `seq > last seen` would miss some: asserted in the long run.
    """
    one, two, producer = new_app(database), new_app(database), new_app(database)
    async with one, two, producer:
        readers = [Reader(one), Reader(two)]
        for reader in readers:
            await reader.events.begin()
        reading = [asyncio.create_task(reader.read()) for reader in readers]
        writers = Writers(database, producer, ROUNDS, seed=7)
        writing = asyncio.create_task(writers.run())
        naive: list[int] = []
        await read_naively(database, naive, writing.done)
        await writing
        (last,) = await cancelled(producer)
        for reader in readers:
            await wait_until(lambda: reader.heard[-1][2] == last, "all is read", 2 * PATIENCE)  # noqa: B023 - used at once
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
        for reader in readers:
            reader.events.close()

    log = await in_the_log(database)
    assert writers.cut > 0
    assert log == readers[0].heard
    assert log == readers[1].heard
    await each_end_is_told_once(database, log)
    assert not set(naive) - {seq for seq, _, _ in log}
    missed = len({seq for seq, _, _ in log if seq < naive[-1]} - set(naive))
    if LONG:
        assert missed > 0


async def each_end_is_told_once(dsn: str, log: list[tuple[int, int, UUID]]) -> None:
    async with connect(dsn) as connection:
        completed = await connection.fetch("select id from jobqueue.job_archive where state = 'completed'")
        told = await connection.fetch("select unnest(jobs) as id from jobqueue.event where type = 'job.completed'")
    assert sorted(row["id"] for row in completed) == sorted(row["id"] for row in told)


async def test_an_open_transaction_of_a_callers_delays_nobody(database: str) -> None:
    """S2-33: a cancel that waits for its commit holds up no other event; its own comes with the commit, or never."""
    app = new_app(database)
    async with app, app.events() as events, connect(database) as one, connect(database) as two:
        kept, undone = [handle.id for handle in await app.defer_many([new_job(), new_job()])]
        transactions = [one.transaction(), two.transaction()]
        for transaction in transactions:
            await transaction.start()
        await app.jobs.cancel(kept, connection=one)
        await app.jobs.cancel(undone, connection=two)
        others = [id for _ in range(5) for id in await cancelled(app)]
        assert others == jobs(await taken(events, 5)), "they come while both are open"
        await transactions[0].commit()
        await transactions[1].rollback()
        assert [kept] == jobs(await taken(events, 1))
        (last,) = await cancelled(app)
        assert [last] == jobs(await taken(events, 1))
