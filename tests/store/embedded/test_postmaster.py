"""One server: dead ones, false signs of life, and how it is made. Real servers and real signals."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from jobqueue.base.errors import ConfigurationError
from jobqueue.store.embedded import postmaster
from jobqueue.store.embedded.home import Account, Home, find_home
from jobqueue.store.embedded.server import EmbeddedServer
from tests.support.postgres.embedded import (
    is_down,
    query,
    server_pid,
    servers_below,
    socket_folder,
    spawned,
)
from tests.support.waiting import wait_until


def copy_all(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", source, target], check=True)


def sleeping(seconds: int, account: Account, place: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(["sleep", str(seconds)], user=account.uid if account.switch else None, cwd=place)


# Dead servers and false signs of life.


async def test_killed_server_is_started_again(folder: Path) -> None:
    """After kill -9 of the server the same user can join again, and all that was committed is there."""
    server = EmbeddedServer(folder)
    await query(await server.join(), "create table kept as select 7 as value")
    os.kill(server_pid(folder), signal.SIGKILL)
    assert await query(await server.join(), "select value from kept") == 7
    assert server.started
    await server.leave()
    assert is_down(folder)


@pytest.mark.parametrize("whose", ["zombie", "foreign", "itself"])
@pytest.mark.parametrize("proc", ["/proc", "/nonexistent"])
async def test_stale_pid_file_is_no_server(
    folder: Path, whose: str, proc: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pid file that names a zombie, a foreign process of the server's account, or ourselves, fools nobody."""
    monkeypatch.setattr(postmaster, "PROC", Path(proc))
    server = EmbeddedServer(folder)
    dsn = await server.join()
    home = find_home(folder)
    with sleeping(0 if whose == "zombie" else 60, home.account, home.data) as other:
        try:
            if whose == "zombie":
                await wait_until(lambda: psutil.Process(other.pid).status() == "zombie", "the process is a zombie")
            os.kill(server_pid(folder), signal.SIGKILL)
            await wait_until(lambda: not servers_below(folder), "the server is dead")
            for file in (home.data / "postmaster.pid", socket_folder(dsn) / ".s.PGSQL.5432.lock"):
                lines = file.read_text().splitlines()
                lines[0] = str(os.getpid() if whose == "itself" else other.pid)
                file.write_text("\n".join(lines) + "\n")

            assert await query(await server.join()) == 1
            assert server.started
            await server.leave()
            assert is_down(folder)
            assert whose != "foreign" or other.poll() is None
        finally:
            other.kill()


async def test_half_written_pid_file(folder: Path) -> None:
    """A pid file that a crash cut off does not prevent a start."""
    server = EmbeddedServer(folder)
    await server.join()
    await server.leave()
    (folder / "data" / "postmaster.pid").write_text("77")
    assert await query(await server.join()) == 1
    await server.leave()
    assert is_down(folder)


@pytest.mark.parametrize(
    "text", ["", "77", "77\n/data\n1\n5432\n", "77\n/data\n1\n5432\n\n\n", "-77\n/data\n1\n5432\n/tmp\n"]
)
def test_no_conclusions_from_half_a_pid_file(tmp_path: Path, text: str) -> None:
    """A server that has not yet written where its socket is, or a single-user one, is not asked yet."""
    home = Home(tmp_path, Account(os.geteuid(), os.getegid(), switch=False))
    home.data.mkdir()
    (home.data / "postmaster.pid").write_text(text)
    assert postmaster.find_socket(home) is None
    assert postmaster.find_postmaster(home) is None


@pytest.mark.parametrize("proc", ["/proc", "/nonexistent"])
async def test_copied_folder_gets_its_own_server(folder: Path, proc: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the folder of a running server, pid file included, is another server's folder."""
    monkeypatch.setattr(postmaster, "PROC", Path(proc))
    copy = folder.parent / "copy"
    copy.mkdir()
    original, copied = EmbeddedServer(folder), EmbeddedServer(copy / ".jobqueue")
    dsn = await original.join()
    copy_all(folder, copy)
    assert dsn != await copied.join()
    await copied.leave()
    assert await query(dsn) == 1
    await original.leave()


async def test_removed_folder_is_begun_anew(new_folder: Path) -> None:
    """When the folder is removed under a server, the next user gets a new one that the old one does not disturb."""
    old, new = EmbeddedServer(new_folder), EmbeddedServer(new_folder)
    before = await old.join()
    old_pid = server_pid(new_folder)
    shutil.rmtree(new_folder)
    after = await new.join()
    assert new.started
    await old.leave()
    os.kill(old_pid, signal.SIGINT)
    await wait_until(lambda: not list(socket_folder(before).iterdir()), "the old server has removed its socket")
    assert await query(after) == 1
    await new.leave()
    assert is_down(new_folder)


# Making it.


async def test_interrupted_initialisation_is_begun_anew(new_folder: Path) -> None:
    """After kill -9 of the first user in the middle of initdb the next one gets a whole server."""
    async with spawned(new_folder) as user:
        await wait_until((new_folder / "data.new" / "base").exists, "initdb is at work")
        await user.kill()
    assert not (new_folder / "data").exists()
    server = EmbeddedServer(new_folder)
    assert await query(await server.join()) == 1
    await server.leave()
    assert not (new_folder / "data.new").exists()


async def test_data_of_another_version(folder: Path) -> None:
    """Data of another PostgreSQL are refused with both versions named, and nothing is started."""
    server = EmbeddedServer(folder)
    await server.join()
    await server.leave()
    (folder / "data" / "PG_VERSION").write_text("15\n")
    with pytest.raises(ConfigurationError, match=r"belong to PostgreSQL 15, installed is 1\d"):
        await server.join()
    assert is_down(folder)


async def test_foreign_data_folder_is_left_alone(new_folder: Path) -> None:
    """A folder `data` that is no database is refused and kept."""
    (new_folder / "data").mkdir(parents=True)
    (new_folder / "data" / "precious").touch()
    os.chown(new_folder / "data", find_home(new_folder.parent / "x").account.uid, -1)
    with pytest.raises(ConfigurationError, match="does not hold PostgreSQL data"):
        await EmbeddedServer(new_folder).join()
    assert (new_folder / "data" / "precious").exists()


async def test_server_that_ends_at_once(folder: Path) -> None:
    """A server that cannot run is started once, and the error quotes its log."""
    server = EmbeddedServer(folder)
    await server.join()
    await server.leave()
    with (folder / "data" / "postgresql.conf").open("a") as file:
        file.write("\nno_such_setting = 1\n")
    with pytest.raises(ConfigurationError, match=r"ended at once:(.|\n)*no_such_setting"):
        await server.join()
    assert (folder / "server.log").read_text().count("no_such_setting") == 1


async def test_log_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that has grown too long is put aside at the next start; one old log is kept."""
    monkeypatch.setattr(postmaster, "LOG_LIMIT", 100)
    server = EmbeddedServer(folder)
    for _ in range(3):
        await server.join()
        await server.leave()
    assert (folder / "server.log").read_text().count("starting PostgreSQL") == 1
    assert (folder / "server.log.old").read_text().count("starting PostgreSQL") == 1
