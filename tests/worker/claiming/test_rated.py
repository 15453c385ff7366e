"""Rates at work: whatever the workers do, no stretch of time has more starts than a rate allows."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

from jobqueue import Job, JobContext, Limit, Rate
from tests.support.jobs.gates import wrong_with_gates
from tests.support.jobs.store import connect
from tests.support.jobs.working import all_ended, new_app

COUNT, PER, JOBS = 20, 1.0, 50


def most_within(moments: list[datetime], seconds: float) -> int:
    """How many of these lie in any stretch of so many seconds, its end not included."""
    span = timedelta(seconds=seconds)
    return max(sum(start <= moment < start + span for moment in moments) for start in moments)


async def test_starts_keep_to_the_rate(database: str) -> None:
    """Two busy workers start fifty jobs of a rate of twenty a second: never more in a second."""
    app = new_app(database)
    claimed: list[Job] = []

    @app.task(limit=Limit(rate=Rate(COUNT, per=PER, burst=5)))
    async def call(ctx: JobContext) -> None:
        claimed.append(ctx.job)

    @app.task
    async def busy() -> None:
        await asyncio.sleep(0)

    async with app:
        jobs: list[Any] = [call.job() for _ in range(JOBS)] + [busy.job() for _ in range(1_000)]
        await app.defer_many(jobs)
        async with app.worker(concurrency=5), app.worker(concurrency=5):
            await all_ended(database)
    starts = [job.claimed_at for job in claimed if job.claimed_at is not None]
    assert JOBS == len(starts)
    assert most_within(starts, PER) <= COUNT
    assert {1} == {job.attempt for job in claimed}
    async with connect(database) as connection:
        assert [] == await wrong_with_gates(connection)
