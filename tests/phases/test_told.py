"""What the log tells of phases, sleeps and waits."""

from contextlib import suppress
from itertools import groupby

import pytest

from jobqueue import JobContext, PhaseState
from tests.support.jobs.told import taken
from tests.support.jobs.working import asked, end_of, new_app
from tests.support.waiting import wait_until

TOLD = [
    "step completed", "nap sleeping", "nap completed", "approved waiting", "approved completed", "second waiting",
    "second failed",
]  # fmt: skip


async def step() -> int:
    """Stands for any work."""
    return 1


@pytest.mark.parametrize("follow", [True, False])
async def test_a_followed_job_tells_of_its_phases_sleeps_and_waits(database: str, follow: bool) -> None:
    """S2-10: what begins to sleep or wait, and how all of it ended, in order; of a job that nobody follows nothing."""
    app = new_app(database)

    @app.task(follow=follow)
    async def work(ctx: JobContext) -> None:
        await ctx.phase("step", step)
        await ctx.sleep("nap", 0.05)
        await ctx.wait_for("approved", str)
        with suppress(TimeoutError):
            await ctx.wait_for("second", str, timeout=0.05)

    async def is_waiting() -> bool:
        return PhaseState.WAITING in [phase.state for phase in await app.jobs.phases(handle.id)]

    async with app, app.worker():
        handle = await work.defer()
        await wait_until(is_waiting, "it waits")
        await handle.signal("approved", "SECRETMARKER")
        await end_of(app, handle)
        count = await asked(database, "select count(*) from jobqueue.event where type = 'job.phase'")
        async with app.events("0", types="job.phase") as events:
            found = [event.data or {} for event in await taken(events, count)]
        told = [f"{data['phase']} {data['state']}" for data in found]

    assert (TOLD if follow else []) == [words for words, _ in groupby(told)]  # it may look more than once
    assert "MARKER" not in str(found)
