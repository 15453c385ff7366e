"""Projects with an embedded server, and other processes that use it."""

import asyncio
import atexit
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import cache
from pathlib import Path

import anyio
import asyncpg
import psutil
import pytest

from jobqueue.store.embedded import postmaster
from jobqueue.store.embedded.home import find_home
from jobqueue.store.embedded.server import EmbeddedServer
from tests.support.patience import PATIENCE
from tests.support.waiting import wait_until

REPOSITORY = Path(__file__).parents[3]
MEMORY = Path("/dev/shm")  # where removing a data folder takes no time; on a disk that discards it may take a second


@asynccontextmanager
async def embedded_project() -> AsyncIterator[Path]:
    """`.jobqueue` in a project that every account can enter, of an awkward name; its server is gone afterwards."""
    project = open_folder('it\'s a "test" ', MEMORY if has_memory() else None)
    temporary = open_folder("jq-", mode=0o1777)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(temporary))
        patch.setattr(tempfile, "tempdir", str(temporary))
        try:
            yield project / ".jobqueue"
        finally:
            await remove(project)
            shutil.rmtree(temporary)


async def begun(folder: Path) -> Path:
    """Put data there as a first user leaves them, who also was the last one: a copy of what was made once."""
    made, home = made_once(), find_home(folder)
    if not any(made.iterdir()):
        server = EmbeddedServer(made / ".jobqueue")
        await server.join()
        await server.leave()
    await anyio.run_process(["cp", "-a", str(made / ".jobqueue" / "data"), str(home.data)])
    return folder


@cache
def made_once() -> Path:
    """The project of this test process whose data are copied; empty at first."""
    project = open_folder("made-", MEMORY if has_memory() else None)
    atexit.register(shutil.rmtree, project, ignore_errors=True)
    return project


def has_memory() -> bool:
    return MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 1_000_000_000


def open_folder(prefix: str, parent: Path | None = None, mode: int = 0o755) -> Path:
    """A new folder that every account can enter: the one of `tmp_path` is closed to all but its owner."""
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    folder.chmod(mode)
    return folder


def exists(path: Path) -> bool:
    return path.exists()


class User:
    """Another process that uses the server."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.started = False
        self.dsn = ""

    async def answer(self) -> None:
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), PATIENCE)
        word, self.dsn = line.decode().split()
        self.started = word == "started"

    async def leave(self) -> None:
        """In an orderly way."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert await asyncio.wait_for(self.process.wait(), PATIENCE) == 0

    async def end(self, number: signal.Signals) -> None:
        """By a signal to it and all its children but the server, as Ctrl-C in a terminal does."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)
        await self.process.wait()

    async def kill(self) -> None:
        """Only it, not its children."""
        self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def spawned(folder: Path, *options: str) -> AsyncIterator[User]:
    """A user that has just been started."""
    user = User(
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.support.postgres.embedded_user", str(folder), *options),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=REPOSITORY,
            start_new_session=True,
        )
    )
    try:
        yield user
    finally:
        await user.end(signal.SIGKILL)


@asynccontextmanager
async def joined(folder: Path, *options: str) -> AsyncIterator[User]:
    """A user that has joined."""
    async with spawned(folder, *options) as user:
        await user.answer()
        yield user


def servers_below(project: Path) -> list[psutil.Process]:
    """Every PostgreSQL process that works below this folder, also if the folder has been removed."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, FileNotFoundError):
            if process.name() in {"postgres", "initdb"} and process.cwd().startswith(str(project)):
                found.append(process)
    return found


async def remove(project: Path) -> None:
    """Remove a project, and first end what works in it, whatever a test has done to it."""
    for process in servers_below(project):
        with suppress(psutil.NoSuchProcess):
            process.resume()
            process.send_signal(signal.SIGQUIT)  # in a hurry, but SIGKILL would leave shared memory behind
    await wait_until(lambda: not servers_below(project), f"nothing works in {project}")
    shutil.rmtree(project)


def server_pid(folder: Path) -> int:
    """The live server of a folder."""
    found = postmaster.find_postmaster(find_home(folder))
    assert found is not None
    return found.pid


def is_down(folder: Path) -> bool:
    return not postmaster.is_at_work(find_home(folder))


async def query(dsn: str, sql: str = "select 1") -> object:
    connection = await asyncpg.connect(dsn, timeout=PATIENCE)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


def socket_folder(dsn: str) -> Path:
    found = re.search(r"host=([^&]*)", dsn)
    assert found is not None
    return Path(found[1])
