"""An flock on a file of our own. The kernel lets go of it when its holder dies, however it dies."""

import fcntl
import os
from pathlib import Path
from typing import Self
from weakref import WeakSet


class FileLock:
    """One share of an flock. Two objects count as two, also within one process.

    A started child does not inherit it, unless it is handed over with `pass_fds`; a forked one closes its copy at once.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, or create it; nothing is locked yet. Raises OSError."""
        self.path = path
        self._file = open_owned(path, os.O_RDWR)
        _open_locks.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    @property
    def held_open(self) -> bool:
        """False once released, and in a forked child."""
        return self._file >= 0

    def fileno(self) -> int:
        return self._file

    def try_shared(self) -> bool:
        """Take it together with others, without waiting; tells whether it worked."""
        return self._try(fcntl.LOCK_SH)

    def try_exclusive(self) -> bool:
        """Take it alone, without waiting; tells whether it worked. If not, a share of ours is lost too."""
        return self._try(fcntl.LOCK_EX)

    def names_its_file(self) -> bool:
        """False if the file was removed or replaced meanwhile: then others lock another file."""
        try:
            return os.path.samestat(os.fstat(self._file), os.stat(self.path))
        except FileNotFoundError:
            return False

    def sign(self) -> None:
        """Write our process id into the file, so that whoever waits can say for whom."""
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, str(os.getpid()).encode(), 0)

    def signature(self) -> str:
        """The process id that the last holder left, or an empty text."""
        return os.pread(self._file, 20, 0).decode(errors="replace")

    def release(self) -> None:
        """Unlock and close; idempotent. Copies that children inherited are unlocked too."""
        if self.held_open:
            fcntl.flock(self._file, fcntl.LOCK_UN)
            self.close()

    def close(self) -> None:
        """Close our copy; idempotent. The lock lives on in the process that it was handed to."""
        if self.held_open:
            os.close(self._file)
            self._file = -1

    def _try(self, kind: int) -> bool:
        try:
            fcntl.flock(self._file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def open_owned(path: Path, flags: int) -> int:
    """Open or create a file that belongs to the owner of its folder, also if root creates it. Follows no symlink."""
    file = os.open(path, flags | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    if os.geteuid() == 0:
        folder = os.stat(path.parent)
        os.fchown(file, folder.st_uid, folder.st_gid)
    return file


_open_locks: WeakSet[FileLock] = WeakSet()


def _close_all() -> None:
    for lock in list(_open_locks):
        lock.close()


# A forked child shares the lock of its parent: without this it would be held until the child ends, too.
os.register_at_fork(after_in_child=_close_all)
