"""What the tests of the store stand on: a database opened as an app opens it, new jobs, and a look behind its back."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
from uuid_utils.compat import uuid7

from jobqueue.base.job import AttemptError, NewJob, WorkerId
from jobqueue.base.outcome import Done, Outcome
from jobqueue.store import claims, intake, outcomes
from jobqueue.store.claims import EVERYTHING, Arm, Claim
from jobqueue.store.connection.executor import Executor
from jobqueue.store.connection.pool import Database
from jobqueue.store.connection.session import Session
from jobqueue.store.outcomes import Ended
from tests.support.patience import PATIENCE
from tests.support.postgres.kept import kept_for, open_plain
from tests.support.waiting import wait_until

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

WORKER = WorkerId(UUID("01900000-0000-7000-8000-000000000001"))
LEASE = 20.0


@asynccontextmanager
async def open_database(dsn: str, *, schema: str = "jobqueue", max_size: int = 8) -> AsyncIterator[Database]:
    """A checked database, closed afterwards."""
    database = await Database.open(dsn, schema, name="tests", max_size=max_size)
    try:
        await database.reach()
        await database.check()
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def open_session(dsn: str, *, schema: str = "jobqueue") -> AsyncIterator[Session]:
    """One session on a database of its own."""
    async with open_sessions(dsn, 1, schema=schema) as (session,):
        yield session


@asynccontextmanager
async def open_sessions(dsn: str, count: int, *, schema: str = "jobqueue") -> AsyncIterator[list[Session]]:
    """Some sessions on one database, each with a connection of its own."""
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(dsn, schema=schema, max_size=count + 2))
        sessions = [Session(database) for _ in range(count)]
        for session in sessions:
            stack.push_async_callback(session.close)
        yield sessions


@asynccontextmanager
async def connect(dsn: str, **settings: str) -> AsyncIterator[Connection]:
    """A plain connection, which knows nothing of jobqueue."""
    kept = None if settings else kept_for(dsn)
    connection = await (open_plain(dsn, **settings) if kept is None else kept.take())
    try:
        yield connection
    finally:
        if connection.is_in_transaction():  # the test failed in there
            connection.terminate()
        elif kept is None:
            await connection.close(timeout=PATIENCE)
        else:
            await kept.give(connection)


def new_job(task: str = "task", args: str = "{}", **said: Any) -> NewJob[None]:
    """A new job with an id of its own."""
    return NewJob(**{"id": uuid7(), "task": task, "args": args, **said})


def new_jobs(count: int, **said: Any) -> list[NewJob[None]]:
    return [new_job(**said) for _ in range(count)]


async def insert(session: Session, *jobs: NewJob[None]) -> list[UUID]:
    """Insert the jobs and return the ids that the callers are told."""
    return [sent.id for sent in await intake.insert_all(session, jobs, always=False)]


async def claim(
    session: Session,
    room: int = 100,
    *,
    queues: Sequence[str] = ("default",),
    number: int = 1,
    lease: float = LEASE,
    arms: Sequence[Arm] = (EVERYTHING,),
    unknown: Sequence[str] = (),
    aside_age: float = 0.0,
) -> list[Claim]:
    """Claim up to `room` jobs of each queue, and of all."""
    rooms = dict.fromkeys(queues, room)
    return await claims.claim(
        session, WORKER, number, lease, rooms, room, arms=lambda _: arms, unknown=unknown, aside_age=aside_age
    )


async def ready_queues(session: Session) -> list[str]:
    """The queues that have ready jobs."""
    ready, *_ = await claims.ready_between(session, *claims.EVERYTHING[2:])
    return sorted({job.queue for job in ready})


async def claim_one(session: Session, **said: Any) -> Claim:
    (row,) = await claim(session, 1, **said)
    return row


def ended(row: Claim, outcome: Outcome | None = None, *, fence: int | None = None) -> Ended:
    """How the attempt of a claimed row ended; completed unless said otherwise."""
    return Ended(row["id"], row["fence"] if fence is None else fence, outcome or Done("null"))


async def write(session: Executor, batch: Sequence[Ended]) -> set[UUID]:
    """Write outcomes of WORKER's claims; the ids that were written, now or before."""
    return set(await write_each(session, batch))


async def write_each(session: Executor, batch: Sequence[Ended]) -> dict[UUID, Outcome]:
    """The same, with the outcome that each job got."""
    return dict((await outcomes.write(session, WORKER, batch)).outcomes)


async def finish(session: Session, *rows: Claim, outcome: Outcome | None = None) -> set[UUID]:
    return await write(session, [ended(row, outcome) for row in rows])


def failure(message: str = "no", attempt: int = 1) -> AttemptError:
    return AttemptError("ValueError", message, attempt=attempt)


async def seen_waiting(observer: Connection, pid: int, on: str = "Lock") -> None:
    """Return once the backend `pid` waits for what another holds."""

    async def waits() -> bool:
        return bool(
            await observer.fetchval("select wait_event_type = $2 from pg_stat_activity where pid = $1", pid, on)
        )

    await wait_until(waits, f"backend {pid} waits for a {on}")


async def somebody_waits(observer: Connection) -> bool:
    """Tell whether anybody in this database waits for a lock."""
    return bool(
        await observer.fetchval(
            "select exists (select from pg_stat_activity"
            " where datname = current_database() and wait_event_type = 'Lock')"
        )
    )


async def advisory_locks(observer: Connection, *, granted: bool = True) -> int:
    """How many advisory locks of this database are held, or waited for."""
    return int(
        await observer.fetchval(
            "select count(*) from pg_locks where locktype = 'advisory' and granted = $1"
            " and database = (select oid from pg_database where datname = current_database())",
            granted,
        )
    )


async def backend_of(session: Session) -> int:
    """The process id of the session's backend."""
    await session.ready()
    return int(session._connection.get_server_pid())
