"""Those who hold a lock that somebody needs, in words."""

from collections.abc import Sequence
from typing import Any


def in_words(rows: Sequence[Any]) -> str:
    """Name, process id and age of what `who_locks` has found, for people."""
    return ", ".join(_one(*row) for row in rows) or "somebody who has let go of it by now"


def _one(pid: int | None, name: str, seconds: float | None) -> str:
    facts = [] if pid is None else [f"pid {pid}"]
    facts += [] if seconds is None else [f"for {seconds:.0f} s"]
    return f"{name} ({', '.join(facts)})" if facts else name
