"""What the handler of a batch may answer with: read once, when it has returned, and no item is ever without a share."""

import asyncio
from collections.abc import Sequence
from typing import Any

from jobqueue.base.job import JobState
from jobqueue.base.outcome import Fatal
from tests.support.jobs.batches import LONG
from tests.support.jobs.working import end_of, new_app
from tests.support.patience import PATIENCE


class Torn(Sequence[int]):
    """Rows of which one cannot be read any more."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, place: Any) -> Any:
        if place == 1:
            raise OSError("row gone")
        if place >= len(self):
            raise IndexError
        return place


class Boastful(list[int]):
    """Says that it is longer than it is."""

    def __len__(self) -> int:
        return 3


async def test_an_answer_that_cannot_be_read_fails_every_item(database: str) -> None:
    """S0-03: a sequence that raises when it is read fails each item with that error, and the slot is free again."""
    app = new_app(database)

    @app.batch_task(size=3, wait=LONG, max_attempts=1)
    async def work(numbers: list[int]) -> Sequence[int]:
        return Torn()

    async with app:
        handles = await work.defer_many(range(3))
        async with app.worker(concurrency=1) as worker:
            jobs = [await end_of(app, handle) for handle in handles]
            assert 1 == worker.snapshot().free

    assert [(JobState.DEAD, "attempts", "row gone")] * 3 == [
        (job.state, job.reason, job.error and job.error.message) for job in jobs
    ]


async def test_a_list_that_lies_about_its_length_ends_all(database: str) -> None:
    """S0-03: what counts is how many shares are in it."""
    app = new_app(database)

    @app.batch_task(size=3, wait=LONG)
    async def work(numbers: list[int]) -> list[int]:
        return Boastful([1])

    async with app:
        handles = await work.defer_many(range(3))
        async with app.worker(concurrency=1):
            jobs = [await end_of(app, handle) for handle in handles]

    assert [(JobState.DEAD, "result")] * 3 == [(job.state, job.reason) for job in jobs]
    assert all(job.error and "not of 1" in job.error.message for job in jobs)


async def test_a_list_that_its_owner_empties_later_is_shared_out(database: str) -> None:
    """S0-03: a handler may answer with a list that it keeps; what becomes of that list afterwards changes nothing."""
    app = new_app(database)
    buffer: list[int] = []

    @app.batch_task(size=3, wait=LONG, max_attempts=1)
    async def work(numbers: list[int]) -> list[int]:
        buffer.extend(numbers)
        asyncio.get_running_loop().call_soon(buffer.clear)
        return buffer

    async with app:
        handles = await work.defer_many(range(3))
        async with app.worker(concurrency=1):
            assert [0, 1, 2] == [await handle.result(timeout=PATIENCE) for handle in handles]


async def test_an_item_may_answer_with_a_group(database: str) -> None:
    """S0-03: an item's share may be an exception group, which means what the leaf in it says."""
    app = new_app(database)

    @app.batch_task(size=2, wait=LONG)
    async def work(numbers: list[int]) -> list[int | ExceptionGroup[Exception]]:
        return [1, ExceptionGroup("inner", [OSError(), Fatal("bad card")])]

    async with app:
        handles = await work.defer_many(range(2))
        async with app.worker(concurrency=1):
            good, bad = [await end_of(app, handle) for handle in handles]

    assert JobState.COMPLETED is good.state
    assert (JobState.DEAD, "fatal", "bad card") == (bad.state, bad.reason, bad.error and bad.error.message)
