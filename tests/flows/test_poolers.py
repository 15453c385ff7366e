"""Behind PgBouncer: what stands there is noticed and named, and each mode works as it can."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import pytest

from jobqueue import App, ConfigurationError, Settings
from jobqueue.base.settings import Pooler
from jobqueue.store.connection.faults import DATABASE_ERRORS
from jobqueue.store.connection.pool import Database
from jobqueue.store.connection.session import Session
from jobqueue.store.dialing import asking, silence
from jobqueue.store.schema import migrate as rooms
from jobqueue.store.schema.migrate import Migration, migrate, migrations, status
from tests.support.jobs.store import Connection, advisory_locks, claim, connect
from tests.support.jobs.working import asked, new_app
from tests.support.patience import NEVER, PATIENCE
from tests.support.postgres.backends import becomes
from tests.support.postgres.bouncer import IGNORED, bouncer
from tests.support.postgres.proxy import proxied
from tests.support.waiting import wait_until

NAMES = [migration.name for migration in migrations()]


async def note() -> None:
    """Does nothing."""


@pytest.mark.parametrize("mode", ["transaction", "session"])
async def test_migrating_through_a_pooler_leaves_no_lock_behind(own: str, mode: str) -> None:
    """Whatever connection the pooler gave the migrator, the next one finds the lock free."""
    async with bouncer(own, mode) as pooled, connect(own) as observer:
        assert NAMES == await migrate(pooled, "second")
        assert 0 == await advisory_locks(observer)
        assert [] == await migrate(pooled, "second", lock_timeout=PATIENCE)
        assert [] == await migrate(own, "second", lock_timeout=PATIENCE)
        assert [(name, True) for name in NAMES] == await status(pooled, "second")


@pytest.mark.parametrize("mode", ["transaction", "session"])
@pytest.mark.parametrize("more", ["", f"ignore_startup_parameters = {IGNORED}"], ids=["as it comes", "told to ignore"])
async def test_a_pooler_that_nobody_named_is_named(own: str, mode: str, more: str) -> None:
    """Whether it refuses what we ask for at the start or hides that it cannot, the app says what to set, and stops."""
    async with bouncer(own, mode, more=more) as pooled:
        app = new_app(pooled)
        with pytest.raises(ConfigurationError, match=r'^pooler: .*JOBQUEUE_POOLER: "transaction" or "session"'):
            await app.open()
        with pytest.raises(ConfigurationError, match=r"^pooler: "):
            async with app.worker():
                pass
        with pytest.raises(ConfigurationError, match=r"^pooler: "):
            await asyncio.to_thread(app.task(note).defer_sync)


@pytest.mark.parametrize("mode", ["transaction", "session"])
async def test_jobs_go_through_a_pooler_that_was_named(own: str, mode: Pooler) -> None:
    """Many defers at once, keyed ones too, results, and a session's notifications as without it."""
    async with bouncer(own, mode, size=20) as pooled:
        app = new_app(pooled, pooler=mode, poll=0.2 if mode == "transaction" else NEVER)

        @app.task
        async def work(number: int) -> int:
            return number

        async with app, app.worker() as worker:
            assert (mode == "session") == worker.snapshot().listening
            handles = await asyncio.gather(*(work.defer(number) for number in range(40)))
            keyed = await asyncio.gather(*(work.options(unique=str(number)).defer(number) for number in range(20)))
            results = await asyncio.gather(*(handle.result(timeout=PATIENCE) for handle in (*handles, *keyed)))
        assert [*range(40), *range(20)] == results


async def test_a_migration_that_its_role_cuts_short_says_where_to_run_it(
    own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a pooler the limit of the role cannot be lifted for an index that is built outside a transaction."""
    index = Migration("0999_post_index", '-- concurrent\ncreate index concurrently job_task on :"schema".job (task);\n')
    monkeypatch.setattr(rooms, "migrations", lambda: (*migrations(), index))
    async with bouncer(own, "transaction") as pooled, connect(own) as other:
        await other.execute(f"alter database {urlsplit(own).path[1:]} set statement_timeout = '1s'")
        async with other.transaction():
            await other.execute("insert into jobqueue.job (task) values ('waited for')")
            with pytest.raises(ConfigurationError, match=r"^migration 0999_post_index was cancelled: .*server itself$"):
                await migrate(pooled)


async def test_a_pooler_that_is_another_than_was_said_is_noticed(own: str, caplog: pytest.LogCaptureFixture) -> None:
    """Said to keep sessions apart, it does not: the worker says that nothing is heard, and polls."""
    async with bouncer(own, "transaction") as pooled, asyncpg.create_pool(pooled, statement_cache_size=0) as pool:
        app = App(pool=pool, settings=Settings(pooler="session", poll=0.2))

        @app.task
        async def work() -> str:
            return "done"

        async with app, app.worker() as worker:
            await wait_until(lambda: "listener.deaf" in caplog.text, "it is noticed")
            assert not worker.snapshot().listening
            handle = work.handle(await asked(own, "select jobqueue.defer('work')"))
            await wait_until(lambda: has_ended(own, handle.id), "it was found by a look")


async def has_ended(dsn: str, id: UUID) -> bool:
    return bool(await asked(dsn, "select exists (select from jobqueue.job_archive where id = $1)", id))


async def test_a_pooler_that_was_called_one_by_session_is_told_of(own: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever we would set for a session there, others would have: nothing is set, and the log says why."""
    async with bouncer(own, "transaction") as pooled, asyncpg.create_pool(pooled, statement_cache_size=0) as neighbour:
        async with new_app(pooled, pooler="session"):
            assert "pooler.shared" in caplog.text
        assert "0" == await neighbour.fetchval("select current_setting('statement_timeout')")


async def test_a_pooler_with_one_place_is_taken_at_its_word(own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no second connection can be had to look with, the first one works, with limits for transactions only."""
    monkeypatch.setattr(asking, "LOOK_LIMIT", 0.1)
    async with bouncer(own, "session", size=1) as pooled, opened(pooled, "session") as database:
        assert [] == await database.fetch("working")
        assert "statement_timeout" in database.asked.begin


async def test_what_waits_for_a_lock_ends_though_its_client_does_nothing(
    own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A single statement of ours, in a session that a pooler keeps apart, is ended by the server."""
    monkeypatch.setitem(silence.BRIEF, "statement_timeout", "100")
    async with (
        bouncer(own, "session") as pooled, opened(pooled, "session") as database, database.connection() as connection,
        connect(own) as other, other.transaction(),
    ):  # fmt: skip
        await other.execute("lock table jobqueue.queue")
        with pytest.raises(asyncpg.QueryCanceledError):
            await connection.fetch("insert into jobqueue.queue (name) values ('mail')")


async def test_an_answer_that_nobody_reads_keeps_no_job(own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs whose claimer reads no more, its pooler neither, are ready again once the line has been silent for long."""
    monkeypatch.setitem(silence.SILENCE, "tcp_user_timeout", "300")
    fill = (
        "select jobqueue.defer('work', jsonb_build_object('x', repeat('x', 900000))::text) from generate_series(1, 40)"
    )
    async with bouncer(own, "session") as pooled, proxied(pooled) as proxy, connect(own) as other:
        await other.execute(fill)
        async with opened(proxy.dsn, "session") as database:
            session = Session(database)
            proxy.stall_after(100_000)
            claiming = asyncio.create_task(claim(session, 40))
            await becomes(own, 1, "wait_event = 'ClientWrite'")
            assert 0 == await free(other)
            await becomes(own, 0, "state = 'active'")
            assert 40 == await free(other)
            proxy.cut()
            with pytest.raises(DATABASE_ERRORS):
                await claiming
            proxy.let_pass()
            await session.close()


async def free(connection: Connection) -> int:
    """How many jobs nobody has locked."""
    query = "select count(*) from (select from jobqueue.job where state = 'ready' for update skip locked) as job"
    return int(await connection.fetchval(query))


@pytest.mark.parametrize("mode", ["transaction", "session"])
async def test_a_handlers_statement_ends_with_its_client(
    own: str, monkeypatch: pytest.MonkeyPatch, mode: Pooler
) -> None:
    """It may last as long as it wants: until the pooler has lost its client, also while it waits for a lock."""
    monkeypatch.setitem(silence.WATCHED, "client_connection_check_interval", "100")
    async with bouncer(own, mode) as pooled, proxied(pooled) as proxy, opened(proxy.dsn, mode) as database:
        handlers = await database.open_for_handlers(1)

        async def handle() -> None:
            async with handlers.connection() as connection, connection.transaction():
                await connection.execute(f"{handlers.begin_for_handler}; select pg_sleep(3600)")

        handling = asyncio.create_task(handle())
        await becomes(own, 1, "wait_event = 'PgSleep'")
        proxy.cut()
        with pytest.raises(DATABASE_ERRORS):
            await handling
        await becomes(own, 0, "state <> 'idle'")
        await handlers.close()


@asynccontextmanager
async def opened(dsn: str, mode: Pooler) -> AsyncIterator[Database]:
    database = await Database.open(dsn, "jobqueue", name="tests", max_size=2, pooler=mode)
    await database.reach()
    yield database
    await database.close()
