"""Jobs that come after others while workers are killed: nothing begins early, and nothing is left over."""

import random
from collections import defaultdict
from pathlib import Path

import pytest

from jobqueue.tasks.handle import JobHandle
from tests.support.jobs.store import connect
from tests.support.patience import NEVER, PATIENCE
from tests.support.programs.notebook import Notebook
from tests.support.waiting import wait_until

LAYERS, WIDE, KILLS = 6, 40, 8


@pytest.mark.timeout(180)
async def test_order_holds_whoever_is_killed(own: str, tmp_path: Path) -> None:
    """Three workers, killed and replaced one after the other: each began after all that it comes after had ended."""
    chosen = random.Random(13)  # noqa: S311 - a seed to repeat it by
    environment = {"JOBQUEUE_MAX_CRASHES": "1000", "JOBQUEUE_POLL": "1", "JOBQUEUE_LEASE": str(NEVER)}
    async with Notebook(tmp_path, own, **environment) as book, connect(own) as connection:
        async with book.app.bundle("killed") as b:
            layers = [[b.add(book.note.job(0.02)) for _ in range(WIDE)]]
            before: dict[JobHandle[int], list[JobHandle[int]]] = {}
            for _ in range(LAYERS - 1):
                edges = [chosen.sample(layers[-1], 3) for _ in range(WIDE)]
                layers.append([b.add(book.note.job(0.02), after=after) for after in edges])
                before |= dict(zip(layers[-1], edges, strict=True))
        workers = await book.workers(3, "--concurrency", "3")
        for _ in range(KILLS):
            victim = chosen.randrange(3)
            so_far = len(book.lines("ended")) + chosen.randrange(5, 25)
            await wait_until(lambda: len(book.lines("ended")) >= min(so_far, LAYERS * WIDE), "some have run")  # noqa: B023 - used at once
            await book.kill(workers[victim])
            (workers[victim],) = await book.workers(1, "--concurrency", "3")
        bundle = await book.app.bundles.wait(b.id, 2 * PATIENCE)

        assert (LAYERS * WIDE, LAYERS * WIDE, 1) == (bundle.added, bundle.completed, bundle.round)
        for table in ("job", "dependency"):
            assert 0 == await connection.fetchval(f"select count(*) from jobqueue.{table}")
        began, ended = defaultdict(list), defaultdict(list)
        for line in book.lines("began"):
            began[line.job].append(line.at)
        for line in book.lines("ended"):
            ended[line.job].append(line.at)
        early = [job for job, after in before.items() for one in after if min(began[job.id]) < max(ended[one.id])]
        assert [] == early
