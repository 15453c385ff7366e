"""Reads take a connection as writes do, and ids may be shortened."""

import pytest
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from uuid_utils.compat import uuid7

from jobqueue import App, BundleNotFound, Dependency, InvalidOption, JobNotFound, JobState, Waits
from tests.app.test_sqlalchemy import on
from tests.support.jobs.blocked import block
from tests.support.jobs.store import connect
from tests.support.jobs.working import new_app


async def looked(app: App, connection: object, id: object) -> None:
    """The job is there, by every way to look."""
    assert id == (await app.jobs.get(str(id), connection=connection)).id
    assert [id] == [job.id for job in await app.jobs.list(connection=connection)]
    assert {"mail": {JobState.READY: 1}} == (await app.jobs.counts(connection=connection)).by_queue
    assert [("mail", 1)] == [(queue.queue, queue.ready) for queue in await app.queues.stats(connection=connection)]
    assert id == await app.jobs.resolve(str(id)[-8:], connection=connection)


@pytest.mark.parametrize("driver", ["asyncpg", "sqlalchemy"])
async def test_looks_inside_the_caller_s_transaction(database: str, driver: str) -> None:
    """S1-08, S4-98: get, list, counts, stats and resolve see what the caller's open transaction has deferred; whoever
    looks from outside sees nothing, and is told what may be the reason."""
    async with new_app(database) as app:

        @app.task(queue="mail")
        async def note() -> None: ...

        if driver == "asyncpg":
            async with connect(database) as connection, connection.transaction():
                (handle,) = await app.defer_many([note.job()], connection=connection)
                await looked(app, connection, handle.id)
                with pytest.raises(JobNotFound, match="transaction that defers it is still open"):
                    await app.jobs.get(handle.id)
        else:
            engine = create_async_engine(on("asyncpg", database), poolclass=NullPool)
            async with engine.connect() as session:
                (handle,) = await app.defer_many([note.job()], connection=session)
                await looked(app, session, handle.id)
                await session.rollback()
            await engine.dispose()
        assert [] == await app.jobs.list(state="running")


async def test_looks_at_bundles_inside_the_caller_s_transaction(database: str) -> None:
    """List, counts, members, graph and results are those that the open transaction has; outside there is none."""
    async with new_app(database) as app, connect(database) as on, on.transaction():

        @app.task
        async def note() -> int:
            return 1

        async with app.bundle("import", connection=on) as b:
            handle = b.add(note.job())
        bundles = app.bundles
        assert [b.id] == [bundle.id for bundle in await bundles.list(connection=on)]
        assert 1 == (await bundles.counts(connection=on)).unfinished
        assert [handle.id] == [job.id for job in await bundles.members(b.id, connection=on)]
        assert b.id == (await bundles.graph(b.id, connection=on)).bundle.id
        assert {} == await bundles.results(b.id, note, connection=on)
        with pytest.raises(BundleNotFound, match=r"still open .inside that, look with connection="):
            await bundles.graph(b.id)
        assert ([], 0) == (await bundles.list(), (await bundles.counts()).unfinished)


async def test_a_part_of_an_id_means_its_job(database: str) -> None:
    """S4-97: the beginning or the end of an id, as `top` shows it, is enough; none or two with it are an error."""
    async with new_app(database) as app:

        @app.task
        async def note() -> None: ...

        ids = [uuid7() for _ in range(3)]
        for id in ids:
            await note.options(id=id).defer()
        await app.run_until_idle()
        for id in ids:
            assert id == await app.jobs.resolve(str(id)[-8:]) == await app.jobs.resolve(str(id).upper()[:34])
        for part, words in (
            (str(ids[0])[:8], "more than one"),
            ("12345678", "none was found"),
            ("5678", "8 characters"),
        ):
            with pytest.raises(InvalidOption, match=words):
                await app.jobs.resolve(part)


async def test_users_are_told_what_a_job_waits_for(database: str) -> None:
    """By id, on the app's own connections and on a caller's: how many of how many, and which, with their states."""
    async with new_app(database) as app:

        @app.task
        async def note() -> None: ...

        first, second, last = await app.defer_many([note.job(), note.job(), note.job()])
        async with connect(database) as connection:
            await block(connection, last.id, [first.id, second.id])
            engine = create_async_engine(on("asyncpg", database), poolclass=NullPool)
            async with engine.connect() as session:
                found = [
                    await app.jobs.waits_for(str(last.id), connection=each) for each in (None, connection, session)
                ]
            await engine.dispose()
        one = await app.jobs.waits_for(last.id, limit=1)
        with pytest.raises(InvalidOption, match="limit"):
            await app.jobs.waits_for(last.id, limit=0)

    one_each = tuple(Dependency(handle.id, "note", JobState.READY, any_end=False) for handle in (first, second))
    assert [Waits(2, 2, one_each)] * 3 == found
    assert Waits(2, 2, one_each[:1]) == one
