"""Every kind of database error, raised by a real server, is met by what the table of faults says."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from jobqueue import DatabaseError
from jobqueue.store.connection.edge import EDGE
from jobqueue.store.connection.faults import DATABASE_ERRORS, Fault, brief, classify, refused_row
from tests.support.jobs.store import Connection, connect, insert, new_job, open_session, somebody_waits
from tests.support.patience import PATIENCE
from tests.support.postgres.backends import terminate
from tests.support.waiting import wait_until

SECRET = "4711-secret"


async def error_of(work: Awaitable[Any]) -> BaseException:
    """The error that the work ends with, which is one of those that the store's callers expect."""
    try:
        await work
    except DATABASE_ERRORS as error:
        return error
    raise AssertionError("no error")


ONE_STATEMENT = {
    "insert into jobqueue.job (id, task) select i, 'x' from (select gen_random_uuid() as i) a, (values (1), (2)) b": (
        Fault.BAD_DATA, "23505",
    ),
    "insert into jobqueue.job (task) values ('')": (Fault.BAD_DATA, "23514"),
    "insert into jobqueue.job (task, queue) values ('x', null)": (Fault.BAD_DATA, "23502"),
    "insert into jobqueue.job (task, args) values ('x', '{')": (Fault.BAD_DATA, "22P02"),
    "insert into jobqueue.job (task, priority) values ('x', 99999)": (Fault.BAD_DATA, "22003"),
    "select jobqueue.defer('x', at => 'tomorrowish')": (Fault.BAD_DATA, "22007"),
    "select 1 / 0": (Fault.BAD_DATA, "22012"),
    "insert into jobqueue.job_archive_completed (id, queue, task, args, priority, state, due_at, attempt, max_attempts,"
    " crashes, lost, fence, via, follow, created_at, finished_at, result) values (gen_random_uuid(), 'q', 't', '{}', 0,"
    " 'completed', now(), 1, 1, 0, 0, 1, 'py', 0, now(), 'infinity', '1')": (Fault.NO_PARTITION, "23514"),
    "select * from jobqueue.absent": (Fault.SCHEMA, "42P01"),
    "select absent from jobqueue.job": (Fault.SCHEMA, "42703"),
    "select jobqueue.absent()": (Fault.SCHEMA, "42883"),
    "create table absent.x ()": (Fault.SCHEMA, "3F000"),
    "begin read only; insert into jobqueue.job (task) values ('x')": (Fault.READ_ONLY, "25006"),
    "set statement_timeout = 20; select pg_sleep(5)": (Fault.CONFLICT, "57014"),
    "set role pg_monitor; select from jobqueue.job": (Fault.SETUP, "42501"),
    "create table bare (); create publication everything for all tables; delete from bare": (Fault.SETUP, "55000"),
    "selec": (Fault.OURS, "42601"),
    "drop role pg_monitor": (Fault.OURS, "2BP01"),
}  # fmt: skip


async def test_errors_of_a_single_statement(database: str) -> None:
    """Bad data, a changed schema, a read-only server, a time limit and a missing day are told apart."""
    for sql, (fault, state) in ONE_STATEMENT.items():
        async with connect(database) as connection:
            error = await error_of(connection.execute(sql))
            assert (state, fault) == (getattr(error, "sqlstate", None), classify(error)), sql
            await connection.execute("rollback")


async def test_a_failed_check_is_told_from_a_missing_partition(database: str) -> None:
    """Both have one SQLSTATE; a check of the archive that fails must not make partitions."""
    row = "gen_random_uuid(), 'q', 't', '{}', 0, 'completed', now(), 1, 1, 0, 0, 1, 'py', 0, now(), now(), null"
    async with connect(database) as connection:
        error = await error_of(
            connection.execute(
                "insert into jobqueue.job_archive (id, queue, task, args, priority, state, due_at, attempt,"
                f" max_attempts, crashes, lost, fence, via, follow, created_at, finished_at, result) values ({row})"
            )
        )
    assert ("23514", Fault.BAD_DATA) == (getattr(error, "sqlstate", None), classify(error))


VALUES = {
    "nul": "a\0b",
    "half of a surrogate pair": "\ud800",
    "no text": 5,
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
async def test_a_value_that_cannot_be_sent_is_bad_data(database: str, value: object) -> None:
    """A value that the driver or the server refuses is this job's fault, whichever of them refuses it."""
    async with connect(database) as connection:
        assert Fault.BAD_DATA is classify(await error_of(connection.fetch("select $1::text", value)))


async def test_a_deadlock_is_a_conflict(database: str) -> None:
    """Who loses a deadlock may try again."""
    async with open_session(database) as session, connect(database) as one, connect(database) as two:
        first, second = await insert(session, new_job(), new_job())
        await one.execute("begin; set local deadlock_timeout = 50")
        await two.execute("begin; set local deadlock_timeout = 50")
        lock = "select from jobqueue.job where id = $1 for update"
        await one.execute(lock, first)
        await two.execute(lock, second)
        answers = await asyncio.gather(one.execute(lock, second), two.execute(lock, first), return_exceptions=True)
        (error,) = [answer for answer in answers if isinstance(answer, BaseException)]

        assert ("40P01", Fault.CONFLICT) == (getattr(error, "sqlstate", None), classify(error))
        await one.execute("rollback")
        await two.execute("rollback")


async def test_a_lock_that_is_not_had_in_time_is_a_conflict(database: str) -> None:
    """A lock timeout means again, soon."""
    async with connect(database) as one, connect(database) as two, one.transaction():
        await one.execute("lock table jobqueue.job")
        error = await error_of(two.execute("set lock_timeout = 10; select from jobqueue.job"))

    assert ("55P03", Fault.CONFLICT) == (getattr(error, "sqlstate", None), classify(error))


async def test_a_serialisation_failure_is_a_conflict(database: str) -> None:
    """A transaction that cannot be put in order with others may try again."""
    async with connect(database) as one, connect(database) as two:
        await one.execute("insert into jobqueue.job (task) values ('x')")
        await one.execute("begin isolation level repeatable read; select from jobqueue.job")
        await two.execute("update jobqueue.job set priority = 1")
        error = await error_of(one.execute("update jobqueue.job set priority = 2"))
        await one.execute("rollback")

    assert ("40001", Fault.CONFLICT) == (getattr(error, "sqlstate", None), classify(error))


async def test_a_connection_ended_in_mid_statement(database: str) -> None:
    """An administrator who ends the connection is met with patience; the next use of it finds it lost."""
    ours = connect(database, application_name="ours")
    async with ours as connection, connect(database) as holder, connect(database) as observer:
        async with holder.transaction():
            await holder.execute("lock table jobqueue.job")
            asking = asyncio.create_task(error_of(connection.execute("select from jobqueue.job")))
            await wait_until(lambda: somebody_waits(observer), "the statement waits")
            await terminate(database, "wait_event_type = 'Lock'")
            error = await asking
        assert classify(error) in (Fault.AWAY, Fault.UNKNOWN), error
        assert Fault.UNKNOWN is classify(await error_of(connection.fetchval("select 1")))


async def test_an_idle_transaction_that_the_server_ended(database: str) -> None:
    """A transaction that the server ended because nothing came any more is a connection that is away, not our bug."""
    async with connect(database) as connection, connect(database) as observer:
        await connection.execute("set idle_in_transaction_session_timeout = 20; begin")
        gone = "select not exists (select from pg_stat_activity where pid = $1)"
        await wait_until(lambda: observer.fetchval(gone, connection.get_server_pid()), "the server has ended it")
        error = await error_of(connection.fetchval("select 1"))

    assert classify(error) in (Fault.AWAY, Fault.UNKNOWN), error


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of this machine where nobody listens, and nobody will meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["127.0.0.1", "127.0.0.2"], []], ids=["one", "two", "none"])
async def test_a_refused_connection_is_away(
    closed_port: int, addresses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody listens there: nothing was sent, so nothing can have been stored, however many addresses the name has."""

    async def resolve(host: str, port: int, **hints: object) -> list[object]:
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, closed_port)) for address in addresses]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    error = await error_of(
        asyncpg.connect(f"postgresql://postgres@database.test:{closed_port}/postgres", timeout=PATIENCE)
    )

    assert Fault.AWAY is classify(error), repr(error)


async def test_a_missing_socket_is_away(tmp_path: Any) -> None:
    """A server on this machine that is not running has no socket file."""
    error = await error_of(asyncpg.connect(user="postgres", host=str(tmp_path), port=5432, timeout=PATIENCE))

    assert Fault.AWAY is classify(error), repr(error)


async def test_a_full_server_is_away(database: str) -> None:
    """No connection left for our role: wait, with growing delays."""
    async with temporary_role(database, "connection limit 0") as (role, password):
        error = await error_of(open_as(database, role, password))

    assert ("53300", Fault.AWAY) == (getattr(error, "sqlstate", None), classify(error))


async def test_a_missing_right_is_a_matter_of_the_setup(database: str) -> None:
    """A role that may not touch the tables needs help, no patience."""
    async with temporary_role(database, "") as (role, password):
        connection = await open_as(database, role, password)
        error = await error_of(connection.execute("select from jobqueue.job"))
        await connection.close()

    assert ("42501", Fault.SETUP) == (getattr(error, "sqlstate", None), classify(error))


@contextlib.asynccontextmanager
async def temporary_role(dsn: str, rights: str) -> AsyncIterator[tuple[str, str]]:
    role, password = f"jobqueue_test_{uuid4().hex[:12]}", uuid4().hex
    async with connect(dsn) as owner:
        await owner.execute(f"create role {role} login password '{password}' {rights}")
        try:
            yield role, password
        finally:
            await owner.execute(f"drop role {role}")


async def open_as(dsn: str, role: str, password: str) -> Connection:
    return await asyncpg.connect(dsn, user=role, password=password, timeout=PATIENCE)


async def test_a_closed_connection_is_lost() -> None:
    """Errors that only the driver knows are sorted as well: no answer in time, a broken line, a bug of ours."""
    assert Fault.UNKNOWN is classify(TimeoutError())
    assert Fault.UNKNOWN is classify(ConnectionResetError())
    assert Fault.UNKNOWN is classify(BrokenPipeError())
    assert Fault.UNKNOWN is classify(asyncpg.InterfaceError("connection is closed"))
    assert Fault.UNKNOWN is classify(asyncpg.ConnectionDoesNotExistError())
    assert Fault.UNKNOWN is classify(asyncpg.InternalClientError("cannot switch to state 11"))
    assert Fault.AWAY is classify(asyncpg.CannotConnectNowError())
    assert Fault.AWAY is classify(asyncpg.DiskFullError())
    assert Fault.OURS is classify(ZeroDivisionError())


async def test_words_about_an_error_never_quote_the_row(database: str) -> None:
    """S3-20: what is logged or told of a refused row is the rule, never its contents, which PostgreSQL quotes."""
    async with connect(database) as connection:
        error = await error_of(
            connection.execute("insert into jobqueue.job (task, meta) values ('', $1)", f'"{SECRET}"')
        )
    assert SECRET in str(getattr(error, "detail", "")), "the server does quote it"

    told = refused_row("mail", error)
    assert "mail job: the database refused it (job_task_length)" == str(told)
    assert "CheckViolationError 23514" == brief(error)
    assert SECRET not in f"{told!r} {told.__dict__} {brief(error)}"
    assert "TimeoutError" == brief(TimeoutError(SECRET))


OBJECTS = {
    "set role pg_monitor; select from jobqueue.job": "InsufficientPrivilegeError 42501 schema jobqueue",
    "create table bare (); create publication everything for all tables; delete from bare": (
        'ObjectNotInPrerequisiteStateError 55000 table "bare"'
    ),
    "insert into jobqueue.job (task, args) values ('table secret', '{')": "InvalidTextRepresentationError 22P02",
}


async def test_a_missing_right_or_setting_is_told_with_its_object(database: str) -> None:
    """The log names the table or schema that the error is about, and nothing that might be a value."""
    for sql, words in OBJECTS.items():
        async with connect(database) as connection:
            assert words == brief(await error_of(connection.execute(sql)))
            await connection.execute("rollback")


@pytest.mark.parametrize("state", ["26000", "42P05"])
def test_a_lost_statement_names_the_pooler(state: str) -> None:
    """Statements that are there no more, or already, are the work of a pooler that was not named."""
    with pytest.raises(DatabaseError, match=rf'{state}: a pooler by transaction .*pooler="transaction"') as told, EDGE:
        raise asyncpg.PostgresError.new({"C": state, "M": 'prepared statement "__asyncpg_stmt_1e__" does not exist'})
    assert state == told.value.sqlstate
