"""What is done about the holder of a key: between looking and acting, in locks, in plain SQL."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from jobqueue.base.errors import DuplicateJob
from jobqueue.base.job import Conflict, JobState, NewJob, Sent
from jobqueue.base.outcome import Retried
from jobqueue.store import intake
from jobqueue.store.connection.callers.on_asyncpg import OnAsyncpg
from jobqueue.store.connection.faults import Deadlock
from jobqueue.store.connection.session import Session
from jobqueue.store.intake import insert_all
from jobqueue.store.looking.listing import Wanted, find_ids
from tests.store.test_waking import ear_on
from tests.support.jobs.blocked import block, row_of
from tests.support.jobs.store import (
    Connection,
    claim,
    claim_one,
    connect,
    failure,
    finish,
    insert,
    new_job,
    open_session,
    open_sessions,
    somebody_waits,
)
from tests.support.patience import PATIENCE
from tests.support.rounds import rounds
from tests.support.waiting import wait_until

OLD, NEW = '{"text": "old"}', '{"text": "new"}'


def keyed(conflict: str = "skip", key: str = "k", scope: str = "unfinished", **said: Any) -> NewJob[None]:
    period = 60.0 if scope == "period" else None
    return new_job(key=key, key_scope=scope, key_period=period, on_conflict=conflict, **{"args": OLD, **said})


async def send(session: Session, *jobs: NewJob[None]) -> list[Sent]:
    return await insert_all(session, jobs, always=False)


def told(id: UUID, conflict: str) -> Sent:
    return Sent(id, duplicate=True, conflict=Conflict(conflict))


async def args_of(connection: Connection, id: UUID) -> str:
    return str(await connection.fetchval("select args from jobqueue.job where id = $1", id))


class Interrupted:
    """A session before some of whose statements something else happens, once each."""

    def __init__(self, session: Any, **before: Callable[[], Awaitable[object]]) -> None:
        self._session = session
        self._before = before
        self.names: list[str] = []

    async def fetch(self, name: str, *values: object) -> list[asyncpg.Record]:
        if name in self._before and name not in self.names:
            await self._before[name]()
        self.names.append(name)
        rows: list[asyncpg.Record] = await self._session.fetch(name, *values)
        return rows

    def transaction(self) -> contextlib.AbstractAsyncContextManager[None]:
        block: contextlib.AbstractAsyncContextManager[None] = self._session.transaction()
        return block


class InterruptedCaller(Interrupted):
    """The same on a connection of a caller's, which has begun a transaction by SQL."""

    def savepoint(self) -> contextlib.AbstractAsyncContextManager[None]:
        self.names.append("savepoint")
        block: contextlib.AbstractAsyncContextManager[None] = self._session.savepoint()
        return block


# Between looking and taking.


async def test_a_holder_that_came_after_the_look_is_changed(database: str) -> None:
    """A10: the key was free at the first look and is not when it is to be taken: the holder is replaced."""
    first = keyed()
    async with open_sessions(database, 2) as (quick, session), connect(database) as observer:
        slow = Interrupted(session, take_keys=lambda: send(quick, first))

        assert [told(first.id, "replaced")] == await insert_all(slow, [keyed("replace", args=NEW)], always=False)

        assert NEW == await args_of(observer, first.id)
        assert (1, 1) == (slow.names.count("lock_holders"), slow.names.count("lock_late_holders"))


@pytest.mark.parametrize("scope", ["waiting", "unfinished", "period"])
@pytest.mark.parametrize("conflict", ["replace", "move", "replace+move"])
async def test_a_late_holder_that_waits_for_others_is_changed(database: str, conflict: str, scope: str) -> None:
    """A holder that came after the look and is blocked is changed as one that waits, and stays blocked."""
    first = keyed(scope=scope, delay=3600.0)
    async with open_sessions(database, 2) as (quick, session), connect(database) as observer:

        async def blocked() -> None:
            await send(quick, first)
            await block(observer, first.id)

        slow = Interrupted(session, take_keys=blocked)
        said = {"replace": "replaced", "move": "moved", "replace+move": "replaced+moved"}[conflict]
        new = keyed(conflict, scope=scope, args=NEW)
        assert [told(first.id, said)] == await insert_all(slow, [new], always=False)

        row = await row_of(observer, first.id)
        assert ("blocked", NEW if "replace" in conflict else OLD) == (row["state"], row["args"])
        assert ("move" in conflict) == (row["due_at"] <= await observer.fetchval("select now()"))
        assert 1 == slow.names.count("lock_late_holders")


async def test_a_holder_that_waits_for_others_wakes_nobody(database: str) -> None:
    """Replaced or moved to now, a blocked holder stays so, and nobody gets up for it."""
    first = keyed(delay=3600.0)
    async with open_session(database) as session, ear_on(database) as (ear, connection):
        await send(session, first)
        await block(connection, first.id)
        for conflict in ("replace", "move", "replace+move"):
            (sent,) = await insert_all(session, [keyed(conflict, args=NEW)], always=True)
            assert (first.id, True) == (sent.id, sent.duplicate)
        assert [] == await ear.so_far()

        row = await row_of(connection, first.id)
        assert ("blocked", NEW) == (row["state"], row["args"])
        assert row["due_at"] <= await connection.fetchval("select now()")


async def test_a_key_that_goes_from_hand_to_hand_ends_with_its_holder(database: str) -> None:
    """A10: the holder changes again while we try to lock it: from the beginning, and the last one is replaced."""
    first, second, new = keyed(), keyed(), keyed("replace", args=NEW)

    async def another() -> None:
        await finish(worker, await claim_one(worker))
        await send(worker, second)

    async with open_sessions(database, 2) as (worker, session), connect(database) as observer:
        slow = Interrupted(session, take_keys=lambda: send(worker, first), lock_late_holders=another)

        assert [told(second.id, "replaced")] == await insert_all(slow, [new], always=False)

        assert NEW == await args_of(observer, second.id)
        assert 2 == slow.names.count("lock_holders")


@pytest.mark.parametrize("blocked", [False, True], ids=["ready", "blocked"])
@pytest.mark.parametrize("ours", [True, False], ids=["ours", "the caller's"])
async def test_a_late_holder_that_somebody_else_has_locked(database: str, ours: bool, blocked: bool) -> None:
    """A10: whoever has taken keys waits for no job: it lets go of them, and waits before it takes them anew."""
    first, new = keyed(), keyed("replace", args=NEW)
    async with open_sessions(database, 3) as (quick, holding, session), connect(database) as observer:

        async def locked() -> None:
            await send(quick, first)
            if blocked:
                async with connect(database) as other:
                    await block(other, first.id)
            await holding.fetch("lock_holders", ["k"])

        async with connect(database) as connection:
            await connection.execute("begin")
            caller = InterruptedCaller(OnAsyncpg(connection, "jobqueue"), take_keys=locked)
            slow = Interrupted(session, take_keys=locked) if ours else caller
            sending = insert_all(slow, [keyed("replace", key="other"), new], always=not ours)
            async with holding.transaction():
                waiting = asyncio.create_task(sending)
                await wait_until(lambda: somebody_waits(observer), "it waits for the lock")
                (other,) = await insert(quick, keyed(key="other"))

            assert [told(other, "replaced"), told(first.id, "replaced")] == await waiting
            assert [2, 0 if ours else 2] == [slow.names.count(name) for name in ("lock_holders", "savepoint")]
            await connection.execute("commit")
        assert [NEW] == [await args_of(observer, first.id)]


@pytest.mark.parametrize("scope", ["waiting", "unfinished"])
async def test_a_holder_that_goes_after_the_look_leaves_the_key(database: str, scope: str) -> None:
    """A10: a holder that ran at the first look and has ended since: the new job is stored, with its own arguments."""
    async with open_sessions(database, 2) as (worker, session), connect(database) as observer:
        await send(worker, keyed(scope=scope))
        row = await claim_one(worker)
        slow = Interrupted(session, take_keys=lambda: finish(worker, row))
        job = keyed("replace", scope=scope, args=NEW)

        assert [Sent(job.id)] == await insert_all(slow, [job], always=False)

        assert NEW == await args_of(observer, job.id)


async def test_a_holder_that_waits_cannot_start_after_the_look(database: str) -> None:
    """A10: from the look on no worker takes the holder, so that what is told is what it runs with."""
    first = keyed(scope="waiting")

    async def nothing_to_claim() -> None:
        assert [] == await claim(worker)

    async with open_sessions(database, 2) as (worker, session):
        await send(worker, first)
        slow = Interrupted(session, take_keys=nothing_to_claim)

        assert [told(first.id, "replaced")] == await insert_all(slow, [keyed("replace", args=NEW)], always=False)

        assert (first.id, NEW) == ((row := await claim_one(worker))["id"], row["args"])


async def test_a_former_holder_that_waits_again_is_left_alone(database: str) -> None:
    """A10: while we wait for another lock the holder starts, fails and waits again: then its key is another's."""
    a, b = keyed(key="a", scope="waiting"), keyed(key="b", scope="waiting")
    async with open_sessions(database, 3) as (worker, holding, session), connect(database) as observer:
        await send(worker, a, b)
        async with holding.transaction():
            await holding.fetch("lock_holders", ["note", "a"])
            jobs = [keyed("replace", key=key, scope="waiting", args=NEW) for key in ("b", "a")]
            waiting = asyncio.create_task(send(session, *jobs))
            await wait_until(lambda: somebody_waits(observer), "the batch waits for a")
            row = await claim_one(worker)
            assert b.id == row["id"]
            await finish(worker, row, outcome=Retried(failure(), delay=0.0))
            (next_id,) = await insert(worker, keyed(key="b", scope="waiting", delay=60.0))

        assert [told(next_id, "replaced"), told(a.id, "replaced")] == await waiting
        assert [NEW, OLD, NEW] == [await args_of(observer, id) for id in (a.id, b.id, next_id)]


async def test_a_replace_that_meets_a_claim_in_mid_flight_waits_for_it(database: str) -> None:
    """A10: the claim has the row and not committed yet: then the answer is of after it, and nothing is lost."""
    unfinished, waiting = keyed(), keyed(key="w", scope="waiting")
    async with open_sessions(database, 2) as (worker, session), connect(database) as observer:
        await send(worker, unfinished, waiting)
        async with worker.transaction():
            rows = await claim(worker)
            new = keyed("replace", key="w", scope="waiting", args=NEW)
            sending = asyncio.create_task(send(session, keyed("replace", args=NEW), new))
            await wait_until(lambda: somebody_waits(observer), "the replace waits for the claim")

        assert [told(unfinished.id, "skipped"), Sent(new.id)] == await sending
        assert [OLD, OLD] == [row["args"] for row in rows]


@pytest.mark.parametrize("scope", ["waiting", "unfinished"])
async def test_a_replace_that_races_with_the_claim(database: str, scope: str) -> None:
    """A10: however replace and claim interleave, the claim has the new arguments exactly if that was said."""
    seen: set[str | None] = set()

    async def claim_later(turns: int) -> list[Any]:
        for _ in range(turns):
            await worker.fetch("key_holders", [])
        return await claim(worker)

    async with open_sessions(database, 2) as (worker, producer):
        for turn in range(rounds(100)):
            old = keyed(scope=scope)
            new = keyed("replace", scope=scope, args=NEW)
            await send(worker, old)
            rows, (answer,) = await asyncio.gather(claim_later(turn % 10), send(producer, new))
            rows += await claim(worker)
            assert (NEW if answer.conflict is Conflict.REPLACED else OLD) == rows[0]["args"]
            assert (old.id, [new.id] * (answer.conflict is None)) == (rows[0]["id"], [row["id"] for row in rows[1:]])
            assert answer.conflict is not (Conflict.SKIPPED if scope == "waiting" else None)
            seen.add(answer.conflict)
            await finish(worker, *rows)

    assert {Conflict.REPLACED, None if scope == "waiting" else Conflict.SKIPPED} == seen, "one was always first"


# Locks.


@contextlib.contextmanager
def but_for_postgresql() -> Iterator[None]:
    """Inside, a deadlock counts unless PostgreSQL itself has made it; the product sends such a batch again.

    SKIP LOCKED waits all the same for the newer version of a row whose update commits in that very moment.
    """
    try:
        yield
    except Deadlock as error:
        if not (error.context or "").startswith("while locking updated version"):
            raise


async def test_batches_in_opposite_order_never_deadlock(database: str) -> None:
    """A10: batches that change each other's jobs and take each other's keys, claims and finishes: all wait in turn."""
    names = [f"k{number:02}" for number in range(16)]
    scopes = ["waiting", "unfinished", "period"]

    async def produce(session: Session, order: list[str], conflicts: list[str]) -> None:
        for turn in range(rounds(25)):
            jobs = [
                keyed(conflicts[(turn + place) % len(conflicts)], name, scopes[int(name[1:]) % 3])
                for place, name in enumerate(order)
            ]
            with but_for_postgresql():
                await send(session, *jobs)

    async def work(session: Session) -> None:
        while not done.is_set():
            with but_for_postgresql():
                await finish(session, *reversed(await claim(session, 7)))
                await session.fetch("delete_waiting", await some_ids(session))

    async def some_ids(session: Session) -> list[UUID]:
        async for ids in find_ids(session, Wanted(frozenset({JobState.READY})), 5):
            return ids
        return []

    async def expire() -> None:
        while not done.is_set():
            for name in names:  # one by one: whoever locks several does so in their order
                await observer.execute(
                    "update jobqueue.job_key set expires_at = now() where scope = 'period' and key = $1", name
                )

    done = asyncio.Event()
    async with open_sessions(database, 5) as (*producers, four, five), connect(database) as observer:
        beside = [asyncio.create_task(each) for each in (work(four), work(five), expire())]
        try:
            await asyncio.gather(
                produce(producers[0], names, ["replace", "skip"]),
                produce(producers[1], names[::-1], ["replace+move", "move"]),
                produce(producers[2], names[::-1], ["skip", "replace+move"]),
            )
        finally:
            done.set()
            await asyncio.gather(*beside)
        assert 0 == await observer.fetchval("select count(*) from jobqueue.job where key is null")


async def test_a_duplicate_holds_up_nobody(database: str) -> None:
    """A10: neither a skip nor a raise locks the holder: in an open transaction it still starts and ends."""
    async with open_sessions(database, 2) as (worker, producer):
        (first,) = await insert(worker, keyed())
        async with producer.transaction():
            assert [told(first, "skipped")] == await send(producer, keyed())
            with pytest.raises(DuplicateJob):
                await send(producer, keyed("raise"))
            async with asyncio.timeout(PATIENCE):
                assert {first} == await finish(worker, await claim_one(worker))


# Sent again.


async def test_a_replace_sent_again_is_the_same_replace(database: str) -> None:
    """A10: after a lost answer the same jobs with the same ids change the holder to the same, and store nothing."""
    first, again = keyed(), keyed("replace+move", args=NEW, delay=60.0)
    async with open_session(database) as session, connect(database) as observer:
        await send(session, first)
        for job in (again, replace(again, resent=True)):
            assert [told(first.id, "replaced+moved")] == await send(session, job)

        assert NEW == await args_of(observer, first.id)
        assert 1 == await observer.fetchval("select count(*) from jobqueue.job")


async def test_a_batch_sent_again_after_its_job_has_run(database: str) -> None:
    """A10: of a batch with one key twice, sent again after the job has run: nothing runs twice."""
    jobs = [keyed("replace"), keyed("replace", args=NEW)]
    async with open_session(database) as session:
        assert [Sent(jobs[0].id), told(jobs[0].id, "replaced")] == await send(session, *jobs)
        await finish(session, await claim_one(session))

        again = await send(session, *(replace(job, resent=True) for job in jobs))

        assert [Sent(jobs[0].id, duplicate=True), told(jobs[0].id, "skipped")] == again
        assert [] == await claim(session)


# What is stored.


async def test_a_large_batch_replaces_in_chunks(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S0-24, A10: more holders than a chunk has room for are changed by several statements, all or none."""
    monkeypatch.setattr(intake, "CHUNK_ROWS", 10)
    async with open_session(database) as session, connect(database) as observer:
        await send(session, *(keyed(key=f"k{number}") for number in range(35)))
        jobs = [keyed("replace", key=f"k{number}", args=NEW) for number in range(35)]
        slow = Interrupted(session)

        with pytest.raises(asyncpg.CheckViolationError):
            await insert_all(slow, [*jobs, new_job("x" * 101)], always=False)
        assert 0 == await observer.fetchval("select count(*) from jobqueue.job where args::text = $1", NEW)
        assert {Conflict.REPLACED} == {sent.conflict for sent in await insert_all(slow, jobs, always=False)}

        assert 35 == await observer.fetchval("select count(*) from jobqueue.job where args::text = $1", NEW)
        assert 4 == slow.names.count("change_holders")


async def test_limits_of_a_moved_job_move_along(database: str) -> None:
    """A10: a debounce under steady traffic does not expire: `expires` and `budget` count from the new due time."""
    columns = (
        "select expires_at - due_at, deadline - due_at, priority, queue, timeout, max_attempts, origin, created_at"
        " from jobqueue.job"
    )
    async with open_session(database) as session, connect(database) as observer:
        await send(session, keyed(expires=60.0, budget=90.0))
        before = await observer.fetchrow(columns)
        await send(
            session, keyed("replace+move", delay=10.0, expires=1.0, budget=1.0, priority=5, queue="other", timeout=1.0)
        )

        assert before == await observer.fetchrow(columns)


async def test_a_period_goes_on_as_it_began(database: str) -> None:
    """A10: a replace does not prolong the period of the key, and one that is over belongs to the new job."""
    async with open_session(database) as session, connect(database) as observer:
        (first,) = await insert(session, keyed(scope="period"))
        before = await observer.fetchval("select expires_at from jobqueue.job_key")
        assert [told(first, "replaced")] == await send(session, keyed("replace", scope="period", args=NEW))
        assert before == await observer.fetchval("select expires_at from jobqueue.job_key")

        await observer.execute("update jobqueue.job_key set expires_at = now()")
        for conflict in ("replace", "raise"):
            job = keyed(conflict, scope="period")
            assert [Sent(job.id)] == await send(session, job)
            await observer.execute("update jobqueue.job_key set expires_at = now()")
        assert NEW == await args_of(observer, first)


async def test_nothing_is_done_for_those_who_skip(database: str) -> None:
    """A10: who only skips pays nothing for what others can say: no holder is looked at, locked or changed."""
    async with connect(database) as connection:
        looked = InterruptedCaller(OnAsyncpg(connection, "jobqueue"))
        await insert_all(looked, [keyed(), new_job()], always=True)
        await insert_all(looked, [keyed(), keyed(resent=True)], always=True)

    assert {"savepoint", "take_keys", "key_holders", "insert_jobs", "await_standby"} == set(looked.names)


async def test_a_plain_job_by_itself_takes_the_short_statement(database: str) -> None:
    """A loop of defers pays for nothing that it does not use; several jobs share the statement that takes all kinds."""
    async with connect(database) as connection:
        looked = InterruptedCaller(OnAsyncpg(connection, "jobqueue"))
        await insert_all(looked, [new_job()], always=True)
        await insert_all(looked, [new_job()], always=False)
        await insert_all(looked, [new_job(), new_job()], always=False)

    assert ["insert_job", "insert_job", "insert_jobs"] == looked.names
