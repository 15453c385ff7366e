"""An App opens itself on first use, once in each event loop, and leaves nothing when that loop ends."""

import asyncio
import gc
import os
import warnings
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from jobqueue.app import App
from jobqueue.base.errors import AppClosed, ConfigurationError, NotMigrated
from jobqueue.base.settings import Settings
from tests.support.jobs.stories import whole_story
from tests.support.jobs.working import asked, counted
from tests.support.postgres.backends import LISTENS, backends, becomes
from tests.support.postgres.database import Databases
from tests.support.programs.scripts import run_script


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("JOBQUEUE_") and not name.startswith("JOBQUEUE_TEST")]:
        monkeypatch.delenv(name)


async def note(text: str = "") -> None: ...


async def test_an_app_opens_on_first_use(database: str) -> None:
    """Nothing is connected before the first use; open() only does it earlier. (S0-13)"""
    app = App(database, name="shop")
    task = app.task(note)
    assert ([], False) == (await backends(database), app.is_open)

    await task.defer("a")

    assert (1, True) == (len(await backends(database, "application_name = 'shop'")), app.is_open)
    await app.close()
    assert not app.is_open
    await becomes(database, 0)


async def test_a_producer_owns_its_connections_and_nothing_else(database: str) -> None:
    """S0-32: after defers an open App has connections of its pool, no LISTEN connection and no task."""
    app = App(database)
    task = app.task(note)
    before = asyncio.all_tasks()

    await asyncio.gather(*(task.defer(str(number)) for number in range(50)))
    await task.options(unique="one").defer("a")
    await task.defer_many(["b", "c"])

    assert before == asyncio.all_tasks()
    connected = await backends(database)
    pool = (await app._opening.database()).pool
    assert len(connected) == pool.get_size() <= 2
    assert [] == await backends(database, LISTENS)
    await app.close()


async def test_one_app_in_one_loop_after_the_other(database: str) -> None:
    """One App serves asyncio.run again and again, also without close: each loop's end closes what it opened."""
    printed = await run_script(
        """
        import asyncio, gc, os
        from jobqueue import App

        app = App()

        @app.task
        async def note(text: str) -> None: ...

        for name in ("first", "second", "third"):
            asyncio.run(note.defer(name))
            gc.collect()
        print(len(app._opening._producers._places))
        """,
        database,
    )

    assert "0" == printed, "ended loops are kept in memory"
    assert 3 == await counted(database)
    await becomes(database, 0)


def test_a_loop_of_its_own_for_each_test_is_no_trouble(databases: Databases, template: str) -> None:
    """A loop that ends without close leaves no connection, no ResourceWarning and no task."""
    with databases.temporary(template) as dsn, warnings.catch_warnings():
        warnings.simplefilter("error")
        app = App(dsn)
        task = app.task(note)
        for _ in range(3):
            asyncio.run(task.defer("a"))
        gc.collect()

        assert 3 == asyncio.run(counted(dsn))
        asyncio.run(becomes(dsn, 0))


@pytest.mark.parametrize("make", ["asyncio.new_event_loop", "uvloop.new_event_loop"])
async def test_loops_that_are_closed_by_hand_leave_one_connection_at_most(make: str, database: str) -> None:
    """Whoever makes and closes a loop for each call, as synchronous code does, is left with that of the last one."""
    pytest.importorskip(make.partition(".")[0])
    await run_script(
        f"""
        import asyncio, os, warnings, {make.partition(".")[0]}
        from jobqueue import App

        warnings.simplefilter("ignore", ResourceWarning)  # asyncio's, of whoever closes a loop with open transports
        app = App()

        @app.task
        async def note(text: str) -> None: ...

        def once(coroutine):
            loop = {make}()
            loop.run_until_complete(coroutine)
            loop.close()

        async def count():
            async with app._opening._location.resolved_dsn() as dsn:
                connection = await __import__("asyncpg").connect(dsn)
                ours = "application_name = 'jobqueue' and datname = current_database()"
                while await connection.fetchval(f"select count(*) from pg_stat_activity where {{ours}}") > 1:
                    await asyncio.sleep(0.01)
                await connection.close()

        for number in range(10):
            once(note.defer(str(number)))
        once(count())
        """,
        database,
    )
    assert 10 == await counted(database)


async def test_two_loops_in_two_threads_at_once(database: str) -> None:
    """Two running loops have a pool each; closing in one leaves the other alone."""
    app = App(database)
    task = app.task(note)

    async def many() -> int:
        await asyncio.gather(*(task.defer("a") for _ in range(100)))
        return id((await app._opening.database()).pool)

    with ThreadPoolExecutor(2) as threads:
        loop = asyncio.get_running_loop()
        pools = await asyncio.gather(*(loop.run_in_executor(threads, asyncio.run, many()) for _ in range(2)), many())

    assert 300 == await counted(database)
    assert 3 == len(set(pools))
    assert pools[2] == await many(), "the ends of other loops have closed this one's pool"
    await app.close()


async def test_concurrent_first_uses_share_one_pool(database: str) -> None:
    """However many first uses there are at once, the loop gets one pool."""
    app = App(database)

    pools = {id(one.pool) for one in await asyncio.gather(*(app._opening.database() for _ in range(20)))}

    assert 1 == len(pools)
    await app.close()


async def test_a_failed_opening_is_tried_again(database: str) -> None:
    """A first use that fails leaves nothing behind and the next one tries anew."""
    places = iter(["postgresql://postgres@127.0.0.1:1/none", database])
    app = App(lambda: next(places))

    with pytest.raises(OSError, match=r"127\.0\.0\.1"):
        await app.open()
    opened = [app.is_open]
    await app.open()

    assert [False, True] == [*opened, app.is_open]
    await app.close()


def async_source(dsn: str) -> Callable[[], Awaitable[str]]:
    async def source() -> str:
        await asyncio.sleep(0)
        return dsn

    return source


@pytest.mark.parametrize("make", [lambda dsn: lambda: dsn, async_source], ids=["sync", "async"])
async def test_the_dsn_may_be_asked_for(make: Callable[[str], Callable[[], str]], database: str) -> None:
    """A callable gives the DSN when the App opens, not before, sync or async."""
    asked_for: list[str] = []
    source = make(database)

    def dsn() -> str:
        asked_for.append("dsn")
        return source()

    app = App(dsn)
    assert [] == asked_for

    await app.task(note).defer("a")

    assert ["dsn"] == asked_for
    assert 1 == await counted(database)
    await app.close()


async def test_the_environment_names_the_database(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a DSN it is JOBQUEUE_DSN, read at the opening; a DSN that is given goes before it."""
    app, other = App(), App(database)
    monkeypatch.setenv("JOBQUEUE_DSN", "postgresql://postgres@127.0.0.1:1/none")
    await other.task(note).defer("a")
    monkeypatch.setenv("JOBQUEUE_DSN", database)
    await app.task(note).defer("b")

    assert 2 == await counted(database)
    await app.close()
    await other.close()


async def test_opening_needs_no_schema_and_using_does(empty_database: str) -> None:
    """On a new database an App opens and migrates; a use before that says which command helps. (S4-10)"""
    async with App(empty_database) as app:
        task = app.task(note)
        for use in (partial(task.defer, "a"), app.jobs.counts, app.run_until_idle, partial(task.defer_many, ["a"])):
            with pytest.raises(NotMigrated, match=r"lacks \d+ migration.*python -m jobqueue migrate up.*app.migrate"):
                await use()

        assert await app.migrate()
        await task.defer("a")
        assert [] == await app.migrate()
    assert 1 == await counted(empty_database)


SECRET = "p4ssw0rd"


@pytest.mark.parametrize(
    "dsn",
    [
        f"mysql://user:{SECRET}@127.0.0.1/db",
        f"postgresql://user:{SECRET}#x@127.0.0.1/db",
        f"postgresql://user:{SECRET}/x@127.0.0.1/db",
        f"postgresql://user:{SECRET}[x@127.0.0.1/db",
        f"postgresql://user:{SECRET}@127.0.0.1:{SECRET}/db",
        f"postgresql://user:{SECRET}@127.0.0.1:99999/db",
        f"{SECRET}@127.0.0.1/db",
        f"host=127.0.0.1 password={SECRET}",
    ],
)
async def test_a_dsn_that_cannot_be_read_is_told_without_its_password(dsn: str) -> None:
    """What cannot be a DSN is a ConfigurationError that shows the form and nothing of the text. (S3-01)"""
    app = App(dsn)

    with pytest.raises(
        ConfigurationError, match=r"dsn: cannot be read.*postgresql://user:password@host:5432/database"
    ) as told:
        await app.open()

    assert SECRET not in whole_story(told.value)
    await app.close()


async def test_a_mistaken_parameter_is_named_without_its_value() -> None:
    """S3-01: what the driver will not take is named, with what it must be; its value may be a slip of anything."""
    app = App(f"postgresql://user:{SECRET}@127.0.0.1/db?sslmode={SECRET}")

    with pytest.raises(ConfigurationError, match=r"dsn: sslmode: must be disable, allow") as told:
        await app.open()

    assert SECRET not in whole_story(told.value)
    await app.close()


@pytest.mark.parametrize(
    ("dsn", "place"),
    [
        (f"postgresql://user:{SECRET}@127.0.0.1:1/shop", "127.0.0.1:1/shop"),
        (f"postgresql://user:{SECRET}@no-such-host.invalid/shop", "no-such-host.invalid/shop"),
        (f"postgresql://user@/shop?host=/nowhere&password={SECRET}", "/nowhere"),
    ],
)
async def test_a_server_that_cannot_be_reached_is_named(dsn: str, place: str) -> None:
    """Whoever is not there is named in the traceback, without the password."""
    app = App(dsn)

    with pytest.raises(OSError, match=r".") as told:
        await app.open()

    story = whole_story(told.value)
    assert place in story
    assert SECRET not in story
    await app.close()


async def test_a_refused_password_is_not_shown(database: str) -> None:
    """What the server refuses reaches the caller in the server's words, which name no password."""
    app = App(database.replace("/jobqueue_test", "/no_such_jobqueue_test"))

    with pytest.raises(Exception, match=r'"no_such_jobqueue_test[^"]*" does not exist'):
        await app.open()
    await app.close()


def test_settings_come_from_code_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """S3-01: JOBQUEUE_<KNOB> goes before settings= and defaults; what is not set stays."""
    monkeypatch.setenv("JOBQUEUE_CONCURRENCY", "7")
    monkeypatch.setenv("JOBQUEUE_POLL", "2.5")

    settings = App(settings=Settings(concurrency=3, max_attempts=4)).settings

    assert (7, 2.5, 4, 20.0) == (settings.concurrency, settings.poll, settings.max_attempts, settings.lease)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("JOBQUEUE_CONCURRENCY", "0"),
        ("JOBQUEUE_LEASE", "soon"),
        ("JOBQUEUE_POLL", "-1"),
        ("JOBQUEUE_POOLER", "yes"),
        ("JOBQUEUE_EMBEDDED", "maybe"),
        ("JOBQUEUE_LOG_FAILURES", "all"),
    ],
)
def test_a_bad_setting_is_named(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3-01: a bad setting fails when the App is made, with the setting's name."""
    monkeypatch.setenv(variable, value)

    with pytest.raises(ConfigurationError, match=f"(?i){variable}|{variable.removeprefix('JOBQUEUE_')}"):
        App()


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("JOBQUEUE_CONCURENCY", "JOBQUEUE_CONCURRENCY"),
        ("JOBQUEUE_DRAIN_TIMOUT", "JOBQUEUE_DRAIN_TIMEOUT"),
        ("JOBQUEUE_DNS", "JOBQUEUE_DSN"),
    ],
)
def test_a_misspelt_setting_is_refused(variable: str, meant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3-01: what is nearly the name of a setting is told, with the name that was meant, and not passed over."""
    monkeypatch.setenv(variable, "7")

    with pytest.raises(ConfigurationError, match=f"{variable}.*{meant}"):
        App()


def test_the_variables_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kubernetes sets such variables for a service that is called jobqueue; and there may be a newer version's."""
    for name in ("SERVICE_HOST", "PORT", "PORT_5432_TCP", "SERVICE_PORT_HTTP", "TEST_DSN"):
        monkeypatch.setenv(f"JOBQUEUE_{name}", "7")

    assert Settings() == App().settings


@pytest.mark.parametrize("given", ["", lambda: "", lambda: None], ids=["text", "callable", "nothing"])
async def test_an_empty_dsn_is_a_mistake(given: Any, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the environment nor a server of our own stands in for a connection string that is empty."""
    monkeypatch.setenv("JOBQUEUE_DSN", database)
    with pytest.raises(ConfigurationError, match="dsn: is empty; use the form postgresql://"):
        await App(given).open()

    monkeypatch.setenv("JOBQUEUE_DSN", "")
    with pytest.raises(ConfigurationError, match="JOBQUEUE_DSN: is empty"):
        await App().open()


@pytest.mark.parametrize("way", ["code", "environment"])
async def test_the_embedded_server_can_be_forbidden(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `embedded` off an App without a connection string is refused, wherever it would have got a server."""
    if way == "environment":
        monkeypatch.setenv("JOBQUEUE_EMBEDDED", "no")
    app = App(settings=Settings(embedded=way == "environment"))

    for use in (app.open, app.migrate, app.run_until_idle):
        with pytest.raises(ConfigurationError, match="JOBQUEUE_DSN is not set"):
            await use()


def test_numbers_of_settings_are_checked_when_they_are_given() -> None:
    """S1-13: a setting out of its limits is refused at once, by name."""
    with pytest.raises(ConfigurationError, match="concurrency"):
        Settings(concurrency=0)


@pytest.mark.parametrize("schema", ["Jobs", "jobs; drop", "", "x" * 49])
def test_a_schema_that_is_no_name_is_refused(schema: str) -> None:
    """A schema's name is checked when the App is made."""
    with pytest.raises(ConfigurationError, match="schema"):
        App(schema=schema)


async def test_override_leads_to_another_database(database: str, empty_database: str) -> None:
    """Inside override(dsn=) the App works on another database, also after close; outside all is as before."""
    app = App(empty_database)
    task = app.task(note)
    await app.close()

    with app.override(dsn=database) as same:
        assert (app, False) == (same, app.is_open)
        await task.defer("a")
        await app.close()

    with pytest.raises(AppClosed):
        await task.defer("b")
    assert 1 == await counted(database)
    assert not app.is_open


async def test_override_leaves_what_was_open(database: str, empty_database: str) -> None:
    """An App that was open before override() is not so inside, and goes on afterwards with the pool that it had."""
    app = App(empty_database)
    await app.migrate()
    task = app.task(note)
    await task.defer("a")
    pool = (await app._opening.database()).pool

    with app.override(dsn=database):
        assert not app.is_open
        await task.defer("b")
        await app.close()
    await task.defer("c")

    assert pool is (await app._opening.database()).pool
    assert (1, 2) == (await counted(database), await counted(empty_database))
    await app.close()


@pytest.mark.parametrize("loop", ["inherited", "new"])
async def test_a_fork_does_not_share_connections(loop: str, database: str) -> None:
    """In a forked process the inherited pool is dropped, in the same loop as in a new one; the parent's goes on."""
    await run_script(
        """
        import asyncio, os, sys
        from jobqueue import App

        app = App()

        @app.task
        async def note(text: str) -> None: ...

        async def many(name: str) -> None:
            await asyncio.gather(*(note.defer(name) for _ in range(20)))

        parent = asyncio.Runner()
        parent.run(many("parent"))
        inherited = parent.run(app._opening.database())
        pid = os.fork()
        if pid == 0:
            try:
                child = parent if sys.argv[1] == "inherited" else asyncio.Runner()
                child.run(many("child"))
                assert child.run(app._opening.database()) is not inherited
                os._exit(0)
            except BaseException as error:
                os.write(2, repr(error).encode())
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        parent.run(many("parent"))
        parent.run(app.close())
        parent.close()
        """,
        database,
        loop,
    )

    by_process = "select string_agg(format('%s %s', name, number), ', ' order by name) from ("
    assert "child 20, parent 40" == await asked(
        database, by_process + "select args ->> 'text', count(*) from jobqueue.job group by 1) as found(name, number)"
    )
    await becomes(database, 0)
