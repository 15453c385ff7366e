"""Every way in which a member can end is one row here: what its bundle counts afterwards."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from jobqueue.base.outcome import Cancelled, Dead, Outcome, Released, Retried
from jobqueue.store import leases, steering
from jobqueue.store.connection.callers.on_asyncpg import OnAsyncpg
from jobqueue.store.connection.session import Session
from jobqueue.store.outcomes import complete_on
from tests.support.jobs.bundled import CALLBACKS, counts, fold, now, stored
from tests.support.jobs.deaths import left_running
from tests.support.jobs.store import WORKER, claim, connect, ended, failure, finish, open_session


@dataclass
class Member:
    """The one that is to end."""

    session: Session
    dsn: str
    id: UUID
    row: Any = None

    async def claimed(self) -> "Member":
        self.row = next(row for row in await claim(self.session) if row["id"] == self.id)
        return self

    async def ends(self, outcome: Outcome | None = None) -> None:
        await finish(self.session, (await self.claimed()).row, outcome=outcome)


async def in_its_own_transaction(member: Member) -> None:
    await member.claimed()
    async with connect(member.dsn) as connection, connection.transaction():
        assert await complete_on(OnAsyncpg(connection, "jobqueue"), WORKER, ended(member.row))


async def rescued_dead(member: Member) -> None:
    await left_running(member.dsn, [member.id])
    async with connect(member.dsn) as connection:
        await connection.execute("update jobqueue.job set crashes = 2, max_attempts = 1")
    async with member.session.transaction():
        rows = await leases.take_expired(member.session, WORKER, 10, (), 0.0)
        await leases.write_expired(member.session, {row["id"]: (row, Dead("crashed", failure())) for row in rows})


async def cancelled_by_a_caller(member: Member) -> None:
    async with connect(member.dsn) as connection, connection.transaction():
        await steering.cancel(OnAsyncpg(connection, "jobqueue"), [member.id])


async def retried_after(member: Member, outcome: Outcome | None) -> None:
    await member.ends(outcome)
    await steering.retry(member.session, [member.id])


async def asked_while_it_retries(member: Member) -> None:
    await member.claimed()
    await steering.cancel(member.session, [member.id])
    await finish(member.session, member.row, outcome=Retried(failure(), delay=9.0))


async def deleted_afterwards(member: Member) -> None:
    await member.ends()
    await steering.delete(member.session, [member.id])


DEAD = Dead("attempts", failure())
WAYS: dict[str, tuple[Callable[[Member], Awaitable[object]], tuple[int, int, int]]] = {
    "completes": (lambda m: m.ends(), (1, 0, 0)),
    "cancels itself": (lambda m: m.ends(Cancelled("no use")), (0, 1, 0)),
    "is dead": (lambda m: m.ends(DEAD), (0, 0, 1)),
    "is expired": (lambda m: m.ends(Dead("expired")), (0, 0, 1)),
    "completes in its own transaction": (in_its_own_transaction, (1, 0, 0)),
    "is cancelled while it waits": (lambda m: steering.cancel(m.session, [m.id]), (0, 1, 0)),
    "is cancelled in a caller's transaction": (cancelled_by_a_caller, (0, 1, 0)),
    "is cancelled while it runs": (asked_while_it_retries, (0, 1, 0)),
    "is deleted while it waits": (lambda m: steering.delete(m.session, [m.id]), (0, 1, 0)),
    "is deleted after its end": (deleted_afterwards, (1, 0, 0)),
    "dies with its worker": (rescued_dead, (0, 0, 1)),
    "is retried": (lambda m: m.ends(Retried(failure())), (0, 0, 0)),
    "is given back": (lambda m: m.ends(Released()), (0, 0, 0)),
    "is revived when dead": (lambda m: retried_after(m, DEAD), (0, 0, 0)),
    "is revived when completed": (lambda m: retried_after(m, None), (0, 0, 0)),
    "is revived when cancelled": (lambda m: retried_after(m, Cancelled("x")), (0, 0, 0)),
}


@pytest.mark.parametrize("way", sorted(WAYS))
async def test_a_member_counts_however_it_ends(database: str, way: str) -> None:
    """S4-84: counted once, at its final end only, by whatever statement it ends, and no more once it is revived."""
    end, expected = WAYS[way]
    async with open_session(database) as session:
        id = await stored(session, 2, *CALLBACKS)
        async with connect(database) as connection:
            first = await connection.fetchval(
                "select id from jobqueue.job where bundle_id = $1 order by id limit 1", id
            )
        await end(Member(session, database, first))
        told = counts(await now(session, id))
        await fold(session, id)

        assert (2, *expected) == counts(await now(session, id)) == told
