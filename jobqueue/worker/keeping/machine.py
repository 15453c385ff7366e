"""Which processes of this machine still live: proof of a worker's death that need not wait for its lease.

A machine here is one boot and one process namespace, so that a pid means the same to both sides: two containers are
two machines. Where the system does not tell (only Linux does), there is no proof, and leases decide alone.
"""

import os
from pathlib import Path

_PROC = Path("/proc")


def this_machine() -> str | None:
    """The identity of this boot and process namespace; None if it cannot be told."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return None


def born(pid: int) -> str | None:
    """When the process started, in the kernel's ticks since boot; None if that cannot be read."""
    seen = _stat(pid)
    return None if seen is None else seen[19]


def is_gone(pid: int, born: str | None) -> bool:
    """True if that process certainly lives no more: there is none, only its remains, or a later one of that number."""
    seen = _stat(pid)
    if seen is not None:
        return seen[0] in "ZX" or seen[19] != born
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False  # another user's, which lives
    return False  # its entry could not be read, for whatever reason


def _stat(pid: int) -> list[str] | None:
    """The fields of its entry from the state on (the third); None if it cannot be read."""
    try:
        entry = (_PROC / str(pid) / "stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    return entry.rpartition(")")[2].split()  # the name before it may have spaces and brackets
