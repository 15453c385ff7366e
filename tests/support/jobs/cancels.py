"""Cancels at random moments around the claim, the start and the end of jobs."""

import asyncio
import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import anyio

from jobqueue.base.job import Job
from jobqueue.base.retry import steps
from jobqueue.base.steering import Change
from tests.support.jobs.working import asleep, end_of, new_app
from tests.support.patience import NEVER, PATIENCE

LATE = PATIENCE
"""Seconds after which a request was not heard: a beat would find it, but none comes."""


@dataclass
class Storm:
    """Jobs that are cancelled by two callers each."""

    dsn: str
    seed: int
    answers: list[tuple[Change, Change]] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    returned: Counter[str] = field(default_factory=Counter)
    """How often a handler has returned a value, by job."""
    began: defaultdict[int, asyncio.Event] = field(default_factory=lambda: defaultdict(asyncio.Event))
    """What says that a job runs."""

    async def run(self, jobs: int) -> None:
        """Defer all, cancel each after a random moment, and wait for their ends.

        However slow the machine is, one in eight is asked to end while it runs, and one in eight after its end.
        """
        chosen = random.Random(self.seed)  # noqa: S311 - a seed to repeat it by
        app, other = new_app(self.dsn, name="storm"), new_app(self.dsn)

        async def work(number: int, seconds: float) -> int:
            self.began[number].set()
            await anyio.sleep(seconds)
            if number % 5 == 0:
                raise OSError
            self.returned[str(number)] += 1
            return number

        task = app.task(retry=steps(0))(work)

        async def one(number: int, pause: float) -> Job:
            seconds = NEVER if number % 8 == 0 else chosen.uniform(0, 0.1)
            handle = await task.options(max_attempts=3).defer(number, seconds)
            if number % 8 == 0:
                await self.began[number].wait()
            if number % 8 == 1:
                await end_of(app, handle)
            await anyio.sleep(pause)
            self.answers[number] = await asyncio.gather(app.sender.cancel(handle.id), other.sender.cancel(handle.id))
            return await end_of(app, handle)

        async with app, other, app.worker(concurrency=50):
            await asleep(self.dsn)
            self.answers = [(Change.NOT_FOUND, Change.NOT_FOUND)] * jobs
            for first in range(0, jobs, 50):
                some = range(first, min(jobs, first + 50))
                self.jobs += await asyncio.gather(*(one(number, chosen.uniform(0, 0.12)) for number in some))


async def cancel_around_claims(dsn: str, lanes: int, each: int) -> int:
    """Cancel endless jobs a random moment after their defer; how many were not heard of in time."""
    chosen = random.Random(lanes)  # noqa: S311 - a seed to repeat it by
    app, other = new_app(dsn, name="endless"), new_app(dsn)
    late = 0

    async def work() -> None:
        await anyio.sleep_forever()

    task = app.task(work)

    async def lane() -> None:
        nonlocal late
        for _ in range(each):
            if late >= 3:
                return
            handle = await task.defer()
            await anyio.sleep(chosen.uniform(0, 0.004))
            await other.sender.cancel(handle.id)
            with anyio.move_on_after(LATE) as scope:
                await end_of(app, handle)
            if scope.cancelled_caught:
                late += 1
                await end_of(app, handle)

    async with app, other, app.worker(concurrency=20):
        await asyncio.gather(*(lane() for _ in range(lanes)))
    return late
