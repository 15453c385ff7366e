"""The embedded PostgreSQL: for whoever has no DSN. Several processes share the server of a folder.

Each user holds a shared flock on `users.lock`. Whoever leaves and can have it alone was the last and stops the server.
The kernel takes the locks of killed users back; if all were killed the server stays, and the next user joins it.
Only the holder of `start.lock` starts, stops, joins or leaves, so nobody joins a server that is about to stop.

Alive means: it answers a query. What is at work and does not answer yet (starting, recovering, stopping) is waited for.
POSIX only: it needs flock.
"""

import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import anyio
import asyncpg
from anyio.to_thread import run_sync

from jobqueue.base.errors import ConfigurationError
from jobqueue.store.embedded import postmaster
from jobqueue.store.embedded.file_lock import FileLock
from jobqueue.store.embedded.home import WAYS_OUT, Home, find_home, installed_programs

DATABASE = "jobqueue"
PAUSE = 0.02  # seconds between two looks at a lock or a server
ANSWER_TIMEOUT = 5.0  # seconds for one connection, one question
LEAVE_TIMEOUT = 10.0

# A server that is starting, recovering, stopping, full, or gone meanwhile; TimeoutError is an OSError.
NOT_READY = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.TooManyConnectionsError,
)


def embedded_folder(start: Path | None = None) -> Path:
    """`.jobqueue/` beside the nearest pyproject.toml at or above `start`, else in `start` itself. Absolute.

    `start` is the current directory by default.
    """
    here = (start or Path()).absolute()
    for folder in (here, *here.parents):
        if os.path.isfile(folder / "pyproject.toml"):
            return folder / ".jobqueue"
    return here / ".jobqueue"


class EmbeddedServer:
    """One user's share of the PostgreSQL server in a folder. Two objects are two users, also in one process.

    A forked child is no user; it may join by itself.
    """

    folder: Path
    started: bool
    """Whether the last `join` had to start the server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.started = False
        self._share: FileLock | None = None
        self._awaited = "its folder and programs to be found"

    async def join(self, timeout: float = 30.0) -> str:
        """Become a user, start the server if nobody has, and return a DSN; `timeout` is in seconds.

        May be called again: it then asks again, and starts a server that has crashed. Raises TimeoutError that says
        what was awaited; ConfigurationError if the extra is not installed, the folder cannot be used, the data belong
        to another version of PostgreSQL, or the server ends at once.
        A cancellation waits for a running initdb and leaves again; it stops at once otherwise.
        """
        joined_before = self._has_joined()
        try:
            with anyio.fail_after(timeout):
                return await self._join()
        except (TimeoutError, subprocess.TimeoutExpired):
            if not joined_before:
                self._release()  # and no stop: it may be a long recovery, which would begin anew
            raise TimeoutError(self._waited_in_vain(timeout)) from None
        except BaseException:
            if not joined_before:
                await self.leave()
            raise

    async def leave(self) -> None:
        """Stop being a user; the last one stops the server and drops its connections. Idempotent.

        Takes 10 s at most. A cancellation is delivered after that; a server that needs longer stops by itself.
        """
        if not self._has_joined():
            return
        try:
            with anyio.move_on_after(LEAVE_TIMEOUT, shield=True):
                await self._stop_if_last()
        finally:
            self._release()

    async def _join(self) -> str:
        self.started = False
        try:
            await run_sync(installed_programs)
            home = await run_sync(find_home, self.folder)
            async with self._start_lock():
                await self._take_share()
                return dsn(await self._answering_socket(home))
        except OSError as error:
            raise ConfigurationError(f"cannot use {self.folder}: {error}; {WAYS_OUT}") from error

    async def _take_share(self) -> None:
        share = self._share if self._share and self._share.held_open else FileLock(self.folder / "users.lock")
        self._share = share
        while not share.try_shared():  # works at once: whoever takes it alone holds the start lock as well
            self._awaited = "the last user, who is leaving"
            await anyio.sleep(PAUSE)

    async def _answering_socket(self, home: Home) -> Path:
        """Wait until the server answers, after starting it if none is at work. Once: what ends at once, ends again."""
        while True:
            remaining = max(0.1, anyio.current_effective_deadline() - anyio.current_time())
            if await run_sync(postmaster.start_if_down, home, not self.started, remaining):
                self.started = True
            try:
                socket = await run_sync(postmaster.find_socket, home)
                if socket:
                    await ask(socket)
                    return socket
                self._awaited = "the server to name its socket"
            except NOT_READY as error:
                self._awaited = f"an answer of the server, which says {type(error).__name__}: {error}"
            await anyio.sleep(PAUSE)

    async def _stop_if_last(self) -> None:
        try:
            async with self._start_lock():
                try:
                    if await self._is_last():
                        await stop(await run_sync(find_home, self.folder))
                finally:
                    self._release()
        except FileNotFoundError:
            return  # the folder was removed; a server ends by itself when it misses its files

    async def _is_last(self) -> bool:
        if self._share is None:
            return False
        same_file = await run_sync(self._share.names_its_file)  # if not, other users lock another file
        return same_file and self._share.try_exclusive()

    @asynccontextmanager
    async def _start_lock(self) -> AsyncIterator[None]:
        with FileLock(self.folder / "start.lock") as lock:
            while not lock.try_exclusive():
                self._awaited = f"process {lock.signature() or '?'}, which is starting or stopping the server"
                await anyio.sleep(PAUSE)
            lock.sign()
            yield

    def _has_joined(self) -> bool:
        return self._share is not None and self._share.held_open

    def _release(self) -> None:
        if self._share:
            self._share.release()
            self._share = None

    def _waited_in_vain(self, timeout: float) -> str:
        return f"the embedded PostgreSQL in {self.folder}: waited {timeout:g} s for {self._awaited}"


def dsn(socket: Path) -> str:
    """The DSN of our database, by way of the socket in this folder."""
    # sslmode: asyncpg would otherwise follow PGSSLMODE, and there is no TLS on a socket.
    return (
        f"postgresql://{postmaster.ROLE}@/{DATABASE}"
        f"?host={quote(str(socket), safe='/')}&port={postmaster.PORT}&sslmode=disable"
    )


async def ask(socket: Path) -> None:
    """Connect, ask, and create our database if it is missing. Raises one of NOT_READY if the server is not."""
    connection = await asyncpg.connect(
        host=str(socket),
        port=postmaster.PORT,
        user=postmaster.ROLE,
        database="postgres",
        ssl=False,
        timeout=ANSWER_TIMEOUT,
        command_timeout=ANSWER_TIMEOUT,
    )
    try:
        if not await connection.fetchval("select exists (select from pg_database where datname = $1)", DATABASE):
            await connection.execute(f"create database {DATABASE}")
    finally:
        await connection.close(timeout=ANSWER_TIMEOUT)


async def stop(home: Home) -> None:
    """Interrupt the server and wait until it has ended; one that is just starting is interrupted as soon as it can be.

    Waits for ever if the server ignores it, or belongs to another container: the caller limits it.
    """
    told: postmaster.PidFile | None = None
    while await run_sync(postmaster.is_at_work, home):
        told = told or await run_sync(postmaster.interrupt, home)
        await anyio.sleep(PAUSE)
    if told:
        await run_sync(postmaster.remove_socket_folder, told)
