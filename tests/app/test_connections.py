"""connection=: a job joins the transaction of the caller's asyncpg connection, wake-up included."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from uuid_utils.compat import uuid7

from jobqueue.app import App
from jobqueue.base.errors import InvalidOption, InvalidPayload
from jobqueue.base.job import JobState
from jobqueue.base.settings import Settings
from jobqueue.tasks.handle import JobHandle
from tests.support.jobs.store import connect
from tests.support.jobs.working import POLL, asked, counted, seen
from tests.support.patience import PATIENCE
from tests.support.postgres.backends import change
from tests.support.waiting import wait_until

REFUSE_BAD = "alter table jobqueue.job add constraint no_bad_jobs check (args ->> 'text' not like '%bad%')"
TABLE = "create table invoice (number integer primary key)"


async def note(text: str) -> str:
    return text


@pytest.mark.parametrize("many", [False, True], ids=["defer", "defer_many"])
async def test_rolled_back_means_no_job(many: bool, database: str) -> None:
    """S1-05: a job deferred in a transaction that is rolled back does not exist; the caller's rows go with it."""
    app = App(database)
    task = app.task(note)
    await change(database, TABLE)
    async with connect(database) as connection:
        with pytest.raises(ZeroDivisionError):
            async with connection.transaction():
                await connection.execute("insert into invoice values (1)")
                on_it = task.options(connection=connection)
                await (on_it.defer_many(["a", "b"]) if many else on_it.defer("a"))
                await app.defer_many([task.job("c")] * int(many), connection=connection)
                raise ZeroDivisionError

        assert 0 == await connection.fetchval("select count(*) from invoice")
    assert 0 == await counted(database)
    await app.close()


async def test_committed_means_the_job_runs(database: str) -> None:
    """S1-05: a job deferred in a transaction that commits is visible and run, and so are the caller's rows."""
    app = App(database)
    task = app.task(note)
    await change(database, TABLE)
    async with connect(database) as connection, app.worker():
        async with connection.transaction():
            await connection.execute("insert into invoice values (1)")
            handles = [
                await task.options(connection=connection).defer("a"),
                *await task.options(connection=connection).defer_many(["b", "c"]),
                *await app.defer_many([task.job("d")], connection=connection),
            ]

        assert ["a", "b", "c", "d"] == [await handle.result(timeout=PATIENCE) for handle in handles]
        assert 1 == await connection.fetchval("select count(*) from invoice")
    await app.close()


async def test_nothing_shows_before_the_commit(database: str) -> None:
    """S1-06: with an idle worker asleep, a job of an open transaction starts only after the commit, and at once."""
    app = App(database, settings=Settings(poll=POLL))
    task = app.task(note)
    async with connect(database) as connection, app.worker():
        await asleep(database)
        transaction = connection.transaction()
        await transaction.start()
        handle = await task.options(connection=connection).defer("a")
        other = await task.defer("b")
        assert "b" == await seen(other), "the worker is awake and looks"
        await asleep(database)

        assert 0 == await asked(database, "select count(*) from jobqueue.job where args ->> 'text' = 'a'")
        assert (JobState.READY, 0) == await state_on(connection, handle)
        await transaction.commit()
        assert "a" == await seen(handle), "its wake-up came with the commit"
    await app.close()


async def state_on(connection: Any, handle: JobHandle[Any]) -> tuple[str, int]:
    return tuple(await connection.fetchrow("select state, attempt from jobqueue.job where id = $1", handle.id))


async def asleep(dsn: str) -> None:
    async def sleeps() -> bool:
        return bool(await asked(dsn, "select exists (select from jobqueue.sleeper where queue <> '')"))

    await wait_until(sleeps, "the worker sleeps")


async def test_a_scheduled_job_wakes_the_stager_at_the_commit(database: str) -> None:
    """S1-06: a delayed job of a transaction runs at its time though the worker slept when it was committed."""
    app = App(database, settings=Settings(poll=POLL))
    task = app.task(note)
    async with connect(database) as connection, app.worker():
        await asleep(database)
        async with connection.transaction():
            handle = await task.options(connection=connection, delay=0.3).defer("a")

        assert "a" == await seen(handle)
    await app.close()


# The connection stays as it is.


def odd(text: str) -> tuple[str, str]:
    return ("odd", text)


def plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


ODD_TYPES = (
    "json",
    "jsonb",
    "uuid",
    "timestamptz",
    "timestamp",
    "date",
    "interval",
    "numeric",
    "float8",
    "int4",
    "bool",
)


async def test_codecs_of_the_caller_do_not_matter(database: str) -> None:
    """S1-05: on a connection whose codecs give odd Python types every way to defer works, and the codecs stay."""
    app = App(database)
    task = app.task(note)
    async with connect(database) as connection:
        for name in ODD_TYPES:
            await connection.set_type_codec(name, encoder=plain, decoder=odd, schema="pg_catalog")
        async with connection.transaction():
            full = task.options(
                connection=connection, id=uuid7(), priority=7, meta={"a": 1}, timeout=3, budget=30.5, expires=20,
                at=datetime.now(UTC) - timedelta(seconds=1),
            )  # fmt: skip
            handles = [
                await full.defer("a"),
                await task.options(connection=connection, unique="k").defer("b"),
                await task.options(connection=connection, unique="k").defer("c"),
                *await task.options(connection=connection).defer_many(["d", "e"]),
            ]
        assert ("odd", "1") == await connection.fetchval("select 1::numeric")

    await app.run_until_idle()
    assert [False, False, True, False, False] == [handle.duplicate for handle in handles]
    assert ["a", "b", "b", "d", "e"] == [await handle.result(timeout=PATIENCE) for handle in handles]
    job = await app.jobs.get(handles[0].id)
    assert (7, {"a": 1}, 3.0) == (job.priority, job.meta, job.timeout)
    await app.close()


async def test_a_text_codec_of_the_caller_does_not_matter(database: str) -> None:
    """S1-05: even if text itself comes back as something else, a job with a key and an id is stored and told."""
    app = App(database)
    async with connect(database) as connection:
        await connection.set_type_codec("text", encoder=str, decoder=Loud, schema="pg_catalog")
        keyed = app.task(note).options(connection=connection, unique="k")
        first = await keyed.options(id=uuid7()).defer("a")
        second = await keyed.defer("b")

    assert (False, True) == (first.duplicate, second.duplicate)
    assert first == second
    await app.close()


class Loud(str):
    """Text of a user's own kind."""


class Row(asyncpg.Record):
    """Rows of a user's own kind."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


async def test_rows_of_the_callers_own_kind(database: str) -> None:
    """S1-05: a connection with a record class of its own works like any."""
    app = App(database)
    connection = await asyncpg.connect(database, record_class=Row)
    keyed = app.task(note).options(connection=connection, unique="k")

    assert [False, True] == [(await keyed.defer("a")).duplicate, (await keyed.defer("b")).duplicate]
    await connection.close()
    await app.close()


async def test_the_search_path_does_not_matter(database: str) -> None:
    """S1-05: with search_path set elsewhere, also to tables of the same name, jobs go where they belong."""
    app = App(database)
    await change(
        database, "create schema decoy; create table decoy.job (id uuid); create table decoy.job_key (key text)"
    )
    async with connect(database, search_path="decoy") as connection:
        task = app.task(note).options(connection=connection)
        await task.defer("a")
        await task.options(unique="k", id=uuid7()).defer("b")

        assert "decoy" == await connection.fetchval("show search_path")
        assert 0 == await connection.fetchval("select count(*) from job")
    assert 2 == await counted(database)
    await app.close()


@pytest.mark.parametrize("isolation", ["read_committed", "repeatable_read", "serializable"])
async def test_every_isolation_wakes_and_stores(isolation: Any, database: str) -> None:
    """S1-05, S1-06: at each isolation level the job is stored with the commit and a sleeping worker wakes for it."""
    app = App(database, settings=Settings(poll=POLL))
    task = app.task(note)
    async with connect(database) as connection, app.worker():
        await asleep(database)
        async with connection.transaction(isolation=isolation):
            assert 0 == await connection.fetchval("select count(*) from jobqueue.job")
            handle = await task.options(connection=connection).defer("a")
            keyed = await task.options(connection=connection, unique="k").defer("b")
            level = await connection.fetchval("show transaction_isolation")

        assert ("a", "b") == (await seen(handle), await seen(keyed))
    assert isolation.replace("_", " ") == level
    await app.close()


async def test_a_connection_without_a_transaction_commits_by_itself(database: str) -> None:
    """S1-05: outside a transaction each call is one of its own, all or none, and leaves none open."""
    app = App(database)
    await change(database, REFUSE_BAD)
    task = app.task(note)
    async with connect(database) as connection:
        on_it = task.options(connection=connection)
        await on_it.defer("a")
        assert 1 == await counted(database)
        await on_it.options(unique="k").defer("b")
        assert 2 == await counted(database)
        with pytest.raises(InvalidPayload):
            await app.defer_many([task.options(unique="l").job("good"), task.job("bad")], connection=connection)

        assert not connection.is_in_transaction()
        assert (2, 1) == (await counted(database), await asked(database, "select count(*) from jobqueue.job_key"))
    await app.close()


async def test_a_connection_from_a_pool(database: str) -> None:
    """S1-05: a pooled connection joins its transaction like any other."""
    app = App(database)
    task = app.task(note)
    async with asyncpg.create_pool(database, min_size=0, max_size=1) as pool:
        for commits in (False, True):
            async with pool.acquire() as connection:
                transaction = connection.transaction()
                await transaction.start()
                await task.options(connection=connection).defer("a")
                await (transaction.commit() if commits else transaction.rollback())
    assert 1 == await counted(database)
    await app.close()


async def test_a_savepoint_of_the_caller_takes_its_jobs_back(database: str) -> None:
    """S1-05: rolled back to a savepoint, the jobs since then are gone and the earlier ones stay."""
    app = App(database)
    task = app.task(note)
    async with connect(database) as connection, connection.transaction():
        await task.options(connection=connection).defer("stays")
        with pytest.raises(ZeroDivisionError):
            async with connection.transaction():
                await task.options(connection=connection, unique="k").defer("goes")
                raise ZeroDivisionError

    assert ["stays"] == await asked(database, "select array_agg(args ->> 'text') from jobqueue.job")
    assert 0 == await asked(database, "select count(*) from jobqueue.job_key")
    await app.close()


async def test_a_refused_job_leaves_the_transaction_to_its_owner(database: str) -> None:
    """S3-20: a row that the database refuses is told without its text; the caller rolls back to where they like."""
    app = App(database)
    await change(database, REFUSE_BAD)
    task = app.task(note)
    async with connect(database) as connection, connection.transaction():
        await task.options(connection=connection).defer("good")
        with pytest.raises(InvalidPayload, match=r"note job: .*no_bad_jobs") as told:
            async with connection.transaction():
                await task.options(connection=connection).defer("bad marker-7f3a")

    assert (None, None) == (told.value.__cause__, told.value.__context__)
    assert "marker" not in str(told.value)
    assert 1 == await counted(database)
    await app.close()


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: asyncpg.create_pool("postgresql://postgres@127.0.0.1:1/none", min_size=0), r"not a pool"),
        (lambda: "postgresql://postgres@127.0.0.1/shop", r"not builtins\.str"),
        (object, r"not builtins\.object"),
        (lambda: connect("x"), "not contextlib"),
    ],
)
async def test_what_is_no_connection_is_refused(make: Callable[[], object], named: str, database: str) -> None:
    """A pool or nonsense is an InvalidOption that names `connection`; nothing is stored elsewhere instead."""
    app = App(database)
    task = app.task(note)
    given = make()

    for use in (
        lambda: task.options(connection=given).defer("a"),
        lambda: task.options(connection=given).defer_many(["a"]),
        lambda: app.defer_many([task.job("a")], connection=given),
    ):
        with pytest.raises(InvalidOption, match=f"connection: must be an asyncpg connection.*{named}"):
            await use()

    assert 0 == await counted(database)
    await app.close()


async def test_jobs_of_many_open_transactions(database: str) -> None:
    """S1-06: many transactions at once, half of them rolled back: exactly the committed jobs run."""
    app = App(database)
    runs: list[int] = []

    @app.task
    async def count(number: int) -> None:
        runs.append(number)

    async def one(number: int) -> None:
        async with connect(database) as connection:
            transaction = connection.transaction()
            await transaction.start()
            await count.options(connection=connection).defer(number)
            await asyncio.sleep(0)
            await (transaction.commit() if number % 2 else transaction.rollback())

    async with app.worker():
        await asyncio.gather(*(one(number) for number in range(16)))
    await app.run_until_idle()

    assert list(range(1, 16, 2)) == sorted(runs)
    await app.close()
