"""Unique keys: who holds one, since when, and what makes it fall free."""

import asyncio
import contextlib
from dataclasses import replace
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from jobqueue.base.job import Conflict, NewJob, Sent
from jobqueue.base.outcome import Cancelled, Dead, Done, Outcome, Released, Retried, Snoozed
from jobqueue.store.connection.session import Session
from jobqueue.store.intake import insert_all
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
from tests.support.patience import PATIENCE, scaled
from tests.support.waiting import wait_until


def keyed(key: str = "k", scope: str = "unfinished", **said: Any) -> NewJob[None]:
    return new_job(key=key, key_scope=scope, key_period=60.0 if scope == "period" else None, **said)


def skipped(id: UUID) -> Sent:
    return Sent(id, duplicate=True, conflict=Conflict.SKIPPED)


async def send(session: Session, *jobs: NewJob[None]) -> list[Sent]:
    return await insert_all(session, jobs, always=False)


async def holders(connection: Connection) -> dict[str, Any]:
    return {row["key"]: row["job_id"] for row in await connection.fetch("select key, job_id from jobqueue.job_key")}


@pytest.mark.parametrize("scope", ["waiting", "unfinished", "period"])
async def test_a_second_job_with_a_key_is_told_who_holds_it(database: str, scope: str) -> None:
    """A job whose key is taken is not stored, and its caller gets the id of the job that holds the key."""
    first, second, other = keyed(scope=scope), keyed(scope=scope), keyed("other", scope)
    async with open_session(database) as session:
        assert [Sent(first.id)] == await send(session, first)

        assert [skipped(first.id), Sent(other.id)] == await send(session, second, other)
        assert {first.id, other.id} == {row["id"] for row in await claim(session)}


async def test_of_equal_keys_in_one_batch_the_first_wins(database: str) -> None:
    """S0-25: a key three times in one batch makes one job; the others are told that they are duplicates of it."""
    first, second, third, plain = keyed("a"), keyed("b"), keyed("a"), new_job()
    async with open_session(database) as session:
        sent = await send(session, first, second, third, plain, replace(third))

        assert [first.id, second.id, first.id, plain.id, first.id] == [answer.id for answer in sent]
        assert [False, False, True, False, True] == [answer.duplicate for answer in sent]
        assert [first.id, second.id, plain.id] == [row["id"] for row in await claim(session)]


@pytest.mark.parametrize(
    ("outcome", "unfinished_is_free"),
    [
        (Done("1"), True),
        (Cancelled(), True),
        (Dead("fatal", failure()), True),
        (Retried(failure(), delay=0.0), False),
        (Snoozed(delay=100.0), False),
        (Released(), False),
    ],
)
async def test_what_frees_the_key_of_an_unfinished_job(
    database: str, outcome: Outcome, unfinished_is_free: bool
) -> None:
    """A key of scope `unfinished` is held through claims, retries and snoozes, and free once the job has ended."""
    async with open_session(database) as session, connect(database) as connection:
        (id,) = await insert(session, keyed())
        row = await claim_one(session)
        assert {"k": id} == await holders(connection)

        await finish(session, row, outcome=outcome)

        assert ({} if unfinished_is_free else {"k": id}) == await holders(connection)


async def test_a_waiting_key_is_free_from_the_claim_on(database: str) -> None:
    """A key of scope `waiting` is free once its job starts, and is not taken again when that job comes back."""
    async with open_session(database) as session, connect(database) as connection:
        await insert(session, keyed(scope="waiting"))
        row = await claim_one(session)
        assert {} == await holders(connection)

        await finish(session, row, outcome=Retried(failure(), delay=0.0))
        assert {} == await holders(connection)


async def test_a_job_that_comes_back_leaves_the_key_to_its_next_holder(database: str) -> None:
    """A retried job that is claimed again does not free the key, which another waiting job holds by now."""
    async with open_session(database) as session, connect(database) as connection:
        await insert(session, keyed(scope="waiting", priority=5))
        row = await claim_one(session)
        (second,) = await insert(session, keyed(scope="waiting"))
        await finish(session, row, outcome=Retried(failure(), delay=0.0))

        assert row["id"] == (await claim_one(session))["id"]

        assert {"k": second} == await holders(connection)


async def test_an_ended_job_leaves_the_key_to_its_next_holder(database: str) -> None:
    """A finish frees only the key that its own job holds."""
    async with open_session(database) as session, connect(database) as connection:
        await insert(session, keyed(scope="waiting"))
        row = await claim_one(session)
        (second,) = await insert(session, keyed(scope="unfinished"))

        await finish(session, row)

        assert {"k": second} == await holders(connection)


async def test_a_period_outlives_its_job_and_ends_by_the_clock(database: str) -> None:
    """A key of scope `period` is held after the job has ended, and free for the next one when its time is over."""
    async with open_session(database) as session, connect(database) as connection:
        (first,) = await insert(session, keyed(scope="period"))
        await finish(session, await claim_one(session))
        assert [skipped(first)] == await send(session, keyed(scope="period"))
        left = await connection.fetchval("select extract(epoch from expires_at - now()) from jobqueue.job_key")
        assert 60 - scaled(10) < left <= 60

        await connection.execute("update jobqueue.job_key set expires_at = now()")
        third = keyed(scope="period")
        assert [Sent(third.id)] == await send(session, third)
        assert {"k": third.id} == await holders(connection)
        assert await connection.fetchval("select expires_at > now() from jobqueue.job_key")


@pytest.mark.parametrize("scope", ["waiting", "unfinished"])
async def test_a_resent_job_that_has_run_does_not_keep_its_key(database: str, scope: str) -> None:
    """The resend of a job that has ended gives back the key that it took, so that the next job can have it."""
    job = keyed(scope=scope)
    async with open_session(database) as session, connect(database) as connection:
        await insert(session, job)
        await finish(session, await claim_one(session))

        assert [Sent(job.id, duplicate=True)] == await send(session, replace(job, resent=True))

        assert {} == await holders(connection)
        assert [] == await claim(session)


async def test_a_resent_job_keeps_the_period_that_it_began(database: str) -> None:
    """The resend of a job that has ended changes nothing about the period that its first try began."""
    job = keyed(scope="period")
    async with open_session(database) as session, connect(database) as connection:
        await insert(session, job)
        await finish(session, await claim_one(session))
        assert [Sent(job.id, duplicate=True)] == await send(session, replace(job, resent=True))
        assert {"k": job.id} == await holders(connection)

        await connection.execute("update jobqueue.job_key set expires_at = now()")
        assert [Sent(job.id, duplicate=True)] == await send(session, replace(job, resent=True))
        assert {} == await holders(connection), "its period was over; the resend must not begin another"


async def test_a_resent_job_that_waits_keeps_its_key(database: str) -> None:
    """The resend of a job that is still there is a duplicate of itself, and the key stays with it."""
    job = keyed()
    async with open_session(database) as session, connect(database) as connection:
        await insert(session, job)

        assert [Sent(job.id, duplicate=True)] == await send(session, replace(job, resent=True))

        assert {"k": job.id} == await holders(connection)


async def test_a_refused_batch_takes_no_key(database: str) -> None:
    """S0-20: keys are taken in the transaction of the jobs: if a job is refused, none is held."""
    async with open_session(database) as session, connect(database) as connection:
        with pytest.raises(Exception, match="job_task_length"):
            await send(session, keyed("a"), keyed("b", task="x" * 101))

        assert {} == await holders(connection)


class Abandoned(Exception):
    """Raised to roll a transaction back."""


@pytest.mark.parametrize("commits", [True, False])
async def test_whoever_meets_the_key_of_an_open_transaction_waits_for_its_end(database: str, commits: bool) -> None:
    """The key of a transaction in flight decides itself: committed, it is taken; rolled back, it is free."""
    first, second = keyed(), keyed()
    async with open_sessions(database, 2) as (one, two), connect(database) as observer:
        with contextlib.suppress(Abandoned):
            async with one.transaction():
                await send(one, first)
                waiting = asyncio.create_task(send(two, second))
                await wait_until(lambda: somebody_waits(observer), "the second waits for the first")
                if not commits:
                    raise Abandoned

        assert [skipped(first.id) if commits else Sent(second.id)] == await waiting


async def test_keys_in_any_order_never_deadlock(database: str) -> None:
    """Batches that want the same keys in opposite order, and finishes that free them, wait for each other in turn."""
    names = [f"k{number:02}" for number in range(20)]

    async def produce(session: Session, order: list[str]) -> None:
        for _ in range(60):
            await send(session, *(keyed(name) for name in order))

    async def work(session: Session) -> None:
        while not done.is_set():
            rows = await claim(session)
            await finish(session, *reversed(rows))

    done = asyncio.Event()
    async with open_sessions(database, 4) as (one, two, three, four):
        workers = [asyncio.create_task(work(session)) for session in (three, four)]
        await asyncio.gather(produce(one, names), produce(two, names[::-1]))
        done.set()
        await asyncio.gather(*workers)
        assert not [row for row in await claim(one) if row["key"] not in names]


async def test_a_key_that_had_a_whole_job_in_between_is_tried_again(database: str) -> None:
    """Neither free, nor held when we looked, nor held any more: its holder came, ran and ended; now it is free."""

    class Slow:
        """Its second question comes when the job that it asks for has ended."""

        async def fetch(self, name: str, *values: object) -> list[asyncpg.Record]:
            if name == "key_holders":
                await finish(worker, *await claim(worker))
            return await slow.fetch(name, *values)

        def transaction(self) -> contextlib.AbstractAsyncContextManager[None]:
            return slow.transaction()

    async with open_sessions(database, 3) as (worker, quick, slow), connect(database) as observer:
        job = keyed()
        async with quick.transaction():
            await send(quick, keyed())
            waiting = asyncio.create_task(insert_all(Slow(), [job, keyed("other")], always=False))
            await wait_until(lambda: somebody_waits(observer), "the slow one waits for the quick one")
        first, second = await waiting
        assert (Sent(job.id), False) == (first, second.duplicate)


async def test_an_open_transaction_holds_up_neither_claim_nor_finish(database: str) -> None:
    """A caller's transaction that was told of a duplicate may stay open: the holder of the key still runs and ends."""
    async with open_sessions(database, 2) as (worker, producer):
        (first,) = await insert(worker, keyed("a", "waiting"))
        (second,) = await insert(worker, keyed("b"))
        async with producer.transaction():
            assert [first, second] == await insert(producer, keyed("a", "waiting"), keyed("b"))

            async with asyncio.timeout(PATIENCE):
                rows = await claim(worker)
                assert {first, second} == await finish(worker, *rows)


async def test_an_expired_key_goes_to_one_of_two(database: str) -> None:
    """Two that want an expired key at once do not both get it: the second waits, and is told of the first."""
    first, second = keyed(scope="period"), keyed(scope="period")
    async with open_sessions(database, 2) as (one, two), connect(database) as observer:
        await insert(one, keyed(scope="period"))
        await observer.execute("update jobqueue.job_key set expires_at = now()")
        async with one.transaction():
            await send(one, first)
            waiting = asyncio.create_task(send(two, second))
            await wait_until(lambda: somebody_waits(observer), "the second waits for the first")
        assert [skipped(first.id)] == await waiting
