"""The PostgreSQL of a test run: one server, started when the first test wants it, stopped at the end.

    JOBQUEUE_TEST_DSN, if set  >  a container, if a Docker engine answers  >  the embedded server

The process that pytest was started as owns the server (`RunServer`). Parallel test processes ask it at its `Door`
with a `Caller`, so that nothing depends on which of them lives longest.
"""

import asyncio
import gc
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from secrets import token_bytes, token_hex
from threading import Lock, Thread
from typing import Protocol
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

IMAGE = os.environ.get("JOBQUEUE_TEST_IMAGE", "postgres:18")
MEMORY = 4 << 30  # bytes that must be free for a server in memory; a run takes less than one
CONNECTIONS = 300  # eight parallel test processes, each with a few pools of ten


@dataclass(frozen=True)
class Server:
    """A running server, and the prefix of all databases that this run makes there."""

    dsn: str
    origin: str
    version: str
    run: str

    def __str__(self) -> str:
        return f"PostgreSQL {self.version}, {self.origin}"


class ServerUnavailable(Exception):
    """Raised when the tests' PostgreSQL cannot be had, or its template cannot be made."""


class ServerSource(Protocol):
    """Gives the server of this run, and the name of the migrated database that tests clone."""

    def server(self) -> Server: ...

    def template(self) -> str: ...


class RunServer:
    """Starts the server and makes the template, each once and when first asked; `close` leaves nothing behind."""

    def __init__(self) -> None:
        self.run = f"jobqueue_test_{token_hex(4)}"
        self.started: Server | None = None
        self._templates: dict[date, str] = {}
        self._failure: dict[str, str] = {}
        self._lock = Lock()
        self._cleanup = ExitStack()

    def server(self) -> Server:
        with self._lock:
            if self.started is None:
                self._once("server", self._start)
            assert self.started is not None
            return self.started

    def template(self) -> str:
        """Its name. A new day has a new one: days of the archive are made for the day on which it is migrated."""
        server, today = self.server(), datetime.now(UTC).date()
        with self._lock:
            if today not in self._templates:
                self._once("template", lambda: self._migrate(server, today))
            return self._templates[today]

    def close(self) -> None:
        """Drop every database of this run, then stop the server if the run started it."""
        with self._cleanup:
            if self.started is not None:
                drop_databases(self.started)

    def _once(self, what: str, make: Callable[[], None]) -> None:
        """Try once: the next test would only wait for the same failure."""
        if what not in self._failure:
            try:
                make()
            except Exception as error:
                self._failure[what] = f"the tests' {what} cannot be had: {type(error).__name__}: {error}"
                raise ServerUnavailable(self._failure[what]) from error
            return
        raise ServerUnavailable(self._failure[what])

    def _start(self) -> None:
        dsn, origin = find_server(self._cleanup)
        with psycopg.connect(dsn) as connection:
            version = connection.info.parameter_status("server_version") or "of unknown version"
        self.started = Server(dsn, origin, version.split()[0], self.run)

    def _migrate(self, server: Server, today: date) -> None:
        from jobqueue.store.schema.migrate import migrate  # here, so that a broken package still reports its own tests

        name = f"{server.run}_template_{today:%d}"
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
            asyncio.run(migrate(database_dsn(server.dsn, name)))
            drop_far_days(database_dsn(server.dsn, name))
            watch_for_changes(database_dsn(server.dsn, name))
            compact_catalog(database_dsn(server.dsn, name))
            psycopg.connect(database_dsn(server.dsn, name)).close()  # writes what else each clone would work out anew
            # Nobody may be connected to a template that is being cloned: so nobody can.
            connection.execute(sql.SQL("alter database {} allow_connections false").format(sql.Identifier(name)))
        self._templates[today] = name


def drop_far_days(dsn: str) -> None:
    """Leave the days that a worker makes: the first migration makes more, and each costs a clone a dozen files."""
    from jobqueue.store.dated import DAYS_AHEAD

    with psycopg.connect(dsn, autocommit=True) as connection:
        for (leaf,) in connection.execute(_FAR_DAYS, [DAYS_AHEAD]).fetchall():
            connection.execute(sql.SQL("drop table jobqueue.{}").format(sql.Identifier(leaf)))


_FAR_DAYS = """
select leaf from (select * from jobqueue.archive_pieces() union all select * from jobqueue.event_pieces()) as pieces
where since > now() + make_interval(days => %s)
"""


def watch_for_changes(dsn: str) -> None:
    """Let a clone be cleaned and used again. Who may not install that (no superuser) gets a new clone for each test."""
    with psycopg.connect(dsn) as connection, suppress(psycopg.errors.InsufficientPrivilege):
        connection.execute(CLEAN.read_text())


CLEAN = Path(__file__).with_name("clean.sql")


def compact_catalog(dsn: str) -> None:
    """Rewrite the catalog after the migrations: a clone has less to copy, and need not ask whether rows are visible.

    Our own tables stay as they are: unknown to the planner.
    """
    with psycopg.connect(dsn, autocommit=True) as connection:
        for (table,) in connection.execute(_CATALOG).fetchall():
            connection.execute(sql.SQL("vacuum (full, freeze) pg_catalog.{}").format(sql.Identifier(table)))


_CATALOG = """
select relname from pg_class
where relkind = 'r' and relnamespace = 'pg_catalog'::regnamespace and not relisshared
"""


def describe_choice() -> str:
    """Say which PostgreSQL a run would take, without starting it."""
    if os.environ.get("JOBQUEUE_TEST_DSN"):
        return "the server of JOBQUEUE_TEST_DSN"
    return f"container {IMAGE}" if docker_answers() else "embedded server"


def find_server(cleanup: ExitStack) -> tuple[str, str]:
    """Return a DSN and where it comes from; what has to be stopped later is left with `cleanup`."""
    given = os.environ.get("JOBQUEUE_TEST_DSN")
    if given:
        return given, "given by JOBQUEUE_TEST_DSN"
    if not docker_answers():
        return start_embedded(cleanup), "embedded server"
    try:
        return start_container(cleanup), f"container {IMAGE}"
    except Exception as error:  # an engine that cannot pull the image, say
        return start_embedded(cleanup), f"embedded server (container {IMAGE} failed: {type(error).__name__})"


@cache
def docker_answers() -> bool:
    """Tell within a second or so whether a Docker engine is there, not only its client."""
    import docker

    with warnings.catch_warnings():
        # When nobody answers, the client leaves its socket to the garbage collector: not our test's fault.
        warnings.simplefilter("ignore")
        try:
            with closing(docker.from_env(timeout=1)) as client:
                return bool(client.ping())
        except Exception:
            return False
        finally:
            gc.collect()


def start_container(cleanup: ExitStack) -> str:
    from testcontainers.community.postgres import PostgresContainer

    logging.getLogger("testcontainers").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        container = PostgresContainer(IMAGE, username="postgres", password=token_hex(8), dbname="postgres", driver=None)
        container.with_command(f"postgres -c max_connections={CONNECTIONS}")
        container.start()
    cleanup.callback(container.stop)
    return str(container.get_connection_url())


def start_embedded(cleanup: ExitStack) -> str:
    from jobqueue.store.embedded.server import EmbeddedServer

    for_good = bool(os.environ.get("JOBQUEUE_LONG"))  # races are as long as a real commit
    folder = Path(tempfile.mkdtemp(prefix="jobqueue-test-", dir=None if for_good else memory()))
    folder.chmod(0o711)  # started by root, the server runs as another user, who must get through
    cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
    server = EmbeddedServer(folder / "data")
    cleanup.callback(lambda: asyncio.run(server.leave()))
    with psycopg.connect(asyncio.run(server.join()), autocommit=True) as connection:
        connection.execute(f"alter system set max_connections = {CONNECTIONS}")
        if not for_good:
            connection.execute("alter system set fsync = off")
            connection.execute("alter system set full_page_writes = off")
            connection.execute("alter system set max_wal_size = '256MB'")
            # The data is in memory anyway, and a connection, of which there are twenty thousand, costs an eighth less.
            connection.execute("alter system set shared_buffers = '16MB'")
            connection.execute("alter system set io_method = 'sync'")
            # A plan depends on what a test has analysed, not on who has come by meanwhile.
            connection.execute("alter system set autovacuum = off")
    asyncio.run(server.leave())  # the only user: it stops, and starts with more connections
    return asyncio.run(server.join())


def memory() -> str | None:
    """A folder in memory, where a new database costs a quarter of the time; None without one, or with little room."""
    folder = "/dev/shm"
    roomy = Path(folder).is_dir() and shutil.disk_usage(folder).free > MEMORY
    return folder if roomy and os.access(folder, os.W_OK) else None


def drop_databases(server: Server) -> None:
    """Drop all databases of this run, also those whose test process died."""
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        found = connection.execute(
            "select datname from pg_database where starts_with(datname, %s)", (f"{server.run}_",)
        ).fetchall()
        for (name,) in found:
            connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))


def database_dsn(dsn: str, name: str) -> str:
    """Return the same DSN with another database."""
    parts = urlsplit(dsn)
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{parts.netloc}/{name}{query}"


class Door:
    """Lets parallel test processes ask for the server of this run."""

    def __init__(self, source: ServerSource) -> None:
        self._source = source
        self._key = token_bytes(16)
        self._listener = Listener(authkey=self._key, backlog=64)
        self._thread = Thread(target=self._serve, name="tests-door", daemon=True)
        self._thread.start()

    @property
    def address(self) -> tuple[str, str]:
        """What a `Caller` needs, as plain values."""
        return str(self._listener.address), self._key.hex()

    def close(self) -> None:
        Caller(*self.address).ask("close")
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        answer: object = None
        question = ""
        while question != "close":
            with self._listener.accept() as visitor:
                question = str(visitor.recv())
                answer = self._answer(question)
                visitor.send(answer)

    def _answer(self, question: str) -> object:
        try:
            if question == "server":
                return self._source.server()
            return self._source.template() if question == "template" else None
        except ServerUnavailable as error:
            return error


class Caller:
    """Asks at the `Door`; of the same use as the `RunServer` behind it."""

    def __init__(self, address: str, key: str) -> None:
        self._address = address
        self._key = bytes.fromhex(key)
        self._templates: dict[date, str] = {}

    def server(self) -> Server:
        answer = self.ask("server")
        assert isinstance(answer, Server)
        return answer

    def template(self) -> str:
        """Asked for once a day: each test wants to know."""
        today = datetime.now(UTC).date()
        if today not in self._templates:
            self._templates[today] = str(self.ask("template"))
        return self._templates[today]

    def ask(self, question: str) -> object:
        with Client(self._address, authkey=self._key) as door:
            return self._exchange(door, question)

    @staticmethod
    def _exchange(door: Connection, question: str) -> object:
        door.send(question)
        answer: object = door.recv()
        if isinstance(answer, ServerUnavailable):
            raise answer
        return answer
