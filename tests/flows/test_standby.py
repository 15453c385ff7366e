"""Synchronous replication: whatever is acknowledged waits for the standby, also what an earlier call has done already.

The standby here is one that never comes: whatever waits for it, would have waited for a real one.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, TypeAlias
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from jobqueue.app import App
from jobqueue.base.errors import DuplicateJob, ScheduleNotFound, WebhookNotFound
from jobqueue.base.outcome import Dead, Done, Retried
from jobqueue.store.intake import insert_all
from jobqueue.store.outcomes import was_completed
from jobqueue.tasks.options import Unique
from tests.support.jobs.store import WORKER, claim_one, connect, ended, failure, insert, new_job, open_session, write
from tests.support.jobs.working import new_app
from tests.support.postgres.backends import becomes
from tests.support.postgres.own_server import OwnServer

WAITS_FOR_STANDBY = "wait_event = 'SyncRep'"
ONE = UUID("01900000-0000-7000-8000-00000000000a")

Call: TypeAlias = Callable[[], Coroutine[Any, Any, Any]]


@asynccontextmanager
async def no_standby(server: OwnServer, dsn: str) -> AsyncIterator[None]:
    """Every commit that has written something waits, until the end of the block."""
    await server.change("alter system set synchronous_standby_names = 'nobody'; select pg_reload_conf()")
    async with connect(dsn) as probe:

        async def write() -> None:
            while True:  # until the server has read its settings
                await probe.execute("select pg_logical_emit_message(true, 'test', '')")

        writing = asyncio.create_task(write())
        await becomes(dsn, 1, WAITS_FOR_STANDBY)
        try:
            yield
        finally:
            writing.cancel()
            with suppress(asyncio.CancelledError):
                await writing
            await server.change("alter system reset all; select pg_reload_conf()")
            await becomes(dsn, 0, WAITS_FOR_STANDBY)


async def waits_for_standby(server: OwnServer, dsn: str, again: Call) -> Any:
    """The answer of a call, which came only once no standby had to be waited for."""
    async with no_standby(server, dsn):
        calling = asyncio.create_task(again())
        await becomes(dsn, 2, WAITS_FOR_STANDBY)
        assert not calling.done()
    return await calling


async def test_a_defer_that_is_sent_again_waits_for_the_standby(server: OwnServer, own: str) -> None:
    """The resend after a lost answer finds the job there, and answers only when the standby has it."""
    job = new_job()
    async with open_session(own) as session:
        await insert(session, job)
        again = [replace(job, resent=True)]

        answers = await waits_for_standby(server, own, lambda: insert_all(session, again, always=False))

    assert [True] == [sent.duplicate for sent in answers]


async def test_an_outcome_that_is_sent_again_waits_for_the_standby(server: OwnServer, own: str) -> None:
    """The same for a finish, a retry, and the look whether a handler's own transaction has completed its job."""
    async with open_session(own) as session:
        for outcome in (Done("1"), Dead("failed", failure()), Retried(failure(), delay=60.0)):
            await insert(session, new_job())
            over = [ended(await claim_one(session), outcome)]
            assert {over[0].id} == await write(session, over)

            assert {over[0].id} == await waits_for_standby(server, own, lambda: write(session, over))  # noqa: B023 - used at once
            if isinstance(outcome, Done):
                id, fence = over[0].id, over[0].fence
                assert await waits_for_standby(server, own, lambda: was_completed(session, WORKER, id, fence))  # noqa: B023 - used at once


def steered(app: App, id: UUID) -> dict[str, Call]:
    return {
        "too late to cancel": lambda: app.jobs.cancel(id),
        "nothing to delete": lambda: app.jobs.delete(UUID(int=1)),
        "nothing left that the filter means": lambda: app.jobs.cancel(queue="default"),
        "not paused": lambda: app.queues.resume("default"),
    }


@pytest.mark.parametrize(
    "what", ["too late to cancel", "nothing to delete", "nothing left that the filter means", "not paused"]
)
async def test_steering_that_finds_nothing_to_do_waits_for_the_standby(server: OwnServer, own: str, what: str) -> None:
    """An earlier call may have done it, so the answer says no more than the standby knows."""
    app = new_app(own)

    @app.task
    async def work() -> None: ...

    async with app:
        handle = await work.defer()
        await handle.cancel()

        answer = await waits_for_standby(server, own, steered(app, handle.id)[what])

    assert not answer


@pytest.mark.parametrize("what", ["schedule", "webhook"])
async def test_what_is_not_there_to_delete_is_told_when_the_standby_knows(
    server: OwnServer, own: str, what: str
) -> None:
    """An earlier call, whose answer was lost, may have deleted it."""
    async with new_app(own) as app:
        delete: dict[str, Call] = {
            "schedule": lambda: app.schedules.delete("gone"),
            "webhook": lambda: app.webhooks.delete(ONE),
        }
        with pytest.raises((ScheduleNotFound, WebhookNotFound)):
            await waits_for_standby(server, own, delete[what])


@pytest.mark.parametrize("told", ["its id", "its key", "by an error"])
async def test_a_job_that_is_there_already_is_told_when_the_standby_has_it(
    server: OwnServer, own: str, told: str
) -> None:
    """A second defer with the caller's own id, or with a key that another job holds, acknowledges that job."""
    app = new_app(own)

    @app.task
    async def work() -> None: ...

    id = uuid7()
    said: dict[str, dict[str, Any]] = {
        "its id": {"id": id},
        "its key": {"unique": "one"},
        "by an error": {"unique": Unique("one", on_conflict="raise")},
    }
    options = said[told]
    async with app:
        first = await work.options(**options).defer()

        async def again() -> UUID:
            try:
                handle = await work.options(**options).defer()
            except DuplicateJob as duplicate:
                return duplicate.id
            assert handle.duplicate
            return handle.id

        assert first.id == await waits_for_standby(server, own, again)


async def test_the_sql_function_waits_for_the_standby(server: OwnServer, own: str) -> None:
    """A second `jobqueue.defer` with the same id, from whatever language, answers when the standby has the job."""
    call = "select jobqueue.defer('work', id => $1)"
    async with connect(own) as connection:
        await connection.fetchval(call, str(ONE))

        assert ONE == await waits_for_standby(server, own, lambda: connection.fetchval(call, str(ONE)))


async def test_nothing_is_written_where_no_standby_is_waited_for(own: str) -> None:
    """On a server alone, an answer that something was done before costs no flush of the log."""
    async with open_session(own) as session:
        await insert(session, new_job(key="one"))
        async with session.transaction():
            assert [True] == [sent.duplicate for sent in await insert_all(session, [new_job(key="one")], always=False)]

            assert await session._connection.fetchval("select pg_current_xact_id_if_assigned() is null")
