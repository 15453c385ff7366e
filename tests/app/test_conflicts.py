"""Unique(on_conflict=...): what a defer does to the job that holds its key, by every way to defer."""

from collections.abc import Awaitable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest

from jobqueue.app import App
from jobqueue.base.errors import DuplicateJob
from jobqueue.base.job import Conflict, Job, JobState
from jobqueue.tasks.handle import JobHandle
from jobqueue.tasks.options import Unique
from tests.support.jobs.blocked import block
from tests.support.jobs.deferring import WAYS, Note, many, unique
from tests.support.jobs.store import Connection, claim_one, connect, finish, open_session
from tests.support.jobs.working import asked, asleep, counted, new_app, reached
from tests.support.patience import PATIENCE

CONFLICTS = ["skip", "raise", "replace", "move", "replace+move"]
DONE = {"replace": "replaced", "move": "moved", "replace+move": "replaced+moved"}
SCOPES = ["waiting", "unfinished", "period"]
STATES = ["scheduled", "blocked", "ready", "running", "finished"]
LATER = timedelta(minutes=10)
COUNT = "select count(*) from jobqueue.job"


async def note(text: str) -> str:
    return text


# The table.


async def holding(app: App, session: Any, connection: Connection, task: Note, key: Unique, state: str) -> Job:
    """The job that holds the key, or held it, in this state."""
    waiting = task.options(unique=key, delay=3600 if state == "scheduled" else None, meta={"old": 1}, expires=7200)
    handle = await waiting.defer("old")
    if state in ("running", "finished"):
        row = await claim_one(session)
        assert handle.id == row["id"]
        if state == "finished":
            await finish(session, row)
    if state == "blocked":
        await block(connection, handle.id)
    return await app.jobs.get(handle.id)


def expected(conflict: str, scope: str, state: str) -> Conflict | str:
    """What becomes of a job that comes when another of this state has, or had, its key."""
    if (state == "running" and scope == "waiting") or (state == "finished" and scope != "period"):
        return "stored"
    if conflict == "raise":
        return "raised"
    waits = state in ("scheduled", "blocked", "ready")
    return Conflict.SKIPPED if conflict == "skip" or not waits else Conflict(DONE[conflict])


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("conflict", CONFLICTS)
async def test_what_becomes_of_the_holder(conflict: str, scope: str, database: str) -> None:
    """S0-25, A10: for each conflict and scope, whatever the holder's state and the way to defer: as the table says."""
    app = App(database)
    task: Note = app.task(note)
    async with open_session(database) as session, connect(database) as connection:
        for state, way in product(STATES, WAYS):
            key = f"{state} {way.__name__}"
            label = f"{conflict} of {scope}, {key}"
            before = await holding(app, session, connection, task, unique(key, scope=scope), state)
            jobs = await connection.fetchval(COUNT)
            new = task.options(unique=unique(key, conflict, scope), delay=LATER, meta={"new": 1}, expires=30)
            answer = await answer_of(way(app, new, "new"))
            after = await app.jobs.get(before.id)
            told = told_of(answer, before)
            assert expected(conflict, scope, state) == told, label
            assert_changed(before, after, told, label)
            others = 2 if way is many and told != "raised" else 0
            assert jobs + others + (told == "stored") == await connection.fetchval(COUNT), label
            await connection.execute("delete from jobqueue.job; delete from jobqueue.job_key")
    await app.close()


async def answer_of(defer: Awaitable[JobHandle[Any]]) -> JobHandle[Any] | DuplicateJob:
    try:
        return await defer
    except DuplicateJob as error:
        return error


def told_of(answer: JobHandle[Any] | DuplicateJob, holder: Job) -> Conflict | str:
    if isinstance(answer, DuplicateJob):
        assert (holder.id, "note") == (answer.id, answer.task)
        return "raised"
    assert answer.duplicate is (answer.conflict is not None) is (answer.id == holder.id)
    return answer.conflict or "stored"


def assert_changed(before: Job, after: Job, told: str, label: str) -> None:
    """Nothing of the holder has changed but what was told."""
    if "replaced" in told:
        assert ({"text": "new"}, {"new": 1}) == (after.args, after.meta), label
        after = replace(after, args_json=before.args_json, meta_json=before.meta_json)
    if "moved" in told:
        assert (JobState.BLOCKED if before.state is JobState.BLOCKED else JobState.SCHEDULED) is after.state, label
        assert abs(after.due_at - datetime.now(UTC) - LATER) < timedelta(seconds=20), label
        after = replace(after, due_at=before.due_at, state=before.state, expires_at=before.expires_at)
    assert before == after, label


# Moves.


@pytest.mark.parametrize("conflict", ["move", "replace+move"])
async def test_without_a_time_a_move_is_now(conflict: str, database: str) -> None:
    """A10, A12: the holder of a later defer that names no time is due at once, and a sleeping worker starts it."""
    app = new_app(database)
    task = app.task(note)
    first = await task.options(unique=unique("k"), delay=3600).defer("old")
    async with app.worker():
        await asleep(database)
        again = await task.options(unique=unique("k", conflict)).defer("new")
        await reached(app, first, JobState.COMPLETED)

    assert first == again
    assert ("new" if "replace" in conflict else "old") == await again.result(timeout=PATIENCE)
    await app.close()


async def test_a_nearer_time_wakes_the_stager(database: str) -> None:
    """A12: a holder that is moved from an hour away to a moment away runs then, though the worker slept."""
    app = new_app(database)
    task = app.task(note)
    await task.options(unique=unique("k"), delay=3600).defer("old")
    async with app.worker():
        await asleep(database)
        again = await task.options(unique=unique("k", "move"), delay=0.3).defer("new")
        await reached(app, again, JobState.COMPLETED)

    assert "old" == await again.result(timeout=PATIENCE)
    await app.close()


async def test_a_moved_job_lines_up_anew(database: str) -> None:
    """A10: as after `app.jobs.reschedule`, a ready job that is moved stands behind those that were ready before."""
    app = App(database)
    ran: list[str] = []

    @app.task
    async def note(text: str) -> None:
        ran.append(text)

    await note.options(unique=unique("moved")).defer("moved")
    await note.options(unique=unique("replaced")).defer("old")
    await note.defer("last")
    await note.options(unique=unique("moved", "move")).defer("new")
    await note.options(unique=unique("replaced", "replace")).defer("replaced")
    await app.run_worker(concurrency=1, burst=True)

    assert ["replaced", "last", "moved"] == ran
    await app.close()


async def test_a_debounce_runs_once_with_the_last_arguments(database: str) -> None:
    """A10: `replace+move` again and again is one job: the last arguments, at the last time."""
    app = App(database)
    at = datetime.now(UTC) + timedelta(hours=1)
    task = app.task(note).options(unique=unique("k", "replace+move", "waiting"))
    handles = [await task.options(at=at + n * LATER, meta={"n": n}).defer(str(n)) for n in range(5)]

    assert [None] + [Conflict.REPLACED_AND_MOVED] * 4 == [handle.conflict for handle in handles]
    job = await app.jobs.get(handles[0].id)
    assert (1, {"text": "4"}, {"n": 4}, at + 4 * LATER) == (len(set(handles)), job.args, job.meta, job.due_at)
    assert 1 == await counted(database)
    await app.close()


async def test_meta_stays_unless_it_is_given(database: str) -> None:
    """A10: a replace without `meta` leaves the holder's."""
    app = App(database)
    task = app.task(note)
    handle = await task.options(unique=unique("k"), meta={"a": 1}).defer("old")
    await task.options(unique=unique("k", "replace")).defer("new")

    job = await app.jobs.get(handle.id)
    assert ({"text": "new"}, {"a": 1}) == (job.args, job.meta)
    await app.close()


async def test_a_replaced_job_keeps_its_history(database: str) -> None:
    """A10: a job that failed and waits for its next attempt keeps attempts and errors; it runs the new arguments."""
    app = App(database)

    @app.task(retry=lambda job, error: 3600)
    async def fail(text: str) -> None:
        raise LookupError(text)

    handle = await fail.options(unique=unique("k")).defer("old")
    await app.run_until_idle()
    before = await app.jobs.get(handle.id)
    again = await fail.options(unique=unique("k", "replace+move")).defer("new")
    after = await app.jobs.get(handle.id)

    assert (Conflict.REPLACED_AND_MOVED, 1, 1) == (again.conflict, after.attempt, len(after.errors))
    assert before.errors == after.errors
    await app.run_until_idle()
    assert ["old", "new"] == [error.message for error in (await app.jobs.get(handle.id)).errors]
    await app.close()


# One key twice in one call.


@pytest.mark.parametrize("held", [False, True], ids=["free", "held"])
@pytest.mark.parametrize("conflict", ["replace", "move", "replace+move"])
async def test_in_one_batch_the_last_wins(conflict: str, held: bool, database: str) -> None:
    """S0-25, A10: of several jobs with a key in one batch there is one, and it is as the last of them wants it."""
    app = App(database)
    task = app.task(note)
    at = datetime.now(UTC) + timedelta(hours=1)
    before = await task.options(unique=unique("k"), at=at - LATER).defer_many(["held"] * held)
    jobs = [task.options(unique=unique("k", conflict), at=at + n * LATER, meta={"n": n}).job(str(n)) for n in range(3)]
    handles = await app.defer_many([task.job("other"), *jobs])

    assert 1 == len({*before, *handles[1:]})
    done = DONE[conflict]
    assert [None, done if held else None, done, done] == [handle.conflict for handle in handles]
    job = await app.jobs.get(handles[-1].id)
    kept = ("held", None, at - LATER) if held else ("0", {"n": 0}, at)
    assert ("2" if "replace" in conflict else kept[0], {"n": 2} if "replace" in conflict else kept[1]) == (
        job.args["text"],
        job.meta,
    )
    assert (at + 2 * LATER if "move" in conflict else kept[2]) == job.due_at
    assert 2 == await counted(database)
    await app.close()


async def test_each_job_of_a_batch_says_for_itself(database: str) -> None:
    """A10: jobs with one key and different words in one batch act in their order."""
    app = App(database)
    task = app.task(note)
    words = ["replace", "skip", "move", "skip"]
    jobs = [task.options(unique=unique("k", word), delay=60 * n).job(str(n)) for n, word in enumerate(words)]
    handles = await app.defer_many(jobs)

    assert [None, "skipped", "moved", "skipped"] == [handle.conflict for handle in handles]
    job = await app.jobs.get(handles[0].id)
    assert ("0", timedelta(seconds=120)) == (job.args["text"], job.due_at - job.created_at)
    await app.close()


@pytest.mark.parametrize("held", [False, True], ids=["free", "held"])
async def test_a_batch_that_raises_stores_nothing(held: bool, database: str) -> None:
    """S0-20, A10: one conflict in a batch, with an older job or one of the batch: no job, no key, no change."""
    app = App(database)
    task = app.task(note)
    replaced = await task.options(unique=unique("r")).defer("old")
    holder = await task.options(unique=unique("k")).defer("held") if held else None
    jobs = [
        task.job("plain"),
        task.options(unique=unique("r", "replace+move"), delay=60).job("new"),
        task.options(unique=unique("new", "raise")).job("keyed"),
        task.options(unique=unique("k", "raise")).job("first"),
        *[task.options(unique=unique("k", "raise")).job("second")] * (not held),
    ]
    before = (await counted(database), await asked(database, "select count(*) from jobqueue.job_key"))
    with pytest.raises(DuplicateJob) as told:
        await app.defer_many(jobs)

    assert (holder.id if holder else jobs[3].id) == told.value.id
    assert ("of this very call" in str(told.value)) is (holder is None)
    assert before == (await counted(database), await asked(database, "select count(*) from jobqueue.job_key"))
    job = await app.jobs.get(replaced.id)
    assert ({"text": "old"}, JobState.READY) == (job.args, job.state)
    await app.close()
