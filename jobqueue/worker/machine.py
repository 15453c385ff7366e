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


def born(pid: int | None = None) -> str | None:
    """When the process started, in the kernel's ticks since boot; None if there is none, or only its remains."""
    try:
        fields = (_PROC / str(pid or os.getpid()) / "stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    after_name = fields.rpartition(")")[2].split()  # the name may have spaces and brackets
    return None if after_name[0] in "ZX" else after_name[19]
