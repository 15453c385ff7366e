"""PostgreSQL is there and says no, in one of its many ways: workers wait, without haste, and go on by themselves."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from jobqueue.base.errors import DeferUnknown
from tests.support.jobs.store import connect, insert, new_jobs, open_database, open_session
from tests.support.jobs.working import all_ended, archived, asked, asleep, claims_left, counted, new_app
from tests.support.postgres.backends import LISTENS, becomes, change, terminate
from tests.support.postgres.own_server import OwnServer
from tests.support.programs.notebook import AWAY, Notebook, Producer
from tests.support.waiting import wait_until


async def alter(server: OwnServer, dsn: str, words: str) -> None:
    """`alter database ... WORDS` on the database of this DSN, from beside it."""
    await server.change(f'alter database "{dsn.rpartition("/")[2]}" {words}')


async def test_a_read_only_time(server: OwnServer, own: str, tmp_path: Path) -> None:
    """C8: while the database takes no writes nothing is lost, and afterwards the worker goes on by itself.

    Its connections stay as they are: as after a switch to another server, when the old one goes on as a standby; then
    only new connections help.
    """
    async with Notebook(tmp_path, own) as book:
        (worker,) = await book.workers(1, "--concurrency", "5")
        held = await book.app.defer_many([book.note.job(0, "held") for _ in range(5)])
        await book.have_begun(*[handle.id for handle in held])
        await alter(server, own, "set default_transaction_read_only = on")
        await terminate(own)
        since = time.monotonic()
        book.let_go(*[handle.id for handle in held])
        await wait_until(
            lambda: len(book.events(worker, "database.unreachable", doing="finish")) >= 2, "it cannot write"
        )
        assert 5 == len(book.lines("ended"))
        with pytest.raises(AWAY):
            await book.note.defer()

        await alter(server, own, "reset default_transaction_read_only")
        async with connect(own) as connection:  # as another producer would
            ready = await book.note.options(connection=connection).defer()
            delayed = await book.note.options(connection=connection, delay=0.5).defer()
        await book.have_begun(ready.id, delayed.id)
        await all_ended(own)

        assert ({1: 7}, 7) == (book.runs(), await archived(own))
        told = [len(book.events(worker, "database.unreachable", doing=doing)) for doing in ("claim", "finish", "stage")]
        assert max(told) <= time.monotonic() - since + 2


async def test_a_producer_outlives_a_read_only_time(server: OwnServer, own: str, tmp_path: Path) -> None:
    """C8: an app that met a read-only server can defer again when there is one that takes writes."""
    async with Notebook(tmp_path, own) as book:
        await book.note.defer()
        await alter(server, own, "set default_transaction_read_only = on")
        await terminate(own)

        async def is_refused() -> bool:
            try:
                await book.note.defer()
            except AWAY as error:
                return getattr(error, "sqlstate", None) == "25006"
            return False

        await wait_until(is_refused, "the database refuses writes")
        await alter(server, own, "reset default_transaction_read_only")

        async def is_taken() -> bool:
            try:
                await book.note.defer()
            except AWAY:
                return False
            return True

        await wait_until(is_taken, "the database takes it")


@asynccontextmanager
async def ordinary_role(server: OwnServer, dsn: str) -> AsyncIterator[str]:
    """A role that may do what a worker does, and has to obey a connection limit; its name."""
    name = f"worker_of_{dsn.rpartition('/')[2]}"
    await server.change(f"create role {name} login")
    await change(
        dsn,
        f"grant usage on schema jobqueue to {name};"
        f"grant all on all tables in schema jobqueue to {name};"
        f"grant all on all sequences in schema jobqueue to {name};"
        f"grant execute on all functions in schema jobqueue to {name}",
    )
    try:
        yield name
    finally:
        await change(dsn, f"drop owned by {name} cascade; drop role {name}")


async def test_too_few_connections(server: OwnServer, own: str, tmp_path: Path) -> None:
    """C11: refused connections are asked for again without haste; with enough of them all goes on by itself."""
    async with Notebook(tmp_path, own) as book, ordinary_role(server, own) as role:
        workers = await book.workers(2, NOTEBOOK_DSN=server.dsn(own.rpartition("/")[2], user=role))
        await change(own, f"alter role {role} connection limit 2")
        await terminate(own, "usename = $1", role)
        since = time.monotonic()
        await book.app.defer_many([book.note.job(0.01) for _ in range(50)])
        await wait_until(lambda: time.monotonic() - since >= 3, "they have tried for a while")
        await wait_until(lambda: any("53300" in worker.err for worker in workers), "they were refused")
        for worker in workers:
            assert len(book.events(worker, "listener.lost")) <= time.monotonic() - since + 5
            for doing in ("claim", "finish", "stage", "beat", "rescue"):
                told = len(book.events(worker, "database.unreachable", doing=doing))
                assert told <= time.monotonic() - since + 2

        await change(own, f"alter role {role} connection limit -1")
        await becomes(own, 2, f"{LISTENS} and usename = $1", role)
        await all_ended(own)
        assert ({1: 50}, 50) == (book.runs(), await archived(own))
        for worker in workers:
            worker.signal(signal.SIGTERM)
            assert 0 == await worker.ends()


async def test_four_connections_are_enough_to_run_jobs(server: OwnServer, own: str) -> None:
    """C11: those that renew, claim and finish come first, at the start and after a cut: others make room for them."""
    async with ordinary_role(server, own) as role:
        await change(own, f"alter role {role} connection limit 4")
        app = new_app(server.dsn(own.rpartition("/")[2], user=role))

        @app.task
        async def work() -> None: ...

        async with open_session(own) as session:
            await insert(session, *new_jobs(100, task=work.name))
            async with app.worker():
                await all_ended(own)
                for _ in range(3):
                    await terminate(own, "usename = $1", role)
                    await insert(session, *new_jobs(100, task=work.name))
                    await all_ended(own)
        assert 400 == await archived(own)


@pytest.mark.parametrize("still_used", [True, False], ids=["still used", "just given back"])
async def test_who_comes_first_gets_the_places_of_others(server: OwnServer, own: str, *, still_used: bool) -> None:
    """C11: what others use, keep or have given back is ended; who can wait stays out meanwhile."""
    async with ordinary_role(server, own) as role:
        await change(own, f"alter role {role} connection limit 3")
        async with open_database(server.dsn(own.rpartition("/")[2], user=role)) as database:
            lesser, claims = database.session(), database.session(first=True)
            planned, beside = await database.open_planned_once(), await database.open_beside()
            writes, beats = planned.session(first=True), beside.session(first=True)
            await lesser.ready()
            async with database.connection():
                async with database.connection():
                    pass
                with pytest.raises(asyncpg.TooManyConnectionsError):
                    await writes.ready()
                if still_used:
                    await becomes(own, 0, "usename = $1", role)
            await becomes(own, 0, "usename = $1", role)
            for first in (claims, writes, beats):
                await first.ready()
            with pytest.raises(asyncpg.TooManyConnectionsError, match="left to those"):
                await lesser.ready()
            await becomes(own, 3, "usename = $1", role)
            for first in (claims, writes, beats):
                await first.close()
            await beside.close()


async def test_a_full_notification_queue(server: OwnServer, own: str, tmp_path: Path) -> None:
    """D3: while somebody blocks the queue of notifications, defers succeed all the same; polling finds the jobs."""
    if int(str(await asked(own, "show server_version_num"))) < 170000:
        pytest.skip("before PostgreSQL 17 the queue is 8 GB: max_notify_queue_pages is missing")
    await server.change("alter system set max_notify_queue_pages = 64")
    await server.restart()
    try:
        async with Notebook(tmp_path, own, JOBQUEUE_POLL="1") as book, connect(own) as blocker, connect(own) as noise:
            await book.workers(1)
            await asleep(own)
            await blocker.execute("listen somewhere")
            await blocker.execute("begin")
            await blocker.execute("select 1")
            with pytest.raises(Exception, match="too many notifications in the NOTIFY queue"):
                while True:
                    await noise.execute(
                        "select pg_notify('elsewhere', repeat('x', 7000) || i) from generate_series(1, 20) i"
                    )
            handles = [await book.note.defer() for _ in range(5)]
            await book.app.defer_many([book.note.job() for _ in range(5)])
            async with connect(own) as connection, connection.transaction():
                await book.note.options(connection=connection).defer()
            await book.have_begun(*[handle.id for handle in handles])
            await wait_until(lambda: len(book.lines()) == 11, "all have begun")
            await blocker.execute("rollback")
            await all_ended(own)
            assert {1: 11} == book.runs()
    finally:
        await server.change("alter system reset max_notify_queue_pages")
        await server.restart()


async def test_a_column_is_added_under_load(own: str, tmp_path: Path) -> None:
    """C12: a change of the table while jobs come and run makes none fail: cached plans are made anew."""
    async with Notebook(tmp_path, own) as book:
        workers = await book.workers(2, "--concurrency", "5")
        async with Producer(book, seconds=0.01) as producer:
            for number in range(3):
                await producer.more(50)
                await change(own, f"alter table jobqueue.job add column remark{number} text default 'none'")
                await change(own, f"alter table jobqueue.job_archive add column remark{number} text")
            await producer.more(50)
        await all_ended(own)

        assert 0 == producer.failures
        assert ({1: len(producer.stored)}, len(producer.stored)) == (book.runs(), await archived(own))
        assert 0 == await asked(own, "select count(*) from jobqueue.job_archive where errors is not null")
        for worker in workers:
            assert [] == [*book.events(worker, "worker.failed"), *book.events(worker, "job.outcome_unsaved")]


async def test_commits_that_hang(server: OwnServer, own: str, tmp_path: Path) -> None:
    """C13: while every commit hangs, and time limits strike, nothing is lost and nothing stored or run twice."""
    async with Notebook(tmp_path, own) as book:
        workers = await book.workers(2, "--concurrency", "5")
        async with Producer(book, seconds=0.01) as producer:
            for _ in range(3):
                await producer.more(30)
                await server.change("alter system set synchronous_standby_names = 'nobody'; select pg_reload_conf()")
                await becomes_stuck(own)
                with pytest.raises((TimeoutError, DeferUnknown)):
                    async with asyncio.timeout(0.2):
                        await hasty(book, own)
                await terminate(own)
                await server.change("alter system reset synchronous_standby_names; select pg_reload_conf()")
            await producer.more(30)
        await all_ended(own)

        expected = await asked(own, "select count(*) from jobqueue.job_archive where task = 'note'")
        assert {1: expected} == book.runs()
        assert book.began(producer.stored)
        assert len(producer.stored) <= expected <= len(producer.stored) + 3  # three more may have been stored, unknown
        assert ([], 0) == (await claims_left(own), await counted(own))
        assert [[], []] == [book.events(worker, "job.refused") for worker in workers]


async def hasty(book: Notebook, dsn: str) -> None:
    async with connect(dsn) as connection:
        await book.note.options(connection=connection).defer()


async def becomes_stuck(dsn: str) -> None:
    """Return once a commit waits for a standby."""

    async def one_waits() -> bool:
        return bool(await asked(dsn, "select exists (select from pg_stat_activity where wait_event = 'SyncRep')"))

    await wait_until(one_waits, "a commit waits for a standby")
