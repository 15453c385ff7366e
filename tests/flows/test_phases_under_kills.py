"""Jobs of phases while workers are killed and frozen: rows are there once, and later runs see what one has seen."""

import random
import signal
from collections import defaultdict
from pathlib import Path
from uuid import UUID

import pytest

from tests.support.jobs.beating import BEAT, LEASE
from tests.support.jobs.store import connect
from tests.support.jobs.working import all_ended
from tests.support.patience import PATIENCE
from tests.support.programs.notebook import Notebook
from tests.support.waiting import wait_until

JOBS, FAULTS = 60, 8


@pytest.mark.timeout(180)
async def test_nothing_is_lost_or_done_twice(own: str, tmp_path: Path) -> None:
    """S2-03, flows §4: three workers, killed or frozen past their lease in turn, while signals come at any time."""
    chance = random.Random(22)  # noqa: S311 - a seed to repeat it by
    knobs = {"LEASE": LEASE, "BEAT": BEAT, "RESCUE_INTERVAL": 0.3, "POLL": 1, "MAX_CRASHES": 1000}
    environment = {f"JOBQUEUE_{knob}": str(value) for knob, value in knobs.items()}
    async with Notebook(tmp_path, own, **environment) as book, connect(own) as connection:
        await connection.execute("create table ledger (job uuid)")
        jobs = await book.app.defer_many([book.phased.job() for _ in range(JOBS)])
        unsent = list(jobs)
        workers = await book.workers(3, "--concurrency", "5")
        for _ in range(FAULTS):
            noted = len(book.lines(None)) + chance.randrange(3, 12)
            await wait_until(lambda: len(book.lines(None)) >= min(noted, JOBS), "some have gone on")  # noqa: B023 - used at once
            for _ in range(JOBS // FAULTS):
                await unsent.pop(chance.randrange(len(unsent))).signal("go", 7)
            victim = chance.randrange(3)
            if chance.random() < 0.5:
                await book.kill(workers[victim])
                (workers[victim],) = await book.workers(1, "--concurrency", "5")
            else:
                workers[victim].signal(signal.SIGSTOP)
                await wait_until(lambda: taken_over(own), "others have what it had")
                workers[victim].signal(signal.SIGCONT)
        for handle in unsent:
            await handle.signal("go", 7)
        await all_ended(own, 3 * PATIENCE)

        rows = await connection.fetch("select id, result #>> '{}' as said from jobqueue.job_archive")
        results = {row["id"]: row["said"] for row in rows}
        assert [(JOBS, JOBS)] == [
            tuple(row) for row in await connection.fetch("select count(*), count(distinct job) from ledger")
        ]
        seen = defaultdict[UUID, set[str]](set)
        for line in book.lines(None):
            if line.word.startswith(("first-", "last-")):
                seen[line.job].add(line.word)
        assert {job.id: said(results[job.id]) for job in jobs} == dict(seen)


def said(result: str) -> set[str]:
    """What a job has noted by its result."""
    first, n, last = result.split()
    assert n == "7"
    return {f"first-{first}", f"last-{last}"}


async def taken_over(dsn: str) -> bool:
    """Whether no claim is on record whose lease is over."""
    async with connect(dsn) as connection:
        return not await connection.fetchval(
            "select count(*) from jobqueue.job where state = 'running' and lease_until < clock_timestamp()"
        ) and bool(await connection.fetchval("select bool_or(alive_until < clock_timestamp()) from jobqueue.worker"))
