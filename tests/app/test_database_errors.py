"""When the database is away or refuses: one error of ours for every call, with the driver's as its cause."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from jobqueue import App, DatabaseError, JobHandle, JobQueueError, NewJob, Sent, Task
from tests.support.jobs.stories import whole_story
from tests.support.jobs.working import counted
from tests.support.patience import PATIENCE
from tests.support.postgres.backends import change
from tests.support.postgres.proxy import proxied

AWAY = "postgresql://user:p4ssw0rd@127.0.0.1:1/none"


async def note(text: str = "") -> None: ...


async def enter_worker(app: App) -> None:
    async with app.worker():
        raise AssertionError("a worker without a database has started")


Call = Callable[[App, Task[Any, Any], JobHandle[Any]], Awaitable[object]]
CALLS: dict[str, Call] = {
    "open": lambda app, task, handle: app.open(),
    "defer": lambda app, task, handle: task.defer("a"),
    "defer unique": lambda app, task, handle: task.options(unique="a").defer("a"),
    "defer_many": lambda app, task, handle: task.defer_many(["a"]),
    "app.defer_many": lambda app, task, handle: app.defer_many([task.job("a")]),
    "jobs.get": lambda app, task, handle: app.jobs.get(handle.id),
    "jobs.list": lambda app, task, handle: app.jobs.list(),
    "jobs.counts": lambda app, task, handle: app.jobs.counts(),
    "jobs.cancel": lambda app, task, handle: app.jobs.cancel(handle.id),
    "jobs.delete": lambda app, task, handle: app.jobs.delete(queue="q"),
    "queues.stats": lambda app, task, handle: app.queues.stats(),
    "queues.pause": lambda app, task, handle: app.queues.pause("q"),
    "handle.status": lambda app, task, handle: handle.status(),
    "handle.cancel": lambda app, task, handle: handle.cancel(),
    "handle.result": lambda app, task, handle: handle.result(timeout=PATIENCE),
    "migrate": lambda app, task, handle: app.migrate(),
    "worker": lambda app, task, handle: enter_worker(app),
    "run_until_idle": lambda app, task, handle: app.run_until_idle(),
}


@pytest.mark.parametrize("name", CALLS)
async def test_a_database_that_is_away_is_one_error(name: str) -> None:
    """Every call raises DatabaseError, which `except OSError` catches too, with the network's error as its cause."""
    app = App(AWAY)
    task = app.task(note)

    with pytest.raises(OSError, match="database cannot be used") as told:
        await CALLS[name](app, task, task.handle(task.job("a").id))

    assert isinstance(told.value, DatabaseError)
    assert isinstance(told.value, JobQueueError)
    assert isinstance(told.value.__cause__, ConnectionRefusedError)
    assert "p4ssw0rd" not in whole_story(told.value)
    await app.close()


@pytest.mark.parametrize(
    "name", [name for name in CALLS if name.startswith(("jobs.", "queues.", "handle.s", "handle.c"))]
)
async def test_a_connection_that_ends_later_is_the_same_error(name: str, database: str) -> None:
    """Also once the app is open; but `result` waits for its return, and a defer may have to raise DeferUnknown."""
    async with proxied(database) as proxy:
        app = App(proxy.dsn)
        task = app.task(note)
        handle = await task.defer("a")
        await asyncio.gather(app.jobs.counts(), app.jobs.counts())
        proxy.go_away()

        with pytest.raises(DatabaseError):
            await CALLS[name](app, task, handle)
        await app.close()


async def test_what_the_server_refuses_has_its_code(database: str) -> None:
    """Wrong rights, no such database: `sqlstate` says what, the text says it in the server's words."""
    missing = App(database.replace("/jobqueue_test", "/no_such_jobqueue_test"))
    with pytest.raises(DatabaseError, match=r'"no_such_jobqueue_test[^"]*" does not exist') as told:
        await missing.open()
    assert "3D000" == told.value.sqlstate
    assert isinstance(told.value.__cause__, asyncpg.InvalidCatalogNameError)

    await change(database, "create view jobqueue.looks as select 1; alter table jobqueue.job rename to job_gone")
    async with App(database) as app:
        with pytest.raises(DatabaseError, match="UndefinedTableError 42P01") as gone:
            await app.task(note).defer("a")
    assert "42P01" == gone.value.sqlstate


async def test_the_caller_s_own_connection_keeps_its_driver_s_errors(database: str) -> None:
    """Who brings a connection handles its errors, such as a deadlock in their transaction, in their driver's terms."""
    async with App(database) as app:
        connection = await asyncpg.connect(database)
        await connection.execute("begin; set transaction read only")
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await app.task(note).options(connection=connection).defer("a")
        await connection.close()
    assert 0 == await counted(database)


async def test_the_user_s_own_errors_are_not_taken_for_the_database_s(database: str) -> None:
    """What middleware, a lifespan or a DSN callable raises comes out as it is, though it may be an OSError."""

    async def broken(job: NewJob[Any], call_next: Any) -> Sent:
        raise ConnectionResetError("the cache")

    def no_secrets() -> str:
        raise ConnectionResetError("the vault")

    app = App(database, middleware=[broken])
    with pytest.raises(ConnectionResetError, match="the cache"):
        await app.task(note).defer("a")
    with pytest.raises(ConnectionResetError, match="the vault"):
        await App(no_secrets).open()
    await app.close()
