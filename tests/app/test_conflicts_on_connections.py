"""Unique(on_conflict=...) in the caller's transaction, sent again, and seen from around."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool
from uuid_utils.compat import uuid7

from jobqueue.app import App
from jobqueue.base.errors import DuplicateJob, InvalidPayload
from jobqueue.base.job import Conflict, JobState, NewJob, Sent
from jobqueue.tasks.options import Unique
from tests.support.jobs.deferring import WAYS, Way, alone, for_sqlalchemy, on_asyncpg, on_psycopg, on_sqlalchemy, unique
from tests.support.jobs.store import claim_one, connect, finish, open_session
from tests.support.jobs.stories import whole_story
from tests.support.jobs.working import asked, asleep, counted, new_app, reached
from tests.support.patience import PATIENCE
from tests.support.postgres.backends import change

CONFLICTS = ["skip", "raise", "replace", "move", "replace+move"]
SECRET = "marker-7f3a"
REFUSE_BAD = "alter table jobqueue.job add constraint no_bad_jobs check (args ->> 'text' not like '%bad%')"


async def note(text: str) -> str:
    return text


# The caller's transaction.


@pytest.mark.parametrize("isolation", ["read_committed", "repeatable_read", "serializable"])
async def test_a_transaction_goes_on_after_a_duplicate(isolation: Any, database: str) -> None:
    """S1-05, A10: in a caller's transaction nothing of ours is left, keys and locks included, and theirs commits."""
    app = App(database)
    task = app.task(note)
    await change(database, "create table invoice (number integer primary key)")
    first = await task.options(unique=unique("replaced")).defer("old")
    second = await task.options(unique=unique("k")).defer("held")
    async with connect(database) as connection, connection.transaction(isolation=isolation):
        await connection.execute("insert into invoice values (1)")
        jobs = [
            task.job("plain"),
            task.options(unique=unique("replaced", "replace")).job("new"),
            task.options(unique=unique("new", "raise")).job("keyed"),
            task.options(unique=unique("k", "raise")).job("first"),
        ]
        with pytest.raises(DuplicateJob) as told:
            await app.defer_many(jobs, connection=connection)
        assert second.id == told.value.id
        async with open_session(database) as session:
            assert first.id == (await claim_one(session))["id"], "its lock is gone, before the caller commits"
        kept = await task.options(unique=unique("own", "raise"), connection=connection).defer("kept")
        await connection.execute("insert into invoice values (2)")

    assert 2 == await asked(database, "select count(*) from invoice")
    assert 0 == await asked(database, "select count(*) from jobqueue.job_key where key like '%new'")
    assert (3, JobState.READY) == (await counted(database), await kept.status())
    await app.close()


async def test_a_session_goes_on_after_a_duplicate(database: str) -> None:
    """S1-05, A10: the same for a session of SQLAlchemy's: its transaction stays usable, no key of ours is in it."""
    app = App(database)
    task = app.task(note)
    await change(database, "create table invoice (number integer primary key)")
    holder = await task.options(unique=unique("k")).defer("held")
    engine = create_async_engine(for_sqlalchemy(database), poolclass=NullPool)
    async with AsyncSession(engine) as session:
        jobs = [task.options(unique=unique(key, "raise")).job("first") for key in ("a", "k", "z")]
        with pytest.raises(DuplicateJob) as told:
            await app.defer_many(jobs, connection=session)
        assert holder.id == told.value.id
        await session.execute(text("insert into invoice values (1)"))
        await task.options(unique=unique("own", "raise"), connection=session).defer("kept")
        await session.commit()
    await engine.dispose()

    assert (2, 2) == (await counted(database), await asked(database, "select count(*) from jobqueue.job_key"))
    assert 1 == await asked(database, "select count(*) from invoice")
    await app.close()


@pytest.mark.parametrize("autocommit", [True, False])
async def test_psycopg_goes_on_after_a_duplicate(autocommit: bool, database: str) -> None:
    """S1-05, A10: the same for psycopg, whatever rows and cursors the connection makes."""
    app = App(database)
    task = app.task(note)
    await change(database, "create table invoice (number integer primary key)")
    holder = await task.options(unique=unique("k")).defer("held")

    def produce() -> None:
        with psycopg.connect(database, autocommit=autocommit, cursor_factory=psycopg.RawCursor) as connection:
            connection.execute("insert into invoice values (1)")
            with pytest.raises(DuplicateJob) as told:
                task.options(unique=unique("k", "raise"), connection=connection).defer_sync("refused")
            assert holder.id == told.value.id
            task.options(unique=unique("own", "raise"), connection=connection).defer_sync("kept")

    await asyncio.to_thread(produce)
    assert (2, 2) == (await counted(database), await asked(database, "select count(*) from jobqueue.job_key"))
    assert 1 == await asked(database, "select count(*) from invoice")
    await app.close()


@pytest.mark.parametrize("commits", [True, False], ids=["commit", "rollback"])
async def test_a_change_joins_the_callers_transaction(commits: bool, database: str) -> None:
    """S1-05, A10: what a defer does to the holder shows after the commit, or never; the same call may do it twice."""
    app = App(database)
    task = app.task(note)
    handle = await task.options(unique=unique("k"), delay=3600).defer("old")
    before = await app.jobs.get(handle.id)
    async with connect(database) as connection:
        transaction = connection.transaction()
        await transaction.start()
        on_it = task.options(connection=connection, unique=unique("k", "replace+move"))
        assert [handle] * 2 == [await on_it.defer("first"), await on_it.defer("second")]
        assert before == await app.jobs.get(handle.id)
        await (transaction.commit() if commits else transaction.rollback())

    after = await app.jobs.get(handle.id)
    assert (("second", JobState.READY) if commits else ("old", JobState.SCHEDULED)) == (after.args["text"], after.state)
    await app.close()


@pytest.mark.parametrize("delay", [None, 0.5], ids=["ready", "scheduled"])
async def test_a_worker_that_skipped_a_held_job_hears_of_it(delay: float | None, database: str) -> None:
    """A12: while a transaction has replaced a job nobody can start it; with the commit it starts, without a poll."""
    app = new_app(database)
    task = app.task(note)
    handle = await task.options(unique=unique("k"), delay=delay).defer("old")
    async with connect(database) as connection, connection.transaction():
        await task.options(connection=connection, unique=unique("k", "replace")).defer("new")
        worker = await start(app)
        if delay:
            await asked(database, "select pg_sleep($1)", delay)  # its time comes and goes
        other = await task.defer("other")
        await reached(app, other, JobState.COMPLETED)  # the worker looks, and skips what is locked
        await asleep(database)
    await reached(app, handle, JobState.COMPLETED)
    await worker()
    assert "new" == await handle.result(timeout=PATIENCE)
    await app.close()


async def start(app: App) -> Callable[[], Awaitable[None]]:
    """A worker that runs until its end is called."""
    worker = app.worker()
    await worker.__aenter__()

    async def end() -> None:
        await worker.__aexit__(None, None, None)

    return end


# Sending again.


@pytest.mark.parametrize("way", [alone, on_asyncpg, on_sqlalchemy, on_psycopg])
@pytest.mark.parametrize("conflict", CONFLICTS)
async def test_a_job_sent_again_is_no_conflict_with_itself(conflict: str, way: Way, database: str) -> None:
    """S4-02, A10: whatever is said about conflicts, a job's own id sent again is its duplicate, and changes nothing."""
    app = App(database)
    task = app.task(note).options(id=uuid7(), unique=unique("k", conflict), delay=60)
    first = await way(app, task, "a")
    before = await app.jobs.get(first.id)
    again = await way(app, task.options(delay=3600), "b")

    assert (first, True, None) == (again, again.duplicate, again.conflict)
    assert before == await app.jobs.get(first.id)
    await app.close()


@pytest.mark.parametrize("ended", [False, True], ids=["running", "ended"])
@pytest.mark.parametrize("conflict", ["raise", "replace", "move", "replace+move"])
async def test_a_job_sent_again_leaves_the_next_holder_alone(conflict: str, ended: bool, database: str) -> None:
    """S4-02, A10: sent again when another job holds its key by now, it is known: no error, and no old arguments."""
    app = App(database)
    task = app.task(note).options(unique=unique("k", conflict, "waiting"))
    mine = task.options(id=uuid7(), delay=0.0)
    first = await mine.defer("a")
    async with open_session(database) as session:
        row = await claim_one(session)
        if ended:
            await finish(session, row)
    second = await task.options(delay=3600).defer("newer")
    before = await app.jobs.get(second.id)
    again = await mine.defer("a")

    assert (first, True, None) == (again, again.duplicate, again.conflict)
    assert before == await app.jobs.get(second.id)
    await app.close()


# Around it.


@pytest.mark.parametrize("many", [False, True], ids=["defer", "defer_many"])
async def test_middleware_sees_the_same_job_and_answer(many: bool, database: str) -> None:
    """A10: middleware around a defer sees what the job says about conflicts, and what became of it."""

    @dataclass
    class Seen:
        jobs: list[str] = field(default_factory=list)
        answers: list[Conflict | None] = field(default_factory=list)
        raised: list[UUID] = field(default_factory=list)

    seen = Seen()

    async def watch(job: NewJob[Any], call_next: Any) -> Sent:
        seen.jobs.append(job.on_conflict)
        try:
            sent: Sent = await call_next(job)
        except DuplicateJob as error:
            seen.raised.append(error.id)
            raise
        seen.answers.append(sent.conflict)
        return sent

    app = App(database, middleware=[watch])
    task = app.task(note)
    first = await task.options(unique=unique("k")).defer("old")
    new = task.options(unique=unique("k", "replace"))
    await (new.defer_many(["new"]) if many else new.defer("new"))
    with pytest.raises(DuplicateJob):
        await task.options(unique=unique("k", "raise")).defer("refused")

    assert ["skip", "replace", "raise"] == seen.jobs
    assert [None, Conflict.REPLACED] == seen.answers
    assert [first.id] == seen.raised
    await app.close()


@pytest.mark.parametrize("way", WAYS)
async def test_no_error_shows_a_payload(way: Way, database: str) -> None:
    """S3-20, A10: neither a refused conflict nor arguments that the database refuses for the holder are quoted."""
    app = App(database)
    task = app.task(note)
    await change(database, REFUSE_BAD)
    first = await task.options(unique=unique("k")).defer(f"good {SECRET}")
    stories = []
    for conflict, error in (("raise", DuplicateJob), ("replace", InvalidPayload), ("replace+move", InvalidPayload)):
        with pytest.raises(error) as told:
            await way(app, task.options(unique=unique("k", conflict)), f"bad {SECRET}")
        stories.append(whole_story(told.value))

    assert [] == [story for story in stories if SECRET in story]
    assert {"text": f"good {SECRET}"} == (await app.jobs.get(first.id)).args
    assert 1 == await counted(database)
    await app.close()


# A caller who gives up in between.


async def test_a_cancelled_defer_leaves_no_key_in_the_callers_transaction(database: str) -> None:
    """Promise 4, A10: given up after any of its statements, a keyed defer leaves nothing, though the caller commits."""
    async with App(database) as app, connect(database) as connection:
        task = app.task(note)
        keys, jobs = "select key, job_id from jobqueue.job_key", "select key, id from jobqueue.job"
        tried = given_up = 0
        while tried == given_up:
            tried += 1
            async with connection.transaction():
                defer = task.options(connection=connection, unique=f"k{tried}").defer("a")
                given_up += await cancelled_after(tried, connection, asyncio.ensure_future(defer))
            assert set(await connection.fetch(keys)) == set(await connection.fetch(jobs))
            assert tried - given_up <= await counted(database) <= 1
    assert given_up >= 3, "a savepoint, the key, the job"


async def cancelled_after(statements: int, connection: Any, task: "asyncio.Future[Any]") -> bool:
    """Cancel as soon as so many statements are answered, which is while the next one runs; False if there is none."""
    answered = count(1)

    def answer(_: object) -> None:
        if next(answered) == statements:
            task.cancel()

    with connection.query_logger(answer):
        await asyncio.wait([task])
    return task.cancelled()


async def test_a_resend_of_a_running_job_does_not_take_its_key_back(database: str) -> None:
    """A10: the key of scope `waiting` is free from the claim on, also if the first defer is sent again."""
    app = App(database)
    began, release = asyncio.Event(), asyncio.Event()

    @app.task(unique=Unique("k", scope="waiting"))
    async def work(text: str) -> None:
        began.set()
        await release.wait()

    async with app, app.worker():
        first = await work.options(id=uuid7()).defer("a")
        await began.wait()
        again = await work.options(id=first.id).defer("a")
        second = await work.defer("b")
        assert (True, False) == (again.duplicate, second.duplicate)
        release.set()
        await second.result(timeout=PATIENCE)
