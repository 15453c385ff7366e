"""The log: each move of a job stands in it once, written by the statement that makes the move."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from jobqueue import Cancel, Fatal, JobContext
from jobqueue.app import App
from jobqueue.base.errors import EventsLost
from jobqueue.base.flows.event import WHOLE, Choice, Event, Place
from jobqueue.base.flows.phase import Wait
from jobqueue.base.job import WorkerId
from jobqueue.base.outcome import Cancelled, Dead, Done, Outcome, PutAside, Released, Rescued, Retried, Snoozed
from jobqueue.base.steering import Action, Change
from jobqueue.store import leases, steering, upkeep
from jobqueue.store.connection.callers.on_asyncpg import OnAsyncpg
from jobqueue.store.connection.callers.on_sqlalchemy import OnSqlalchemy
from jobqueue.store.connection.executor import Executor
from jobqueue.store.connection.pool import Database
from jobqueue.store.flows.events import Settling, look_at_edge, read_events
from jobqueue.store.flows.signals import take_signals
from jobqueue.store.outcomes import Ended, complete_on
from jobqueue.store.progress import log_started, write_progress
from jobqueue.store.schema.statements import statement
from jobqueue.store.upkeep import Ages
from tests.app.test_sqlalchemy import on
from tests.support.jobs.store import (
    WORKER,
    claim,
    claim_one,
    connect,
    ended,
    failure,
    finish,
    insert,
    new_job,
    new_jobs,
    open_database,
    open_session,
    write,
)
from tests.support.jobs.working import end_of

Told: TypeAlias = tuple[str, UUID]


async def events_of(database: Database) -> list[Event]:
    """All that stands in the log."""
    settling, place, found = Settling(), Place.read("0"), list[Event]()
    while settling.edge is None:
        await look_at_edge(database, settling)
    while place.seq < settling.edge:
        entries, reached = await read_events(database, place, settling.edge)
        found += [entry.event(index) for entry in entries for index in Choice().indexes(entry, place)]
        place = reached
    return found


async def told(database: Database) -> list[Told]:
    return [(event.type, event.job_id) for event in await events_of(database)]


ENDS: list[tuple[Outcome, str]] = [
    (Done("1"), "job.completed"),
    (Cancelled("stale"), "job.cancelled"),
    (Cancelled("stale", failure()), "job.cancelled"),
    (Dead("fatal", failure()), "job.dead"),
    (Dead("expired"), "job.dead"),
    (Retried(failure(), delay=0.0), "job.retried"),
    (Rescued(failure(), 1.0), "job.retried"),
]
UNTOLD: list[Outcome] = [Snoozed(delay=5.0), PutAside("unknown"), Released(), Released(lost=True)]


@pytest.mark.parametrize(("outcome", "kind"), ENDS, ids=lambda part: getattr(part, "reason", None) or str(part)[:9])
async def test_an_end_is_told_once(database: str, outcome: Outcome, kind: str) -> None:
    """S2-10, S4-92, S4-95: an end is told with class, reason and attempt; a second write tells nothing."""
    async with open_database(database) as db, open_session(database) as session:
        (id,) = await insert(session, new_job("send", queue="mail", origin="shop"))
        row = await claim_one(session, queues=["mail"])
        for _ in range(3):
            await finish(session, row, outcome=outcome)
        (event,) = await events_of(db)

    error = getattr(outcome, "error", None)
    assert (kind, id, "send", "mail", "shop", 1) == (
        event.type, event.job_id, event.task, event.queue, event.origin, event.attempt,
    )  # fmt: skip
    assert (error and error.error_class) == event.error
    reasons = {"job.cancelled": "task", "job.dead": getattr(outcome, "reason", None)}
    assert reasons.get(kind) == event.reason
    assert (kind == "job.retried") == event.will_retry


@pytest.mark.parametrize("outcome", UNTOLD, ids=lambda outcome: f"{type(outcome).__name__}-{outcome}"[:20])
async def test_what_is_put_off_is_told_of_followed_jobs_only(database: str, outcome: Outcome) -> None:
    """S2-10: a snooze or a release spends no attempt: the log tells it of the jobs that somebody follows."""
    async with open_database(database) as db, open_session(database) as session:
        (plain,) = await insert(session, new_job())
        await finish(session, await claim_one(session), outcome=outcome)
        assert [] == await told(db)
        await steering.cancel(session, [plain])
        (followed,) = await insert(session, new_job(follow=True))
        await finish(session, await claim_one(session), outcome=outcome)
        kind = "job.snoozed" if isinstance(outcome, Snoozed) else "job.released"

        assert [("job.cancelled", plain), (kind, followed)] == await told(db)


async def test_one_row_tells_of_a_whole_batch(database: str) -> None:
    """500 jobs that end alike are one row of the log, and 500 events."""
    async with open_database(database) as db, open_session(database) as session, connect(database) as connection:
        ids = await insert(session, *new_jobs(500))
        await finish(session, *await claim(session, 500))

        assert {("job.completed", id) for id in ids} == set(await told(db))
        assert 1 == await connection.fetchval("select count(*) from jobqueue.event")


async def test_kinds_of_a_batch_are_told_apart(database: str) -> None:
    """What differs in task, queue, origin, class or reason stands in rows of its own."""
    async with open_database(database) as db, open_session(database) as session:
        await insert(session, *(new_job(task, origin=origin) for task in "ab" for origin in ("x", None)))
        rows = await claim(session)
        outcomes: list[Outcome] = [Done("1"), Dead("fatal", failure()), Cancelled("a"), Cancelled("b")]
        await write(session, [ended(row, outcome) for row, outcome in zip(rows, outcomes, strict=True)])
        found = {event.job_id: event for event in await events_of(db)}

    assert {
        row["id"]: (row["task"], row["origin"], type(outcome).__name__)
        for row, outcome in zip(rows, outcomes, strict=True)
    } == {id: (e.task, e.origin, KINDS[e.type]) for id, e in found.items()}


KINDS = {"job.completed": "Done", "job.dead": "Dead", "job.cancelled": "Cancelled"}


async def test_steering_is_told(database: str) -> None:
    """S2-16, S2-44: cancel, delete and revival are told once; what was refused, or changes no fate, is not."""
    async with open_database(database) as db, open_session(database) as session:
        one, two, three = await insert(session, *new_jobs(3))
        running = await claim_one(session)
        for _ in range(2):
            await steering.cancel(session, [two])
            await steering.cancel(session, [running["id"]])
        await steering.change(session, Action.MOVE, [three], queue="elsewhere")
        await steering.change(session, Action.RESCHEDULE, [three], delay=60.0)
        await steering.retry(session, [three])
        assert [("job.cancelled", two)] == await told(db)
        await finish(session, running, outcome=Retried(failure(), delay=0.0))  # it was asked to end
        await steering.retry(session, [two])
        await steering.delete(session, [two])
        for _ in range(2):
            await steering.delete(session, [one, three])
        found = await events_of(db)

    assert running["id"] == one
    assert [("job.cancelled", two), ("job.cancelled", one), ("job.revived", two), ("job.deleted", two)] == [
        (event.type, event.job_id) for event in found[:4]
    ]
    assert {("job.deleted", one), ("job.deleted", three)} == {(event.type, event.job_id) for event in found[4:]}


async def test_a_rescue_is_told(database: str) -> None:
    """S4-92: a job whose worker died is told as a failed attempt, one that dies of it as dead; each once."""
    async with open_database(database) as db, open_session(database) as session:
        ids = await insert(session, *new_jobs(2))
        gone = WorkerId(UUID(int=7))
        rows = await claim(session, 2)
        async with session.transaction():
            taken = await leases.take_expired(session, gone, 10, [WORKER], 0.0, max_crashes=1)
            crashed = failure("WorkerCrashed")
            ends: list[Outcome] = [Rescued(crashed, 1.0), Dead("crashed", crashed)]
            await leases.write_expired(
                session, {row["id"]: (row, end) for row, end in zip(sorted(taken, key=by_id), ends, strict=True)}
            )
        assert set() == await finish(session, *rows), "the late writer is refused"

        assert {("job.retried", ids[0]), ("job.dead", ids[1])} == set(await told(db))


def by_id(row: Any) -> UUID:
    id: UUID = row["id"]
    return id


async def test_starts_and_progress_of_followed_jobs(database: str) -> None:
    """S2-10: the log tells of starts, which only their holder can say, and of progress if the job is followed."""
    async with open_database(database) as db, open_session(database) as session:
        plain, followed = await insert(session, new_job(), new_job(follow=True))
        rows = {row["id"]: row for row in await claim(session, 2)}
        claims = [(row["id"], row["fence"]) for row in rows.values()]
        await log_started(session, WORKER, [claim for claim in claims if claim[0] == followed])
        await log_started(session, WorkerId(UUID(int=9)), claims)
        await write_progress(session, WORKER, [(id, row["fence"], '{"secret": 1}') for id, row in rows.items()])

        assert [("job.started", followed), ("job.progress", followed)] == await told(db)
        assert plain != followed


@asynccontextmanager
async def on_asyncpg(dsn: str) -> AsyncIterator[tuple[Executor, Callable[[], Awaitable[object]]]]:
    async with connect(dsn) as connection:
        await connection.execute("begin")
        yield OnAsyncpg(connection, "jobqueue"), lambda: connection.execute("commit")


@asynccontextmanager
async def on_sqlalchemy(dsn: str) -> AsyncIterator[tuple[Executor, Callable[[], Awaitable[object]]]]:
    engine = create_async_engine(on("asyncpg", dsn), poolclass=NullPool)
    async with engine.connect() as connection:
        yield OnSqlalchemy(connection, "jobqueue"), connection.commit
    await engine.dispose()


@pytest.mark.parametrize("begun", [on_asyncpg, on_sqlalchemy])
async def test_a_callers_transaction_is_told_at_its_commit(database: str, begun: Any) -> None:
    """What a transaction that stays open has to say holds up nobody, and is told once it has committed."""
    async with open_database(database) as db, open_session(database) as session, begun(database) as (theirs, commit):
        one, two, three = await insert(session, *new_jobs(3))
        await steering.delete(theirs, [one])
        await steering.cancel(theirs, [two])
        await steering.cancel(session, [three])
        assert [("job.cancelled", three)] == await told(db), "nobody waits for it"
        await commit()

        assert [("job.cancelled", three), ("job.deleted", one), ("job.cancelled", two)] == await told(db)


async def test_what_is_rolled_back_is_not_told(database: str) -> None:
    """A transaction, or a part of one, that is undone has said nothing; the rest of it is told."""
    async with open_database(database) as db, open_session(database) as session, connect(database) as connection:
        one, two, three = await insert(session, *new_jobs(3))
        with suppress(LookupError):
            async with connection.transaction():
                await steering.delete(OnAsyncpg(connection, "jobqueue"), [one])
                raise LookupError
        async with connection.transaction():
            with suppress(LookupError):
                async with connection.transaction():
                    await steering.delete(OnAsyncpg(connection, "jobqueue"), [two])
                    raise LookupError
            await steering.delete(OnAsyncpg(connection, "jobqueue"), [three])

        assert [("job.deleted", three)] == await told(db)
        assert 0 == await connection.fetchval("select count(*) from jobqueue.event_late")


async def test_a_completion_in_a_handlers_transaction_is_told_at_its_commit(database: str) -> None:
    """S2-38: `ctx.complete` in a transaction that goes on holds up no reader."""
    async with open_database(database) as db, open_session(database) as session, connect(database) as connection:
        await insert(session, *new_jobs(2))
        mine, other = await claim(session, 2)
        async with connection.transaction():
            assert await complete_on(
                OnAsyncpg(connection, "jobqueue"), WORKER, Ended(mine["id"], mine["fence"], Done("1"))
            )
            await finish(session, other)
            assert [("job.completed", other["id"])] == await told(db)

        assert [("job.completed", other["id"]), ("job.completed", mine["id"])] == await told(db)


async def test_nothing_private_stands_in_the_log(database: str) -> None:
    """S2-16: whatever happens to a job, no argument, result, progress or text of an error gets into the log."""
    app = App(database)
    marker = "marker-7d1f0c-secret"

    @app.task(follow=True)
    async def work(ctx: JobContext, text: str, end: int) -> str:
        ctx.progress(0.5, text, {"text": text})
        assert text == await ctx.phase("echo", str, text) == await ctx.wait_for("said", str)
        if end == 1:
            raise Fatal(text, data={"text": text})
        if end == 2:
            raise Cancel(text)
        return text

    async with app, app.worker(), connect(database) as connection:
        for end in (1, 2, 3):
            handle = await work.options(meta={"text": marker}).defer(marker, end)
            await handle.signal("said", marker)
            job = await end_of(app, handle)
            await app.jobs.retry(job.id)
            await end_of(app, work.handle(job.id))
            await app.jobs.delete(job.id)
        log = await connection.fetchval("select string_agg(e::text, ' ') from jobqueue.event e")

    assert {
        "job.started",
        "job.progress",
        "job.phase",
        "job.dead",
        "job.completed",
        "job.revived",
        "job.deleted",
    } <= set(re.findall(r"job\.[a-z]+", log))
    assert marker not in log


async def drop_log(dsn: str) -> None:
    """As if no worker had made the days of the log."""
    async with connect(dsn) as connection:
        for (leaf,) in await connection.fetch("select leaf from jobqueue.event_pieces()"):
            await connection.execute(f"drop table jobqueue.{leaf}")


async def test_a_day_that_nobody_has_made_is_made(database: str) -> None:
    """S2-15: no worker has run for days, and yet a finish, a retry, steering and a caller's commit find their day."""
    async with open_database(database) as db, open_session(database) as session, connect(database) as connection:
        ids = await insert(session, *new_jobs(6))
        rows = await claim(session, 3)
        await drop_log(database)
        assert {rows[0]["id"]} == await finish(session, rows[0])
        await drop_log(database)
        assert {rows[1]["id"]} == await finish(session, rows[1], outcome=Retried(failure(), delay=60.0))
        await drop_log(database)
        await connection.execute("update jobqueue.job set follow = 1 where id = $1", rows[2]["id"])
        wait = (rows[2]["id"], rows[2]["fence"]), Wait("wait", "wait", 1, 1, 60.0)
        assert [(rows[2]["fence"], "wait")] == list(await take_signals(session, WORKER, [wait]))
        await drop_log(database)
        assert {Change.DONE} == set((await steering.delete(session, [ids[3]])).values())
        await drop_log(database)
        assert {Change.DONE} == set((await steering.retry(session, [rows[0]["id"]])).values())
        await drop_log(database)
        async with connection.transaction():
            await steering.delete(OnAsyncpg(connection, "jobqueue"), [ids[4]])

        assert [("job.deleted", ids[4])] == await told(db)


async def test_days_of_the_log_are_dropped_by_their_age(database: str) -> None:
    """S2-15: a day goes once it is older than `keep_events`, and what it held counts as lost; younger ones stay."""
    async with open_database(database) as db, open_session(database) as session, connect(database) as connection:
        for days in (5, 4, 2):
            day = (datetime.now(UTC) - timedelta(days=days)).date()
            await connection.execute(
                f"create table jobqueue.event_{day:%Y%m%d} partition of jobqueue.event for values"
                f" from ('{day} 00:00+00') to ('{day + timedelta(days=1)} 00:00+00')"
            )
            await connection.execute(
                "insert into jobqueue.event (at, type) values ($1, 'x')", datetime.now(UTC) - timedelta(days=days)
            )
        assert 0 == (await upkeep.sweep(db, Ages())).days
        assert 2 == (await upkeep.sweep(db, Ages(events=3 * 86_400.0))).days
        assert 2 == await connection.fetchval("select seq from jobqueue.event_floor")
        (id,) = await insert(session, new_job())
        await steering.delete(session, [id])
        with pytest.raises(EventsLost) as lost:
            await read_events(db, Place(1, WHOLE), 4)
        entries, reached = await read_events(db, Place.read(lost.value.oldest), 4)

    assert (3, [3, 4]) == (Place.read(lost.value.oldest).seq + 1, [entry.seq for entry in entries])
    assert Place(4, WHOLE) == reached


async def test_a_publication_of_all_tables_stops_nothing(database: str) -> None:
    """What the log changes in its tables, retention's note and a caller's late row, can be published."""
    async with open_database(database) as db, open_session(database) as session, connect(database) as connection:
        await connection.execute("create publication everything for all tables")
        day = (datetime.now(UTC) - timedelta(days=5)).date()
        await connection.execute(
            f"create table jobqueue.event_{day:%Y%m%d} partition of jobqueue.event for values"
            f" from ('{day} 00:00+00') to ('{day + timedelta(days=1)} 00:00+00')"
        )
        assert 1 == (await upkeep.sweep(db, Ages(events=3 * 86_400.0))).days
        (id,) = await insert(session, new_job())
        async with connection.transaction():
            await steering.delete(OnAsyncpg(connection, "jobqueue"), [id])

        assert [("job.deleted", id)] == await told(db)


async def test_nothing_is_settled_while_a_writer_may_come(database: str) -> None:
    """A number is read once all who drew earlier ones have ended; those who came later are not waited for."""
    async with open_database(database) as db, connect(database) as early, connect(database) as late:
        settling = Settling()
        await look_at_edge(db, settling)
        assert (0, False) == (settling.edge, settling.waits)
        for number, connection in enumerate((early, late), 1):
            await connection.execute("begin")
            await connection.execute(statement("log_started"), [], [], WORKER)  # takes the lock, draws no number
            await connection.execute("insert into jobqueue.event (type) values ('x')")
            if number == 1:
                await look_at_edge(db, settling)
        await look_at_edge(db, settling)
        assert (0, True) == (settling.edge, settling.waits)
        await early.execute("rollback")
        await look_at_edge(db, settling)
        assert (1, True) == (settling.edge, settling.waits), "the late one holds up what it drew itself"
        await late.execute("commit")
        await look_at_edge(db, settling)
        assert (2, False) == (settling.edge, settling.waits)


def test_an_edge_never_goes_back() -> None:
    """Looks that come out of order, or a sequence that a failover has set back, unsettle nothing."""
    settling = Settling()
    for last, writers in ((7, []), (3, []), (9, ["a"]), (4, ["b"]), (11, ["b"])):
        settling.look(last, writers)

    assert (9, True) == (settling.edge, settling.waits)


def test_a_prepared_transaction_is_waited_for_over_a_restart() -> None:
    """A writer that was prepared has another name once the server has started anew: still nothing is settled."""
    settling = Settling()
    for last, writers in ((3, []), (9, ["4/17"]), (11, ["-1/731"])):
        settling.look(last, writers)
    assert (3, True) == (settling.edge, settling.waits)

    settling.look(11, [])
    assert (11, False) == (settling.edge, settling.waits)
