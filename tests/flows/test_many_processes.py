"""Jobs in worker processes of the command line, as users run them: nothing lost, nothing twice."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from jobqueue.base.errors import JobFailed
from tests.support.jobs.ledger import Ledger
from tests.support.jobs.working import all_ended, archived, claims_left, counted, end_of
from tests.support.patience import PATIENCE
from tests.support.waiting import wait_until


async def note(seconds: float, how: str = "works") -> int:
    """Stands for the task of the workers' module: only its name and parameters matter here."""
    raise AssertionError("it runs in another process")


async def test_ten_thousand_jobs_run_once_each(database: str, tmp_path: Path) -> None:
    """S0-16, S1-11: 10 000 jobs over four worker processes, deferred before and while they run: each id ran once."""
    async with await Ledger.opened(tmp_path, database) as ledger:
        task = ledger.app.task(note)
        await ledger.app.defer_many([task.job(0) for _ in range(4_000)])
        workers = await ledger.workers(4, "--concurrency", "25")
        for _ in range(20):
            await ledger.app.defer_many([task.job(0) for _ in range(300)])
        await all_ended(database)
        for worker in workers:
            worker.signal(signal.SIGTERM)
        assert [0, 0, 0, 0] == [await worker.ends() for worker in workers]

        assert {1: 10_000} == await ledger.runs()
        assert 10_000 == await archived(database)
        assert 1 < await ledger.processes() <= 4


async def test_signals_under_load_lose_and_double_nothing(database: str, tmp_path: Path) -> None:
    """Busy workers that are stopped by SIGTERM and replaced: every job ran once, none is left claimed."""
    async with await Ledger.opened(tmp_path, database) as ledger:
        task = ledger.app.task(note)
        await ledger.app.defer_many([task.job(0.002) for _ in range(3_000)])
        first, second = await ledger.workers(2, "--concurrency", "10")
        for worker in (first, second):
            ended = await archived(database)
            await wait_until(lambda: some_ended(database, ended + 200), "it is busy")  # noqa: B023 - used at once
            worker.signal(signal.SIGTERM)
            assert 0 == await worker.ends()
        assert [] == await claims_left(database)
        left = await counted(database, "state = 'ready' and attempt = 0 and errors is null")
        assert 3_000 == left + await archived(database)

        (third,) = await ledger.workers(1, "--concurrency", "50", "--burst")
        assert 0 == await third.ends()
        assert {1: 3_000} == await ledger.runs()


async def some_ended(dsn: str, count: int) -> bool:
    return await archived(dsn) >= count


async def test_results_cross_processes(database: str, tmp_path: Path) -> None:
    """A caller waits in its own process for jobs that succeed, fail for good or exit in a worker's. (S3-28, S0-15)"""
    async with await Ledger.opened(tmp_path, database) as ledger:
        task = ledger.app.task(max_attempts=3)(note)
        (worker,) = await ledger.workers(1)

        pid = await (await task.defer(0)).result(timeout=PATIENCE)
        assert pid != os.getpid()
        for how, error in (("fails", "OSError"), ("exits", "SystemExit")):
            handle = await task.defer(0, how)
            with pytest.raises(JobFailed) as caught:
                await handle.result(timeout=PATIENCE)
            assert ("attempts", error) == (caught.value.reason, caught.value.error_class)
            assert 3 == (await end_of(ledger.app, handle)).attempt
        assert pid == await (await task.defer(0)).result(timeout=PATIENCE)

        results = await asyncio.gather(*[(await task.defer(0)).result(timeout=PATIENCE) for _ in range(50)])
        assert {pid} == set(results)
        worker.signal(signal.SIGTERM)
        assert 0 == await worker.ends()
