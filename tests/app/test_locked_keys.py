"""A unique key that an open transaction holds: it is waited for, not for long, and by few."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest

from jobqueue import App, KeyLocked
from tests.support.jobs.store import connect
from tests.support.jobs.working import new_app
from tests.support.postgres.backends import WAITS_FOR_LOCK, becomes


class Locked(NamedTuple):
    """An app with a task, and somebody's open transaction, which has keys of it."""

    app: App
    work: Any
    pid: int
    transaction: Any

    def defers(self, *keys: str) -> list["asyncio.Task[Any]"]:
        """Calls that are under way, one for each of these keys."""
        return [asyncio.create_task(self.work.options(unique=key).defer()) for key in keys]


@asynccontextmanager
async def locked(dsn: str, *keys: str) -> AsyncIterator[Locked]:
    """Inside the block these keys are held, until the transaction ends."""
    app = new_app(dsn)

    @app.task
    async def work() -> None: ...

    async with app, connect(dsn, application_name="shell") as other:
        transaction = other.transaction()
        await transaction.start()
        await app.defer_many([work.options(unique=key).job() for key in keys], connection=other)
        yield Locked(app, work, other.get_server_pid(), transaction)


async def test_a_locked_key_is_told_with_its_holder(database: str) -> None:
    """Somebody's open transaction has the key: after a while the defer says whose, and stores nothing."""
    async with locked(database, "one") as held:
        with pytest.raises(KeyLocked, match=rf"'work'.*shell \(pid {held.pid}, for \d+ s\)") as told:
            await held.work.options(unique="one").defer()
        assert isinstance(told.value, TimeoutError)
        await held.transaction.rollback()

        assert not (await held.work.options(unique="one").defer()).duplicate
        assert 1 == sum((await held.app.jobs.counts()).by_state.values())


async def test_a_locked_key_leaves_connections_to_others(database: str) -> None:
    """However many defers wait for one key, other calls of the app go on meanwhile."""
    async with locked(database, "one") as held:
        waiting = held.defers(*["one"] * 15)
        await becomes(database, 1, WAITS_FOR_LOCK)
        await held.app.jobs.counts()
        await held.work.defer()
        await held.work.options(unique="other").defer()
        await held.app.defer_many([held.work.job()])
        assert not any(task.done() for task in waiting)

        await held.transaction.commit()
        assert 15 == sum([handle.duplicate for handle in await asyncio.gather(*waiting)])


async def test_what_one_is_told_is_told_to_all_that_waited(database: str) -> None:
    """However many wait for a locked key: they do not wait one after the other."""
    async with locked(database, "one") as held:
        told = await asyncio.gather(*held.defers(*["one"] * 15), return_exceptions=True)
        await held.transaction.rollback()

        refused = [each for each in told if isinstance(each, KeyLocked)]
        assert (15, 1) == (len(refused), len({each.by for each in refused}))
        assert not (await held.work.options(unique="one").defer()).duplicate


async def test_keys_that_many_defers_hold_leave_connections_to_others(database: str) -> None:
    """Where all that may wait for keys do, jobs without keys are stored, alone and by the batch."""
    keys = [str(number) for number in range(10)]
    async with locked(database, *keys) as held:
        waiting = held.defers(*keys)
        await becomes(database, 5, WAITS_FOR_LOCK)

        await held.work.defer()
        await held.app.defer_many([held.work.job()])
        assert not any(task.done() for task in waiting)

        await held.transaction.commit()
        assert 10 == sum([handle.duplicate for handle in await asyncio.gather(*waiting)])
