"""Behind PgBouncer: what stands there is noticed and named, and each mode works as it can."""

import asyncio
from uuid import UUID

import asyncpg
import pytest

from jobqueue import App, ConfigurationError, Settings
from jobqueue.base.settings import Pooler
from jobqueue.store.schema.migrate import migrate, migrations, status
from tests.support.jobs.store import advisory_locks, connect
from tests.support.jobs.working import asked, new_app
from tests.support.patience import NEVER, PATIENCE
from tests.support.postgres.bouncer import IGNORED, bouncer
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
