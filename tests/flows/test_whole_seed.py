"""Phases, streams, webhooks, partial retry, cancellation, restart and retention together, with real processes."""

import asyncio
import signal
from collections import Counter
from pathlib import Path
from uuid import UUID

import pytest

from jobqueue import Change, JobState, PhaseState, bounded_map
from tests.support.jobs.working import asked
from tests.support.programs.phased import Phased, phased
from tests.support.programs.processes import Process
from tests.support.receiver import KEY
from tests.support.waiting import wait_until

HOUR_LATER = "update jobqueue.sweep set begun_at = begun_at - interval '1 hour' returning 1"
KEPT = (
    "select (select count(*) from jobqueue.job_archive where queue <> 'webhooks')"
    " + (select count(*) from jobqueue.phase) + (select count(*) from jobqueue.signal)"
)
CANCELS, WORKERS = 200, 2
BEGUN = "select count(distinct job_id) from jobqueue.phase"
TOLD = "select array_agg(job) from jobqueue.event e cross join unnest(e.jobs) job where type = 'job.cancelled'"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes' key."""
    monkeypatch.setenv("JOBQUEUE_WEBHOOK_KEY", KEY)


async def test_the_whole_seed(database: str, tmp_path: Path) -> None:
    """S2-22: jobs of three phases fail, are killed, retried, cancelled, heard of, and in the end forgotten."""
    async with phased(database, tmp_path) as flow:
        worker = flow.start()
        await third_phase_fails(flow)
        worker = await killed_in_the_second_phase(flow, worker)
        await cancelled_at_a_boundary(flow)
        await cancelled_inside_a_phase(flow)
        await flow.delivered(6)
        secret = await flow.app.webhooks.secret(flow.hook.id)
        assert all(post.is_signed_by(secret) for post in flow.receiver.posts)
        await flow.stop(worker)
        await forgotten(flow, database)


async def third_phase_fails(flow: Phased) -> None:
    """S2-02 to S2-05, S2-36: a retry goes on with the third phase; what the others gave stays, to the byte."""
    id = (await flow.digest.options(max_attempts=1).defer(10, "fails")).id
    job = await flow.becomes(id, JobState.DEAD)
    before = await flow.phases(id)
    assert {"extract": 1, "summarize": 1, "publish": 1} == flow.runs(id)
    assert job.error is not None
    assert ("publish", 3, 1) == (job.error.phase, job.error.place, job.error.attempt)
    assert before["extract"].result["mark"] == before["summarize"].result["of"]

    flow.let_go(id)
    assert Change.DONE is (await flow.app.jobs.retry(id)).each[id]
    job = await flow.becomes(id, JobState.COMPLETED)
    after = await flow.phases(id)
    assert {"extract": 1, "summarize": 1, "publish": 2} == flow.runs(id)
    assert (before["extract"], before["summarize"]) == (after["extract"], after["summarize"])
    assert after["publish"].result == after["summarize"].result["mark"] == (await flow.app.jobs.get(id)).result
    assert [1, 2, 3] == [phase.place for phase in after.values()]
    assert all(phase.ended_at and phase.began_at <= phase.ended_at for phase in after.values())
    first = ["extract completed", "summarize completed", "publish failed", "dead"]
    await flow.is_told(id, *first, "revived", "publish completed", "completed")
    await flow.delivered(2)
    assert ["job.dead", "job.completed"] == flow.posted(id)


async def killed_in_the_second_phase(flow: Phased, worker: Process) -> Process:
    """S2-17, S2-37, S2-06: the crash says where the job stood; it goes on there. From the start, all runs once more."""
    id = (await flow.digest.defer(10, "held")).id
    await flow.reaches(id, "summarize", PhaseState.RUNNING)

    async def has_reported() -> bool:
        return (await flow.app.jobs.get(id)).progress is not None

    await wait_until(has_reported, "its report is there")
    killed = (await flow.app.jobs.get(id)).worker_id
    worker.signal(signal.SIGKILL)
    assert -signal.SIGKILL == await worker.ends()
    before = await flow.results(id)
    worker = flow.start()

    async def has_crashed() -> bool:
        return (await flow.app.jobs.get(id)).crashes == 1

    await wait_until(has_crashed, "the crash is known")
    error = (await flow.app.jobs.get(id)).error
    assert error is not None
    assert ("WorkerCrashed", "summarize", 2, 1) == (error.error_class, error.phase, error.place, error.attempt)
    assert str(killed) == error.worker
    report = {"fraction": 0.5, "message": "half of it", "data": {"page": 5}}
    assert {"progress": report} == error.data

    flow.let_go(id)
    await flow.app.jobs.retry(id)  # due now
    await flow.becomes(id, JobState.COMPLETED)
    assert {"extract": 1, "summarize": 2, "publish": 1} == flow.runs(id)
    after = await flow.results(id)
    assert before == {"extract": after["extract"]}

    assert Change.DONE is (await flow.app.jobs.retry(id, from_start=True)).each[id]
    await flow.becomes(id, JobState.COMPLETED)
    assert {"extract": 2, "summarize": 3, "publish": 2} == flow.runs(id)
    assert not set(after.items()) & set((await flow.results(id)).items())
    whole = ["extract completed", "summarize completed", "publish completed", "completed"]
    await flow.is_told(id, whole[0], "retried", *whole[1:], "revived", *whole)
    await flow.delivered(4)
    assert ["job.completed"] * 2 == flow.posted(id)
    return worker


async def cancelled_at_a_boundary(flow: Phased) -> None:
    """S2-30 to S2-32: two cancels at once between two phases are one event and one webhook; what was done stays."""
    id = (await flow.digest.defer(10, "waits")).id
    await flow.reaches(id, "go", PhaseState.WAITING)
    await flow.becomes(id, JobState.SCHEDULED)
    before = await flow.results(id)
    await flow.app.jobs.signal(id, "of no interest", {"page": 1})
    said = await asyncio.gather(*(flow.app.jobs.cancel(id) for _ in range(2)))

    assert Counter({Change.DONE: 1, Change.TOO_LATE: 1}) == Counter(changes.each[id] for changes in said)
    assert {"extract": "completed", "summarize": "completed", "go": "cancelled"} == await flow.states(id)
    assert before == await flow.results(id)
    await flow.is_told(id, "extract completed", "summarize completed", "go waiting", "waiting", "cancelled")
    await flow.delivered(5)
    assert ["job.cancelled"] == flow.posted(id)


async def cancelled_inside_a_phase(flow: Phased) -> None:
    """S2-31, S2-32: a phase that runs when its job is cancelled is cancelled; the one before keeps what it gave."""
    id = (await flow.digest.defer(10, "held")).id
    await flow.reaches(id, "summarize", PhaseState.RUNNING)
    before = await flow.results(id)
    await flow.app.jobs.cancel(id)
    await flow.becomes(id, JobState.CANCELLED)

    assert {"extract": "completed", "summarize": "cancelled"} == await flow.states(id)
    assert before == await flow.results(id)
    await flow.is_told(id, "extract completed", "cancelled")
    await flow.delivered(6)


async def forgotten(flow: Phased, database: str) -> None:
    """S2-15: a worker that keeps nothing removes the jobs an hour later, with their phases and signals."""
    assert 4 + 11 + 1 == await asked(database, KEPT)
    await flow.app.queues.keep("default", completed=0.001, other=0.001)
    await asked(database, HOUR_LATER)
    worker = flow.start(JOBQUEUE_KEEP_COMPLETED="0.001")

    async def nothing_is_left() -> bool:
        return int(await asked(database, KEPT)) == 0

    await wait_until(nothing_is_left, "jobs, phases and signals are gone")
    await flow.stop(worker)


async def test_each_cancel_between_phases_is_told_once(database: str, tmp_path: Path) -> None:
    """S2-30: 200 jobs go from phase to phase and are cancelled, each twice at once: 200 events, 200 deliveries."""
    async with phased(database, tmp_path) as flow:
        handles = await flow.read.defer_many([10_000] * CANCELS)
        ids = [handle.id for handle in handles]
        workers = [flow.start("--concurrency", str(CANCELS // WORKERS)) for _ in range(WORKERS)]

        async def all_are_on_their_way() -> bool:
            return int(await asked(database, BEGUN)) == CANCELS

        async def cancel_twice(id: UUID) -> None:
            await asyncio.gather(*(flow.app.jobs.cancel(id) for _ in range(2)))

        await wait_until(all_are_on_their_way, "all jobs have phases behind them")
        await bounded_map(cancel_twice, ids, 8)
        for id in ids:
            await flow.becomes(id, JobState.CANCELLED)
        await flow.delivered(CANCELS)
        await flow.stop(*workers)
        phases = {id: await flow.app.jobs.phases(id) for id in ids}

    assert dict.fromkeys(ids, 1) == Counter(await asked(database, TOLD))
    assert dict.fromkeys(map(str, ids), 1) == Counter(post.json["data"]["job_id"] for post in flow.receiver.posts)
    assert {"job.cancelled"} == {post.json["type"] for post in flow.receiver.posts}
    for found in phases.values():
        done = [phase for phase in found if phase.state is PhaseState.COMPLETED]
        assert [f"page {phase.result}" for phase in done] == [phase.name for phase in done]
        assert {PhaseState.CANCELLED} >= {phase.state for phase in found if phase not in done}
