"""Schedules while workers are killed and frozen: each planned time has one job, without a leader."""

import os
import random
import signal
from collections import defaultdict
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.support.jobs.beating import BEAT, LEASE
from tests.support.jobs.planned import jobs_of
from tests.support.jobs.store import connect
from tests.support.jobs.working import all_ended
from tests.support.patience import PATIENCE
from tests.support.programs.notebook import Notebook
from tests.support.waiting import wait_until

SCHEDULES = 30
STORED = "select (select count(*) from jobqueue.job) + (select count(*) from jobqueue.job_archive)"
FAULTS = 56 if os.environ.get("JOBQUEUE_LONG") else 6


@pytest.mark.timeout(600)
async def test_each_planned_time_has_one_job(own: str, tmp_path: Path) -> None:
    """Thirty schedules of one second, three workers, killed or frozen in turn: planned = jobs, and all of them ran."""
    chance = random.Random(7)  # noqa: S311 - a seed to repeat it by
    knobs = {"LEASE": LEASE, "BEAT": BEAT, "RESCUE_INTERVAL": 0.3, "POLL": 1, "MAX_CRASHES": 1000}
    environment = {f"JOBQUEUE_{knob}": str(value) for knob, value in knobs.items()}
    names = [f"tick {n}" for n in range(SCHEDULES)]
    async with Notebook(tmp_path, own, **environment) as book, connect(own) as connection:
        workers = await book.workers(3, "--concurrency", "5")
        for name in names:
            await book.app.schedules.put(name, book.note.job(), "* * * * * *", missed="all")

        async def more(jobs: int) -> None:
            wanted = jobs + await connection.fetchval(STORED)

            async def are() -> bool:
                return bool(wanted <= await connection.fetchval(STORED))

            await wait_until(are, f"{jobs} more jobs are stored")

        for _ in range(FAULTS):
            await more(chance.randrange(1, SCHEDULES))
            victim = chance.randrange(3)
            if chance.random() < 0.5:
                await book.kill(workers[victim])
                (workers[victim],) = await book.workers(1, "--concurrency", "5")
            else:
                workers[victim].signal(signal.SIGSTOP)
                await more(2 * SCHEDULES)
                workers[victim].signal(signal.SIGCONT)
        await more(SCHEDULES)
        for name in names:
            await book.app.schedules.pause(name)
        await all_ended(own, 3 * PATIENCE)

        planned = defaultdict[str, list[datetime | None]](list)
        for name in names:
            planned[name] = [job.planned_at for job in await jobs_of(book.app, name)]
        last = {each.name: each.last_at for each in await book.app.schedules.list()}
        assert {name: each_second(times[0], last[name]) for name, times in planned.items()} == planned
        states = await connection.fetch("select state, count(*) from jobqueue.job_archive group by state")
        assert [("completed", sum(map(len, planned.values())))] == [tuple(row) for row in states]


def each_second(first: datetime | None, last: datetime | None) -> list[datetime]:
    assert first is not None
    assert last is not None
    return [first + timedelta(seconds=n) for n in range(int((last - first).total_seconds()) + 1)]
