"""Bundles while workers are killed: counts are exact, and each callback is stored once."""

import random
from collections import Counter
from pathlib import Path

import pytest

from tests.support.jobs.store import connect
from tests.support.patience import NEVER, PATIENCE
from tests.support.programs.notebook import Notebook
from tests.support.waiting import wait_until

BUNDLES, MEMBERS, KILLS = 5, 120, 8


@pytest.mark.timeout(180)
async def test_a_bundle_ends_once_whoever_is_killed(own: str, tmp_path: Path) -> None:
    """S4-84: three workers, killed and replaced one after the other: all members counted, each callback stored once.

    Then the dead ones are retried: the counts go down, and each bundle ends once more.
    """
    chosen = random.Random(84)  # noqa: S311 - a seed to repeat it by
    environment = {"JOBQUEUE_MAX_CRASHES": "1000", "JOBQUEUE_POLL": "1", "JOBQUEUE_LEASE": str(NEVER)}
    async with Notebook(tmp_path, own, **environment) as book, connect(own) as connection:
        ids = []
        for _ in range(BUNDLES):
            end = book.note.options(queue="ends")
            async with book.app.bundle("killed", on_success=end.job(), on_failure=end.job(), on_finish=end.job()) as b:
                b.add_many(book.note.job(0.02) for _ in range(MEMBERS - 2))
                b.add_many(book.note.options(max_attempts=1, timeout=0.001).job(30) for _ in range(2))
            ids.append(b.id)
        workers = await book.workers(3, "--concurrency", "3")
        for _ in range(KILLS):
            victim = chosen.randrange(3)
            so_far = len(book.lines("ended")) + chosen.randrange(5, 60)
            await wait_until(lambda: len(book.lines("ended")) >= min(so_far, BUNDLES * (MEMBERS - 2)), "some have run")  # noqa: B023 - used at once
            await book.kill(workers[victim])
            (workers[victim],) = await book.workers(1, "--concurrency", "3")
        for round in (1, 2):
            for id in ids:
                bundle = await book.app.bundles.wait(id, 2 * PATIENCE)
                assert (MEMBERS, MEMBERS - 2, 2, round) == (bundle.added, bundle.completed, bundle.dead, bundle.round)
            called = await connection.fetch(
                "select bundle_id from (select bundle_id, follow from jobqueue.job union all"
                " select bundle_id, follow from jobqueue.job_archive) as jobs where follow & 4 <> 0"
            )
            assert dict.fromkeys(ids, 2 * round) == Counter(row["bundle_id"] for row in called)
            if round == 1:
                for id in ids:
                    assert 2 == len(await book.app.bundles.retry(id))
