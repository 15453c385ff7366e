"""The table of asynchronous libraries: whatever one passes as `connection=`, jobs are in its transaction."""

import asyncio
from typing import Any

import pytest

from jobqueue import App, DuplicateJob, Unique
from jobqueue.base.errors import InvalidPayload
from tests.support.jobs.joining import ASYNC, Joined, Undo
from tests.support.jobs.store import connect
from tests.support.jobs.stories import whole_story
from tests.support.jobs.working import asked, counted
from tests.support.patience import PATIENCE
from tests.support.postgres.backends import WAITS_FOR_LOCK, becomes, change

TABLE = "create table invoice (number integer primary key)"
REFUSE_BAD = "alter table jobqueue.job add constraint no_bad_jobs check (args ->> 'text' not like '%bad%')"
SECRET = "marker-7f3a"
KEYS = "select count(*) from jobqueue.job_key"
INVOICES = "select count(*) from invoice"


async def note(text: str) -> str:
    return text


async def defer_four(app: App, task: Any, connection: Any) -> list[Any]:
    """By each way of deferring, with and without a key."""
    return [
        await task.options(connection=connection).defer("a"),
        *await task.options(connection=connection).defer_many(["b", "c"]),
        *await app.defer_many([task.options(unique="k").job("d")], connection=connection),
    ]


async def end(joined: Joined, commits: bool) -> None:
    await (joined.commit() if commits else joined.rollback())


@pytest.mark.parametrize("library", ASYNC)
@pytest.mark.parametrize("commits", [True, False], ids=["commit", "rollback"])
async def test_jobs_commit_with_the_callers_rows(commits: bool, library: str, database: str) -> None:
    """S1-05: rows and jobs of one transaction are there together after its commit, not before, or not at all."""
    await change(database, TABLE)
    async with App(database) as app:
        task = app.task(note)
        async with ASYNC[library](database) as joined:
            handles = await defer_four(app, task, joined.connection)
            await joined.execute("insert into invoice values (1)")
            assert [0, 0] == [await counted(database), await asked(database, INVOICES)]
            await end(joined, commits)

        assert [4 * commits, commits] == [await counted(database), await asked(database, INVOICES)]
        if commits:
            await app.run_until_idle()
            assert ["a", "b", "c", "d"] == [await handle.result(timeout=PATIENCE) for handle in handles]


@pytest.mark.parametrize("library", ASYNC)
async def test_a_savepoint_takes_its_jobs_back(library: str, database: str) -> None:
    """S1-05: rolled back to the library's own savepoint, jobs and keys since then are gone, earlier ones stay."""
    async with App(database) as app:
        task = app.task(note)
        async with ASYNC[library](database) as joined:
            await task.options(connection=joined.connection).defer("stays")
            with pytest.raises(Undo):
                async with joined.savepoint():
                    await task.options(connection=joined.connection, unique="k").defer("goes")
                    raise Undo
            await joined.commit()

    assert ["stays"] == await asked(database, "select array_agg(args ->> 'text') from jobqueue.job")
    assert 0 == await asked(database, KEYS)


@pytest.mark.parametrize("library", ASYNC)
async def test_a_cancelled_defer_leaves_nothing_behind(library: str, database: str) -> None:
    """Promise 4: given up while it waits for a key, a defer leaves neither key nor job, whatever the caller does then.

    The transaction goes on, but with SQLAlchemy, which ends a connection that was cut off in mid-statement.
    """
    await change(database, TABLE)
    goes_on = not library.startswith("sql")
    async with App(database) as app, connect(database) as other:
        task = app.task(note)
        async with ASYNC[library](database) as joined:
            await joined.execute("insert into invoice values (1)")
            async with other.transaction():
                await task.options(connection=other, unique="k").defer("theirs")
                defer = asyncio.ensure_future(task.options(connection=joined.connection, unique="k").defer("ours"))
                await becomes(database, 1, WAITS_FOR_LOCK)
                defer.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await defer
            if goes_on:
                await joined.execute("insert into invoice values (2)")
            await end(joined, goes_on)

    assert 2 * goes_on == await asked(database, INVOICES)
    assert ["theirs"] == await asked(database, "select array_agg(args ->> 'text') from jobqueue.job")
    assert 1 == await asked(database, KEYS)


@pytest.mark.parametrize("library", ASYNC)
async def test_a_duplicate_leaves_the_transaction_usable(library: str, database: str) -> None:
    """A10: told of a duplicate, the caller goes on in the same transaction, which has nothing of the refused job."""
    await change(database, TABLE)
    async with App(database) as app:
        task = app.task(note)
        holder = await task.options(unique="k").defer("held")
        async with ASYNC[library](database) as joined:
            on_it = task.options(connection=joined.connection)
            assert (await on_it.options(unique="k").defer("skipped")).duplicate
            with pytest.raises(DuplicateJob) as told:
                await on_it.options(unique=Unique("k", on_conflict="raise")).defer("refused")
            await joined.execute("insert into invoice values (1)")
            await on_it.options(unique="own").defer("kept")
            await joined.commit()

        assert holder.id == told.value.id
    assert [2, 2, 1] == [await counted(database), await asked(database, KEYS), await asked(database, INVOICES)]


@pytest.mark.parametrize("library", ASYNC)
async def test_a_refused_job_is_told_without_its_row(library: str, database: str) -> None:
    """S3-20: the library's error quotes the row or the parameters; ours names the rule, and nothing hangs on it."""
    await change(database, REFUSE_BAD)
    async with App(database) as app:
        task = app.task(note)
        async with ASYNC[library](database) as joined:
            with pytest.raises(InvalidPayload, match=r"note job: the database refused it \(no_bad_jobs\)") as told:
                await task.options(connection=joined.connection).defer(f"bad {SECRET}")
            await joined.rollback()

    assert SECRET not in whole_story(told.value)
    assert 0 == await counted(database)


@pytest.mark.parametrize("library", ASYNC)
@pytest.mark.parametrize("commits", [True, False], ids=["commit", "rollback"])
async def test_all_else_that_takes_a_connection(commits: bool, library: str, database: str) -> None:
    """S1-05: reads, changes, bundles, signals and schedules are in the same transaction as the caller's rows."""
    async with App(database) as app:
        task = app.task(note)
        cancelled, late, gone = [await task.options(delay=3600).defer(text) for text in ("a", "b", "c")]
        signalled = await task.options(delay=3600).defer("d")
        async with ASYNC[library](database) as joined:
            on = joined.connection
            new = await task.options(connection=on, delay=3600).defer("e")
            assert new.id == (await app.jobs.get(new.id, connection=on)).id
            assert 5 == len(await app.jobs.list(connection=on))
            assert 5 == sum((await app.jobs.counts(connection=on)).by_queue["default"].values())
            assert 5 == sum(queue.scheduled for queue in await app.queues.stats(connection=on))
            await app.jobs.cancel(cancelled.id, connection=on)
            await app.jobs.reschedule(late.id, delay=7200, connection=on)
            await app.jobs.delete(gone.id, connection=on)
            await app.jobs.signal(signalled.id, "approved", 1, connection=on)
            assert {"approved": 1} == await app.jobs.unread_signals(signalled.id, connection=on)
            async with app.bundle("import", on_success=task.job("f"), connection=on) as bundle:
                bundle.add(task.job("g"))
            assert "import" == (await app.bundles.get(bundle.id, connection=on)).name
            await app.schedules.put("nightly", task.job("h"), "0 7 * * *", connection=on)
            assert "nightly" == (await app.schedules.get("nightly", connection=on)).name
            await end(joined, commits)

        texts = await asked(
            database, "select string_agg(args ->> 'text', '' order by args ->> 'text') from jobqueue.job"
        )
        assert ("bdeg" if commits else "abcd") == texts
        assert int(commits) == await asked(database, "select count(*) from jobqueue.schedule")
        assert int(commits) == await asked(database, "select count(*) from jobqueue.bundle")
        assert ({"approved": 1} if commits else {}) == await app.jobs.unread_signals(signalled.id)
