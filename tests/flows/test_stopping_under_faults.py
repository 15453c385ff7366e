"""Orderly stops that something stands in the way of: a long job, a silent network, a thread that does not end."""

import asyncio
import signal
import time
from pathlib import Path

from jobqueue.base.job import JobState
from tests.support.jobs.working import all_ended, claims_left
from tests.support.patience import NEVER, scaled
from tests.support.postgres.proxy import proxied
from tests.support.programs.notebook import Notebook
from tests.support.programs.processes import Process
from tests.support.waiting import wait_until

FINAL_WRITES, FORCE, BUSY = 5.0, 2.0, scaled(5.0)
"""Seconds beyond the drain's limit: for the last writes, until the process is ended by force, for a busy machine."""


async def stop(process: Process) -> tuple[int, float]:
    """SIGTERM; the exit code, and after how many seconds it came."""
    since = time.monotonic()
    process.signal(signal.SIGTERM)
    return await process.ends(), time.monotonic() - since


async def test_a_job_longer_than_the_drain_moves_to_another_worker(own: str, tmp_path: Path) -> None:
    """S0-08, S4-54, A13: the process ends within the limit, the next starts the job at once, no attempt is spent."""
    async with Notebook(tmp_path, own) as book:
        (first,) = await book.workers(1, "--drain-timeout", "0.5")
        handle = await book.note.defer(0, "held")
        await book.have_begun(handle.id)
        (second,) = await book.workers(1)
        code, seconds = await stop(first)
        assert (3, True) == (code, 0.5 <= seconds < 0.5 + BUSY)
        await wait_until(lambda: len(book.lines()) == 2, "it has begun again")
        again = book.lines()[1]
        assert (1, 0) == (again.attempt, (await book.app.jobs.get(handle.id)).crashes)
        assert book.lines("cut")[0].at <= again.at  # never two runs at once
        book.let_go(handle.id)
        await all_ended(own)

        job = await book.app.jobs.get(handle.id)
        assert (JobState.COMPLETED, 1, ()) == (job.state, job.attempt, job.errors)
        assert 0 == (await stop(second))[0]


async def test_a_stop_with_the_network_cut_ends_in_time(own: str, tmp_path: Path) -> None:
    """B5, S0-28, S1-16: the drain's limit and the final writes bound the stop, and the exit code says what happened.

    Beside it a thread that does not end: the same bounds hold, its job keeps its claim.
    """
    async with proxied(own) as proxy, Notebook(tmp_path, own) as book:
        (cut,) = await book.workers(1, "--drain-timeout", "0.5", "--queues", "cut", NOTEBOOK_DSN=proxy.dsn)
        (stuck,) = await book.workers(1, "--drain-timeout", "0.5", "--queues", "thread")
        jobs = [
            await book.note.options(queue="cut").defer(0, "held"),
            await book.note.options(queue="cut").defer(NEVER),
            await book.thread.options(queue="thread").defer(NEVER),
        ]
        await book.have_begun(*[job.id for job in jobs])
        proxy.stall()
        book.let_go(jobs[0].id)
        for code, seconds in await asyncio.gather(stop(cut), stop(stuck)):
            assert 4 == code
            assert seconds < 0.5 + FINAL_WRITES + FORCE + BUSY
        assert {job.id for job in jobs} == set(await claims_left(own))
