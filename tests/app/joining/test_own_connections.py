"""defer_sync and defer_many_sync without a connection: a few of this process's own."""

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from uuid_utils.compat import uuid7

from jobqueue import App, AppClosed, DuplicateJob, NewJob, Unique
from jobqueue.base.errors import ConfigurationError, DatabaseError, InvalidOption, InvalidPayload, NotMigrated
from jobqueue.base.job import Sent
from tests.support.jobs.stories import whole_story
from tests.support.patience import PATIENCE
from tests.support.postgres.database import Databases

REFUSE_BAD = "alter table jobqueue.job add constraint no_bad_jobs check (args ->> 'text' not like '%bad%')"
OURS = "datname = current_database() and application_name = 'shop'"


async def note(text: str) -> str:
    return text


@pytest.fixture
def dsn(databases: Databases, template: str) -> Iterator[str]:
    """A database for tests without a running loop."""
    with databases.temporary(template) as dsn:
        yield dsn


def asked(dsn: str, query: str) -> Any:
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
        return row and row[0]


def jobs(dsn: str) -> int:
    return int(asked(dsn, "select count(*) from jobqueue.job"))


def test_a_script_defers(dsn: str) -> None:
    """S4-40: without a connection each call is stored at once, all or none; a worker runs what came in."""
    app = App(dsn)
    task = app.task(note)
    handles = [task.defer_sync("a"), *app.defer_many_sync([task.job("b"), task.options(unique="k").job("c")])]
    assert 3 == jobs(dsn)
    again = task.options(unique="k").defer_sync("d")
    assert (handles[2].id, True) == (again.id, again.duplicate)
    with pytest.raises(DuplicateJob):
        app.defer_many_sync([task.job("e"), task.options(unique=Unique("k", on_conflict="raise")).job("f")])
    assert 3 == jobs(dsn)
    assert [] == app.defer_many_sync([])

    async def run() -> list[str]:
        async with app:
            await app.run_until_idle()
            return [await handle.result(timeout=PATIENCE) for handle in handles]

    assert ["a", "b", "c"] == asyncio.run(run())


def test_a_large_call(dsn: str) -> None:
    """More jobs than a statement takes are one transaction as well."""
    app = App(dsn)
    task = app.task(note)

    assert 12_000 == len({handle.id for handle in app.defer_many_sync(task.job("a") for _ in range(12_000))})
    assert 12_000 == jobs(dsn)


def test_threads_share_a_few_connections(dsn: str) -> None:
    """However many threads defer at once, there are no more connections than the pool has, and every job is in."""
    app = App(dsn, name="shop")
    task = app.task(note)
    together = threading.Barrier(16)

    def defer(number: int) -> None:
        together.wait()
        for _ in range(10):
            task.defer_sync(str(number))

    with ThreadPoolExecutor(16) as threads:
        assert [None] * 16 == list(threads.map(defer, range(16)))
    assert 160 == jobs(dsn)
    assert 1 <= asked(dsn, f"select count(*) from pg_stat_activity where {OURS}") <= 4
    asyncio.run(app.close())
    assert 0 == asked(dsn, f"select count(*) from pg_stat_activity where {OURS} and state = 'active'")


def test_a_child_of_a_fork_has_its_own(dsn: str) -> None:
    """After a fork, as of a web server's workers, parent and child each defer on their own connections."""
    app = App(dsn, name="shop")
    task = app.task(note)
    task.defer_sync("before")
    child = os.fork()
    if child == 0:
        try:
            for _ in range(20):
                task.defer_sync("child")
            os._exit(0)
        finally:
            os._exit(1)
    for _ in range(20):
        task.defer_sync("parent")

    assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    task.defer_sync("after")
    assert 42 == jobs(dsn)
    assert 1 == asked(dsn, f"select count(*) from pg_stat_activity where {OURS}"), "the child's are gone"


def test_a_connection_that_was_cut_is_replaced(dsn: str) -> None:
    """The server has ended what was idle, as by a restart: the next call is stored, once, on a new connection."""
    task = App(dsn, name="shop").task(note)
    task.defer_sync("a")
    assert asked(dsn, f"select bool_and(pg_terminate_backend(pid, 10000)) from pg_stat_activity where {OURS}")
    assert not task.defer_sync("b").duplicate
    assert asked(dsn, f"select bool_and(pg_terminate_backend(pid, 10000)) from pg_stat_activity where {OURS}")
    assert not task.options(unique="k").defer_sync("c").duplicate

    assert 3 == jobs(dsn)


def test_a_refused_job_is_told_without_its_row(dsn: str) -> None:
    """S3-20: InvalidPayload names the rule; the connection is as good as before."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(REFUSE_BAD)
    app = App(dsn)
    task = app.task(note)
    for defer in (
        lambda: task.defer_sync("bad marker-7f3a"),
        lambda: app.defer_many_sync([task.options(unique="l").job("good"), task.job("bad marker-7f3a")]),
    ):
        with pytest.raises(InvalidPayload, match="no_bad_jobs") as told:
            defer()
        assert "marker-7f3a" not in whole_story(told.value)
    task.defer_sync("good")

    assert [1, 0] == [jobs(dsn), asked(dsn, "select count(*) from jobqueue.job_key")]


def test_an_own_id_is_safe_to_send_again(dsn: str) -> None:
    """Sent twice with an id of the caller's, there is one job."""
    task, id = App(dsn).task(note), uuid7()
    first, second = [task.options(id=id).defer_sync("a") for _ in range(2)]

    assert (False, True, 1) == (first.duplicate, second.duplicate, jobs(dsn))


def test_faults_of_the_place(dsn: str, databases: Databases) -> None:
    """No server, no schema, no connection string that can be read: one documented error each, without the password."""
    with pytest.raises(DatabaseError, match="refused") as told:
        App("postgresql://me:secret-word@127.0.0.1:1/none").task(note).defer_sync("a")
    assert "secret-word" not in whole_story(told.value)
    with databases.temporary() as empty, pytest.raises(NotMigrated):
        App(empty).task(note).defer_sync("a")
    for wrong in ("mysql://shop", "postgresql://me:secret-word@[::1/shop"):
        with pytest.raises(ConfigurationError, match="dsn: cannot be read") as told_wrong:
            App(wrong).task(note).defer_sync("a")
        assert "secret-word" not in whole_story(told_wrong.value)


def test_what_only_the_driver_of_the_loop_knows(dsn: str) -> None:
    """A connection string with settings for the server, of SQLAlchemy's scheme, or from an async callable works."""

    async def later() -> str:
        return dsn.replace("postgresql://", "postgresql+asyncpg://")

    for given in (f"{dsn}&search_path=nowhere,%20public&prepared_statement_cache_size=0", later):
        App(given).task(note).defer_sync("a")

    assert 2 == jobs(dsn)


def test_closed_and_overridden(dsn: str, databases: Databases, template: str) -> None:
    """After `close` a call raises AppClosed; inside `override` it goes to the other database."""
    app = App(dsn)
    task = app.task(note)
    task.defer_sync("a")
    with databases.temporary(template) as other, app.override(dsn=other):
        task.defer_sync("b")
        task.defer_sync("c")
        assert 2 == jobs(other)
        asyncio.run(app.close())
        with pytest.raises(AppClosed):
            task.defer_sync("d")
    assert 1 == jobs(dsn)
    task.defer_sync("e")
    assert 2 == jobs(dsn)


async def test_on_a_pool_of_the_users(database: str) -> None:
    """An app on a pool of asyncio's has no connection string to connect by: it says so."""
    import asyncpg

    async with asyncpg.create_pool(database, min_size=0, max_size=2) as pool:
        task = App(pool=pool).task(note)
        with pytest.raises(ConfigurationError, match=r"pool: this needs a connection string"):
            await asyncio.to_thread(task.defer_sync, "a")


async def test_inside_a_running_loop(database: str) -> None:
    """S4-40: it would block the loop: refused, with the asynchronous way named; in a thread it works."""
    async with App(database) as app:
        task = app.task(note)
        with pytest.raises(ConfigurationError, match=r"defer_sync would block .*; use `await task\.defer\(\.\.\.\)`"):
            task.defer_sync("a")
        with pytest.raises(ConfigurationError, match=r"defer_many_sync would block .*; use `await app\.defer_many"):
            app.defer_many_sync([task.job("a")])
        handle = await asyncio.to_thread(task.defer_sync, "b")
        await app.run_until_idle()
        assert "b" == await handle.result(timeout=PATIENCE)


@pytest.mark.parametrize("own", [True, False], ids=["own connection", "the caller's"])
def test_middleware_goes_around(own: bool, dsn: str) -> None:
    """S4-113: middleware of defers, which may await, sees what is deferred without a loop, and can hold it back."""

    async def tagged(job: NewJob[Any], call_next: Callable[[NewJob[Any]], Awaitable[Sent]]) -> Sent:
        await asyncio.sleep(0)
        if job.args == '{"text":"held"}':
            return Sent(job.id, duplicate=True)
        return await call_next(replace(job, meta='{"seen":true}'))

    app = App(dsn, middleware=[tagged])
    task = app.task(note)
    with psycopg.connect(dsn) as connection:
        on = None if own else connection
        task.options(connection=on).defer_sync("a")
        assert [True, False] == [
            handle.duplicate for handle in app.defer_many_sync([task.job("held"), task.job("b")], connection=on)
        ]
    assert 2 == asked(dsn, "select count(*) from jobqueue.job where (meta ->> 'seen')::boolean")
    assert 2 == jobs(dsn)


def test_an_app_without_a_database() -> None:
    """App.null() drops what is deferred without a loop, too, through its middleware."""
    seen: list[str] = []

    async def watch(job: NewJob[Any], call_next: Callable[[NewJob[Any]], Awaitable[Sent]]) -> Sent:
        seen.append(job.task)
        return await call_next(job)

    app = App.null(middleware=[watch])
    task = app.task(note)
    assert not task.defer_sync("a").duplicate
    assert 2 == len(app.defer_many_sync([task.job("b"), task.job("c")]))
    assert ["note"] * 3 == seen


@pytest.mark.parametrize("make", [App, App.null])
async def test_a_connection_can_be_required(make: Any, database: str) -> None:
    """S4-111: with require_connection=True a defer that forgot its connection is refused, whatever way it goes."""
    given = {"require_connection": True} | ({"dsn": database} if make is App else {})
    app = make(**given)
    task = app.task(note)

    async def in_a_bundle() -> None:
        async with app.bundle("b") as bundle:
            bundle.add(task.job("a"))

    async with app:
        ways: list[Callable[[], Awaitable[object]]] = [
            lambda: task.defer("a"),
            lambda: task.defer_many(["a"]),
            lambda: app.defer_many([task.job("a")]),
            lambda: asyncio.to_thread(task.defer_sync, "a"),
            lambda: asyncio.to_thread(app.defer_many_sync, [task.job("a")]),
            in_a_bundle,
        ]
        for way in ways:
            with pytest.raises(InvalidOption, match=r"connection: is missing.*pass the connection or session whose"):
                await way()
        async with await psycopg.AsyncConnection.connect(database) as connection:
            await task.options(connection=connection).defer("b")
