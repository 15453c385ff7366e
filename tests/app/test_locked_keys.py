"""A unique key that an open transaction holds: it is waited for, not for long, and by few."""

import asyncio

import pytest

from jobqueue import KeyLocked
from tests.support.jobs.store import connect
from tests.support.jobs.working import new_app
from tests.support.postgres.backends import WAITS_FOR_LOCK, becomes


async def test_a_locked_key_is_told_with_its_holder(database: str) -> None:
    """Somebody's open transaction has the key: after a while the defer says whose, and stores nothing."""
    app = new_app(database)

    @app.task
    async def work(number: int) -> None: ...

    async with app, connect(database, application_name="shell") as other:
        transaction = other.transaction()
        await transaction.start()
        await work.options(unique="one", connection=other).defer(1)

        with pytest.raises(KeyLocked, match=rf"'work'.*shell \(pid {other.get_server_pid()}, for \d+ s\)") as told:
            await work.options(unique="one").defer(2)
        assert isinstance(told.value, TimeoutError)
        await transaction.rollback()

        assert not (await work.options(unique="one").defer(3)).duplicate
        assert 1 == sum((await app.jobs.counts()).by_state.values())


async def test_a_locked_key_leaves_connections_to_others(database: str) -> None:
    """However many defers wait for one key, other calls of the app go on meanwhile."""
    app = new_app(database)

    @app.task
    async def work() -> None: ...

    async with app, connect(database) as other:
        transaction = other.transaction()
        await transaction.start()
        await work.options(unique="one", connection=other).defer()

        waiting = [asyncio.create_task(work.options(unique="one").defer()) for _ in range(15)]
        await becomes(database, 1, WAITS_FOR_LOCK)
        await app.jobs.counts()
        await work.defer()
        await work.options(unique="other").defer()
        await app.defer_many([work.job()])
        assert not any(task.done() for task in waiting)

        await transaction.commit()
        assert 15 == sum([handle.duplicate for handle in await asyncio.gather(*waiting)])


async def test_what_one_is_told_is_told_to_all_that_waited(database: str) -> None:
    """However many wait for a locked key: they do not wait one after the other."""
    app = new_app(database)

    @app.task
    async def work() -> None: ...

    async with app, connect(database) as other:
        transaction = other.transaction()
        await transaction.start()
        await work.options(unique="one", connection=other).defer()

        told = await asyncio.gather(*(work.options(unique="one").defer() for _ in range(15)), return_exceptions=True)
        await transaction.rollback()

        locked = [each for each in told if isinstance(each, KeyLocked)]
        assert (15, 1) == (len(locked), len({each.by for each in locked}))
        assert not (await work.options(unique="one").defer()).duplicate


async def test_keys_that_many_defers_hold_leave_connections_to_others(database: str) -> None:
    """Where all that may wait for keys do, jobs without keys are stored, alone and by the batch."""
    app = new_app(database)

    @app.task
    async def work() -> None: ...

    async with app, connect(database) as other:
        transaction = other.transaction()
        await transaction.start()
        keys = [str(number) for number in range(10)]
        await app.defer_many([work.options(unique=key).job() for key in keys], connection=other)
        waiting = [asyncio.create_task(work.options(unique=key).defer()) for key in keys]
        await becomes(database, 5, WAITS_FOR_LOCK)

        await work.defer()
        await app.defer_many([work.job()])
        assert not any(task.done() for task in waiting)

        await transaction.commit()
        assert 10 == sum([handle.duplicate for handle in await asyncio.gather(*waiting)])
