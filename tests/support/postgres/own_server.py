"""A PostgreSQL of the tests' own, that may be stopped, killed and reconfigured: on TCP, with nobody else in it.

Made from the programs of the `embedded` extra, whatever server the rest of the suite uses. It does not sync to disk:
it has to survive the death of its processes, not of the machine.
"""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import psycopg

from jobqueue.store.embedded.home import INHERITED, Account, find_home, runnable_programs
from jobqueue.store.embedded.postmaster import LOCALE, ROLE
from jobqueue.store.schema.migrate import migrate
from tests.support.patience import scaled
from tests.support.postgres.database import Databases
from tests.support.postgres.embedded import MEMORY, has_memory, open_folder
from tests.support.postgres.server import Server
from tests.support.waiting import wait_until

TEMPLATE = "own_template"
SETTINGS = {"fsync": "off", "shared_buffers": "32MB", "max_connections": "100", "autovacuum": "off"}
SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}


class OwnServer:
    """One server on its own data folder and port. `start`, `stop` and the kills may be called in any state."""

    def __init__(self, folder: Path, account: Account, programs: Path) -> None:
        self.port = free_port()
        self.databases = Databases(Server(self.dsn("postgres"), "a server of its own", "", "own"))
        self._data = folder / "data"
        self._log = folder / "server.log"
        self._account = account
        self._programs = programs
        self._process: subprocess.Popen[bytes] | None = None
        self._addresses = "127.0.0.1"

    def dsn(self, database: str, *, user: str = ROLE) -> str:
        """The DSN of one of its databases."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def initialise(self) -> None:
        """Make the data folder; takes about a second."""
        self._data.mkdir(mode=0o700)
        self._account.give(self._data)
        options = [f"--username={ROLE}", "--auth=trust", "--no-instructions", "--no-sync", *LOCALE]
        options += [f"--set={name}={value}" for name, value in SETTINGS.items()]
        answer = self._account.run([self._programs / "initdb", "-D", self._data, *options], 60)
        assert answer.returncode == 0, answer.stdout

    async def start(self) -> None:
        """Start it if it does not run, and return once it answers."""
        if self.pid is None:
            self._process = self._launch()
        await wait_until(self._answers, f"the server answers:\n{self._last_words()}")

    async def stop(self, mode: str = "fast") -> None:
        """Stop it as `pg_ctl stop -m MODE` does, and return once it is gone."""
        if self.pid is not None and self._process is not None:
            self._process.send_signal(SIGNALS[mode])
            await self._gone()

    async def restart(self, mode: str = "fast") -> None:
        """Stop and start."""
        await self.stop(mode)
        await self.start()

    async def listen_also(self, address: str | None) -> None:
        """Start anew, and let everybody in who comes by this address as well."""
        await self.stop()
        self._addresses = "127.0.0.1" if address is None else f"127.0.0.1,{address}"
        with (self._data / "pg_hba.conf").open("a") as rules:
            rules.write("" if address is None else "host all all samenet trust\n")
        await self.start()

    async def kill(self) -> None:
        """SIGKILL to all its processes at once: to its clients as if the machine had died."""
        if self.pid is None or self._process is None:
            return
        family = [psutil.Process(self._process.pid), *psutil.Process(self._process.pid).children(recursive=True)]
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        await self._gone()
        await wait_until(lambda: not any(alive(member) for member in family), "its processes have ended")

    def kill_backend(self, pid: int) -> None:
        """SIGKILL to one of its backends: the server throws all others out and recovers."""
        os.kill(pid, signal.SIGKILL)

    async def change(self, commands: str, database: str = "postgres") -> None:
        """Run statements as an administrator, each in a transaction of its own."""
        async with await psycopg.AsyncConnection.connect(self.dsn(database), autocommit=True) as connection:
            for command in commands.split(";"):
                await connection.execute(command.encode())

    @property
    def pid(self) -> int | None:
        """Its first process, if it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def close(self) -> None:
        """End it."""
        self.databases.close()
        if self.pid is not None and self._process is not None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.send_signal(signal.SIGQUIT)
                self._process.wait()

    def _launch(self) -> "subprocess.Popen[bytes]":
        fixed = [f"--listen_addresses={self._addresses}", f"--port={self.port}", "--unix_socket_directories="]
        with self._log.open("ab") as log:
            switch = self._account.switch
            return subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, *fixed],
                cwd="/", env=account_environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                user=self._account.uid if switch else None, group=self._account.gid if switch else None,
                extra_groups=() if switch else None, start_new_session=True,
            )  # fmt: skip

    def _answers(self) -> bool:
        assert self.pid is not None, f"the server has ended:\n{self._last_words()}"
        try:
            with psycopg.connect(self.dsn("postgres"), connect_timeout=int(scaled(2))):
                return True
        except psycopg.OperationalError:
            return False

    async def _gone(self) -> None:
        await wait_until(lambda: self.pid is None, "the server has ended")

    def _last_words(self) -> str:
        return self._log.read_text(errors="replace")[-2000:] if self._log.exists() else ""


def alive(process: psutil.Process) -> bool:
    """Tell whether it runs, and is not only waiting to be reaped."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def account_environment() -> dict[str, str]:
    """Little of ours: nothing of it may change what the server does."""
    return {"LC_ALL": "C"} | {name: os.environ[name] for name in INHERITED if name in os.environ}


def free_port() -> int:
    """A TCP port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def own_server() -> Iterator[OwnServer]:
    """A server with the migrated template `TEMPLATE`. Raises ConfigurationError without the `embedded` extra."""
    with ExitStack() as stack:
        folder = open_folder("jobqueue-own-", MEMORY if has_memory() else None)
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        home = find_home(folder / "home")
        programs, _ = runnable_programs(home.account)
        server = OwnServer(folder, home.account, programs)
        server.initialise()
        stack.callback(server.close)
        asyncio.run(_with_template(server))
        yield server


async def _with_template(server: OwnServer) -> None:
    await server.start()
    await server.change(f"create database {TEMPLATE}")
    await migrate(server.dsn(TEMPLATE))
    await server.change(f"alter database {TEMPLATE} allow_connections false")
