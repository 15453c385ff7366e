"""Two workers at one queue: those of different apps are told so; one whose loop is blocked leaves jobs to others."""

import logging

import psycopg
import pytest

from jobqueue.tasks.context import JobContext
from jobqueue.worker.claiming.queues import Queues
from tests.support.jobs.beating import block
from tests.support.jobs.working import new_app
from tests.support.waiting import wait_until


@pytest.mark.parametrize(
    ("ours", "theirs", "shared"),
    [
        (None, None, ["*"]),
        (None, ["mail", "bulk:2"], ["mail", "bulk"]),
        (["mail"], ["*"], ["mail"]),
        (["mail", "b"], ["b", "c"], ["b"]),
        (["mail"], ["bulk"], []),
        (["*", "-mail"], ["mail"], []),
        (["mail"], ["*", "-mail"], []),
    ],
)
def test_what_two_workers_share(ours: list[str] | None, theirs: list[str] | None, shared: list[str]) -> None:
    """Names, `*` and what is left out on either side decide which queues both serve."""
    assert shared == Queues(ours).shared_with(Queues(Queues(theirs).described))


async def test_two_apps_at_one_queue_are_told_so(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """A worker that starts warns of a living worker of another app that serves its queues, and of no other."""
    ours, theirs = new_app(database, name="ours"), new_app(database, name="theirs")
    caplog.set_level(logging.WARNING)

    async with ours, theirs, ours.worker(), ours.worker(queues=["mail"]):
        async with theirs.worker(queues=["bulk", "-bulk"]):
            assert "worker.shares_queues" not in caplog.text
        async with theirs.worker(queues=["mail"]):
            assert "worker.shares_queues" in caplog.text
    assert "queues=['mail'] apps=['ours']" in caplog.text


async def test_a_blocked_loop_leaves_jobs_to_others(database: str) -> None:
    """Of 20 jobs that each block the event loop a worker holds one or two at a time, though it has a slot for each."""
    app = new_app(database)
    held: list[int] = []

    @app.task
    async def hold_up() -> None:
        block(0.3)
        with psycopg.connect(database) as connection:
            row = connection.execute("select count(*) from jobqueue.job where state = 'running'").fetchone()
        held.append(row[0] if row else -1)

    async with app:
        await app.defer_many([hold_up.job() for _ in range(20)])
        async with app.worker(concurrency=50, drain_timeout=60):
            await wait_until(lambda: len(held) == 20, "all have run")

    assert 15 <= sum(count <= 2 for count in held), held


async def test_a_blocked_loop_gives_back_unharmed(database: str) -> None:
    """What it gives back has cost no attempt, and nothing is lost or runs twice."""
    app = new_app(database)
    attempts: list[tuple[int, int]] = []

    @app.task
    async def hold_up(ctx: JobContext, number: int) -> None:
        attempts.append((number, ctx.attempt))
        if number < 3:
            block(0.4)

    async with app:
        await app.defer_many([hold_up.job(number) for number in range(30)])
        await app.run_worker(burst=True)

    assert [(number, 1) for number in range(30)] == sorted(attempts)
