"""A transaction that stays open holds up what it has locked and nothing else; whoever steers is told whose it is."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio

from jobqueue import App, Change, Holder, JobHandle, QueueLocked
from tests.support.jobs.store import connect
from tests.support.jobs.working import counted, new_app, seen
from tests.support.patience import scaled

NAME = "somebody at a desk"
MANY = 520
"""Jobs: more than one statement changes, which is 500."""
STEER: dict[str, dict[str, Any]] = {
    "cancel": {},
    "retry": {},
    "reschedule": {"delay": 60},
    "move": {"to": "elsewhere"},
    "set_priority": {"priority": 7},
    "delete": {},
}


@pytest_asyncio.fixture
async def app(database: str) -> AsyncIterator[App]:
    async with new_app(database) as app:
        yield app


@asynccontextmanager
async def locked(dsn: str, query: str, *values: object) -> AsyncIterator[int]:
    """Somebody has these rows in an open transaction; the process id of his connection."""
    async with connect(dsn, application_name=NAME) as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(query, *values)
        yield connection.get_server_pid()
        await transaction.rollback()


def steer(app: App, verb: str, *ids: Any, **said: Any) -> Awaitable[Any]:
    call: Callable[..., Awaitable[Any]] = getattr(app.jobs, verb)
    return call(*ids, **STEER[verb] | said)


async def waiting(app: App, count: int) -> list[JobHandle[Any]]:
    @app.task(name="note")
    async def note(number: int) -> int:
        return number

    return await app.defer_many([note.job(number) for number in range(count)])


@pytest.mark.parametrize("how", ["ids", "filter", "connection"])
@pytest.mark.parametrize("verb", list(STEER))
async def test_one_locked_job_is_busy_and_the_others_are_done(app: App, database: str, verb: str, how: str) -> None:
    """S4-99: of more than a page of jobs one is locked: it is busy, with its holder; the others are done at once."""
    handles = await waiting(app, MANY)
    one = handles[MANY // 2].id
    which: dict[str, Any] = {"queue": "default"} | ({"state": "ready"} if verb == "retry" else {})
    async with (
        locked(database, "select from jobqueue.job where id = $1 for update", one) as pid,
        connect(database) as mine,
        mine.transaction(),
    ):
        if how == "filter":
            changes = await steer(app, verb, **which)
        elif how == "ids":
            changes = await steer(app, verb, *(handle.id for handle in handles))
        else:
            changes = await steer(app, verb, connection=mine, **which)
        assert {one: Change.BUSY} == changes.refused
        assert MANY - 1 == len(changes)
        assert {one} == set(changes.locked)
        assert (NAME, pid) == (changes.locked[one].name, changes.locked[one].pid)

    again = await steer(app, verb, one)
    assert [one] == again.changed
    assert {} == again.locked


@pytest.mark.parametrize("verb", ["retry", "delete"])
async def test_a_finished_job_that_is_locked_is_busy(app: App, database: str, verb: str) -> None:
    """S4-57, S4-99: the same among jobs that have ended."""
    first, second = await waiting(app, 2)
    await app.jobs.cancel(first.id, second.id)
    async with locked(database, "select from jobqueue.job_archive where id = $1 for update", first.id):
        changes = await steer(app, verb, state="cancelled")
        assert {first.id: Change.BUSY, second.id: Change.DONE} == changes.each
        assert NAME == changes.locked[first.id].name
    assert [first.id] == (await steer(app, verb, first.id)).changed


@pytest.mark.parametrize("verb", ["cancel", "delete"])
async def test_a_key_that_is_locked_holds_up_its_job_only(app: App, database: str, verb: str) -> None:
    """S4-99: an open transaction that has defers of a key holds up the job of that key, and is named."""
    (plain,) = await waiting(app, 1)

    @app.task
    async def keyed() -> None: ...

    held = await keyed.options(unique="k").defer()
    async with locked(database, "select from jobqueue.job_key for update"):
        changes = await steer(app, verb, queue="default")
        assert {plain.id: Change.DONE, held.id: Change.BUSY} == changes.each
        assert NAME == changes.locked[held.id].name
        assert 1 == await counted(database)
    assert [held.id] == (await steer(app, verb, held.id)).changed


async def test_many_locked_jobs_cost_the_patience_of_one(app: App, database: str) -> None:
    """S4-99: with every page locked, a call by filter tries a few times in all, not a few times a page."""
    handles = await waiting(app, 3_000)
    async with locked(database, "select from jobqueue.job for update"):
        async with asyncio.timeout(scaled(8.0)):
            changes = await app.jobs.cancel(queue="default")
    assert {handle.id: Change.BUSY for handle in handles} == changes.refused


@pytest.mark.parametrize("verb", ["pause", "resume", "keep"])
async def test_a_locked_queue_is_told_with_its_holder(app: App, database: str, verb: str) -> None:
    """S2-01: pausing, resuming and limiting a queue whose row somebody holds ends soon, by an error that names him."""
    await app.queues.pause("mail")
    async with locked(database, "select from jobqueue.queue for update") as pid:
        with pytest.raises(QueueLocked, match=rf"'mail'.*{NAME} \(pid {pid}"):
            await getattr(app.queues, verb)("mail")
    await getattr(app.queues, verb)("mail")


async def test_a_locked_queue_holds_up_no_other(app: App, database: str) -> None:
    """S2-01: while somebody has the row of a queue whose pause is over, jobs of others come due all the same."""
    await app.queues.pause("mail", seconds=0.001)

    @app.task
    async def note() -> int:
        return 1

    async with locked(database, "select from jobqueue.queue for update"):
        handle = await note.options(delay=0.05).defer()
        async with app.worker():
            assert 1 == await seen(handle)


async def test_a_locked_job_is_waited_for_without_a_connection(app: App, database: str) -> None:
    """S0-12: whoever waits for a result of a locked job keeps no connection waiting, and has it when it ends."""
    handles = await waiting(app, 12)
    async with locked(database, "select from jobqueue.job for update"):
        results = [asyncio.create_task(handle.result(timeout=30)) for handle in handles]
        assert 12 == (await app.jobs.counts()).by_queue["default"]["ready"]  # type: ignore[index]  # the state's name
    async with app.worker():
        assert list(range(12)) == await asyncio.gather(*results)
        assert 0 == await seen(handles[0])


def test_a_holder_in_words() -> None:
    """What is known of a holder, and nothing else."""
    assert "psql (pid 7, for 3 s)" == str(Holder("psql", 7, 3.2))
    assert "psql (pid 7)" == str(Holder("psql", 7, None))
    assert "a prepared transaction" == str(Holder("a prepared transaction", None, None))
