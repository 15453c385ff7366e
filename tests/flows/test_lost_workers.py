"""Workers that are killed, frozen or blocked: their jobs go on elsewhere, and what comes late changes nothing."""

import os
import random
import signal
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest

from jobqueue.base.errors import JobFailed
from jobqueue.base.job import JobState
from tests.support.jobs.store import connect
from tests.support.jobs.working import all_ended, archived, asked, claims_left, counted
from tests.support.patience import NEVER, PATIENCE, scaled, stretched
from tests.support.programs.notebook import Notebook
from tests.support.programs.processes import Process
from tests.support.waiting import wait_until

LEASE, BEAT, SWEEP = stretched(2.0), 0.3, 0.3 * 1.2
SUSPECT = 2.0
"""The longest that a job waits after its first crash."""
BUSY = scaled(5.0)
"""What a busy machine may cost."""

QUICK = {"JOBQUEUE_LEASE": str(LEASE), "JOBQUEUE_BEAT": str(BEAT), "JOBQUEUE_RESCUE_INTERVAL": "0.3"}
FOR_GOOD = {"JOBQUEUE_LEASE": str(NEVER)}
"""Its claims end with the worker only, however long a busy machine lets it wait for its turn."""
RESCUES_NOBODY = {"JOBQUEUE_RESCUE_INTERVAL": str(NEVER)}
"""Frozen in the midst of a rescue it would hold the rows of others."""

FAR_AWAY = """
from jobqueue.worker.keeping import rescue
rescue.this_machine = lambda: None  # as if the others ran elsewhere: their processes cannot be seen
"""

LEFT = "select extract(epoch from lease_until - clock_timestamp())::float8 from jobqueue.job"

LONG = bool(os.environ.get("JOBQUEUE_LONG"))


def notebook(folder: Path, dsn: str, **environment: str) -> Notebook:
    return Notebook(folder, dsn, **QUICK | environment)


@pytest.mark.parametrize("neighbour", [True, False])
async def test_another_worker_runs_the_jobs_of_a_killed_one(own: str, tmp_path: Path, neighbour: bool) -> None:
    """S1-17, S4-67, A1: a worker is killed in mid-job and never comes back; its jobs run again within the bound.

    A neighbour sees the death of a process of its machine; others have to wait for the end of the lease.
    """
    async with notebook(tmp_path, own, **(FOR_GOOD if neighbour else {})) as book:
        if not neighbour:
            book.cli.module("notebook", (tmp_path / "notebook.py").read_text() + FAR_AWAY)
        (first,) = await book.workers(1)
        handle = await book.note.defer(0, "held")
        await book.have_begun(handle.id)
        (other,) = await book.workers(1)
        killed = time.monotonic()
        held_for = await asked(
            own, "select extract(epoch from lease_until - clock_timestamp())::float8 from jobqueue.job"
        )
        await book.kill(first)
        book.let_go(handle.id)
        await all_ended(own)

        once, again = book.lines()
        assert once.process != again.process
        bound = SWEEP + SUSPECT + BUSY if neighbour else LEASE + SWEEP + SUSPECT + BUSY
        assert again.at - killed < bound
        assert neighbour or again.at - killed > held_for
        assert 1 == len(book.events(other, "job.rescued", crashed=True))
        job = await book.app.jobs.get(handle.id)
        assert (JobState.COMPLETED, 1, 1) == (job.state, job.attempt, job.crashes)
        assert [] == await claims_left(own)


async def test_what_a_frozen_worker_brings_late_is_refused(own: str, tmp_path: Path) -> None:
    """S1-26, S4-69, A3-A6: workers are frozen beyond their leases; each kind of late outcome is refused and logged.

    As they wake up, another worker runs their jobs: it is not disturbed, and its results stand.
    """
    async with notebook(tmp_path, own) as book:
        frozen = {}
        for number, how in enumerate(("freezes held", "freezes held fails", "freezes held snoozes")):
            (process,) = await book.workers(1, "--queues", f"q{number}", **RESCUES_NOBODY)
            handle = await book.note.options(queue=f"q{number}").defer(0, how)
            await book.have_begun(handle.id)
            await wait_until(lambda: is_frozen(process), "it is frozen")  # noqa: B023 - used at once
            frozen[handle.id] = (process, handle)
        (other,) = await book.workers(1, **FOR_GOOD)
        for id, (process, handle) in frozen.items():
            await wait_until(lambda: len(runs_of(book, id)) == 2, "it runs again")  # noqa: B023 - used at once
            process.signal(signal.SIGCONT)
            await wait_until(lambda: book.events(process, "job.refused", job_id=str(id)), "its outcome is refused")  # noqa: B023 - used at once
            book.let_go(id)
            assert runs_of(book, id)[1] == await handle.result(timeout=PATIENCE)
            job = await book.app.jobs.get(id)
            assert (JobState.COMPLETED, 1) == (job.state, job.attempt)
        assert [] == book.events(other, "job.refused")
        assert {2: 3} == book.runs()
        assert ([], 3) == (await claims_left(own), await archived(own))


def is_frozen(process: Process) -> bool:
    return psutil.Process(process.pid).status() == psutil.STATUS_STOPPED


def runs_of(book: Notebook, id: UUID) -> list[int]:
    """The processes in which a job has begun, in order."""
    return [line.process for line in book.lines() if line.job == id]


async def test_all_workers_are_killed_at_once(own: str, tmp_path: Path) -> None:
    """A1, S2-17: nobody is left; workers that start later complete everything."""
    async with notebook(tmp_path, own, **FOR_GOOD) as book:
        workers = await book.workers(2, "--concurrency", "5")
        await book.app.defer_many([book.note.job(0.05) for _ in range(200)])
        await wait_until(lambda: len(book.lines()) > 40, "they are at work")
        await book.kill(*workers)
        held = len(await claims_left(own))
        await book.workers(2, "--concurrency", "5")
        await all_ended(own)

        runs = book.runs()
        assert 200 == await archived(own) == sum(runs.values())
        assert {1, 2} >= set(runs)
        assert runs.get(2, 0) <= held <= 2 * 2 * 5 + 10  # and what is claimed ahead
        assert 0 == await asked(own, "select count(*) from jobqueue.job_archive where attempt <> 1")


async def test_a_job_that_kills_its_worker_is_stopped(own: str, tmp_path: Path) -> None:
    """S4-68, A17, A4: after three deaths in all, claimed ahead or not, the poison is dead; 99 neighbours complete."""
    async with notebook(tmp_path, own, **FOR_GOOD) as book:
        good = [book.note.job(0.02) for _ in range(99)]
        poison = book.note.job(0, "dies")
        await book.app.defer_many([*good[:20], poison, *good[20:]])
        (worker,) = await book.workers(1, "--concurrency", "10")
        for _ in range(3):
            assert 9 == await worker.ends()
            (worker,) = await book.workers(1, "--concurrency", "10")
        await all_ended(own)

        assert 99 == await archived(own)
        with pytest.raises(JobFailed) as caught:
            await book.note.handle(poison.id).result(timeout=PATIENCE)
        assert "crashed" == caught.value.reason
        assert 3 == len(runs_of(book, poison.id))
        assert 3 == (await book.app.jobs.get(poison.id)).crashes
        assert 0 == await asked(
            own, "select count(*) from jobqueue.job_archive where state = 'completed' and attempt <> 1"
        )
        assert {"WorkerCrashed", None} >= await error_classes(own)
        worker.signal(signal.SIGTERM)
        assert 0 == await worker.ends()


async def test_innocents_outlive_many_poisons(own: str, tmp_path: Path) -> None:
    """A4: long jobs beside six that kill their worker, three workers: each poison ends dead, and no innocent."""
    async with notebook(tmp_path, own, **FOR_GOOD) as book:
        poisons = [book.note.job(0, "dies") for _ in range(6)]
        innocents = [book.note.job(2.0) for _ in range(4)]
        await book.app.defer_many([*innocents[:2], *poisons, *innocents[2:]])
        workers = await book.workers(3, "--concurrency", "10")

        async def over() -> bool:
            for place, worker in enumerate(workers):
                if worker.ended:
                    (workers[place],) = await book.workers(1, "--concurrency", "10")
            return await counted(own) == 0

        await wait_until(over, "all jobs have ended", NEVER)
        assert (4, 6) == (await archived(own), await archived(own, "dead"))
        assert 0 == await asked(own, "select count(*) from jobqueue.job_archive where state = 'dead' and crashes <> 3")


async def error_classes(dsn: str) -> set[Any]:
    async with connect(dsn) as connection:
        rows = await connection.fetch(
            "select distinct e ->> 'class' as class from jobqueue.job_archive left join lateral"
            " jsonb_array_elements(errors) as e on true where state = 'completed'"
        )
    return {row["class"] for row in rows}


async def test_starting_workers_takes_nothing_from_a_busy_one(own: str, tmp_path: Path) -> None:
    """S4-66: ten more workers start beside one whose jobs outlast several leases: none runs twice."""
    async with notebook(tmp_path, own) as book:
        await book.workers(1, "--concurrency", "20")
        await book.app.defer_many([book.note.job(2 * LEASE) for _ in range(20)])
        await wait_until(lambda: len(book.lines()) == 20, "all run")
        for _ in range(5):
            for late in await book.workers(2):
                late.signal(signal.SIGTERM)
        await all_ended(own)

        assert ({1: 20}, 20) == (book.runs(), await archived(own))


async def test_a_blocked_loop_and_a_long_drain_keep_their_claims(own: str, tmp_path: Path) -> None:
    """S4-62, S4-63, A12, B8: a job blocks the loop, another outlasts a drain, both for two leases: one run each."""
    async with notebook(tmp_path, own) as book:
        (blocked,) = await book.workers(1, "--queues", "blocked")
        (draining,) = await book.workers(1, "--queues", "draining", "--drain-timeout", str(PATIENCE))
        await book.workers(1)  # would take them both
        await book.app.defer_many([book.note.options(queue="elsewhere").job(0) for _ in range(3)])
        block = await book.note.options(queue="blocked").defer(2 * LEASE, "blocks")
        long = await book.note.options(queue="draining").defer(2 * LEASE)
        await book.have_begun(block.id, long.id)
        draining.signal(signal.SIGTERM)
        await all_ended(own)

        assert {1: 5} == book.runs()
        assert 5 == await archived(own)
        assert 0 == await draining.ends()
        assert [] == book.events(blocked, "job.refused")


@pytest.mark.timeout(1800 if LONG else 180)
async def test_random_kills_lose_nothing(own: str, tmp_path: Path) -> None:
    """S1-18, A1: four workers, killed and replaced one after the other under 1 000 jobs: each completes once.

    `make chaos` does the same with 40 000 jobs and 300 kills. Some jobs meet three of them: here that is no verdict.
    """
    jobs, kills = (40_000, 300) if LONG else (1_000, 8)
    chosen = random.Random(18)  # noqa: S311 - a seed to repeat it by
    async with notebook(tmp_path, own, JOBQUEUE_MAX_CRASHES="1000", **FOR_GOOD) as book, connect(own) as connection:
        await connection.execute(RECORDER)
        await book.app.defer_many([book.note.job(0.05) for _ in range(jobs)])
        workers = await book.workers(4, "--concurrency", "3")
        for _ in range(kills):
            victim = chosen.randrange(4)
            so_far = len(book.lines()) + chosen.randrange(5, 40)
            await wait_until(lambda: len(book.lines()) >= min(so_far, jobs), "some have run")  # noqa: B023 - used at once
            await book.kill(workers[victim])
            (workers[victim],) = await book.workers(1, "--concurrency", "3")
        await all_ended(own, PATIENCE * kills / 8)

        assert (jobs, 0) == (await archived(own), await counted(own))
        assert jobs == len({line.job for line in book.lines()})
        extra = len(book.lines()) - jobs
        assert extra <= kills * 6  # a kill costs what runs in three slots, and what has just ended there
        assert (jobs, jobs) == tuple(await connection.fetchrow("select count(*), count(distinct job) from ended") or ())


RECORDER = """
create table ended (job uuid);
create function note_end() returns trigger language plpgsql as $$
begin insert into ended values (new.id); return null; end $$;
create trigger note_end after insert on jobqueue.job_archive for each row execute function note_end();
"""
