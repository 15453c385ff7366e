"""What is measured twice: our own queue, or the raw limit. One protocol, so that a measurement is written once."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from jobqueue.store.dialing.dial import Connection, Dialer

NAP = 0.05
"""Seconds that a job sleeps which waits for something."""


@dataclass(frozen=True, slots=True)
class Load:
    """Jobs to be stored at once. With `priorities` the last one stored has the lowest, so that it also runs last."""

    count: int
    task: str = "noop"
    priorities: int = 1
    unique: bool = False
    delay: float | None = None

    @property
    def plain(self) -> bool:
        """Nothing is said of them but their arguments."""
        return self.priorities == 1 and not self.unique and self.delay is None

    def priority(self, number: int) -> int:
        """Of the job with this number, from 0 on."""
        return (self.count - 1 - number) % self.priorities

    def key(self, number: int) -> str | None:
        """Of the job with this number: all differ."""
        return f"key {number}" if self.unique else None


class Side(Protocol):
    """How jobs are stored and worked off."""

    name: str

    async def send(self, number: int) -> None:
        """Store one no-op, as one caller among others."""

    async def stamp(self) -> None:
        """Store one job that notes how long it was on its way, and wake an idle worker."""

    async def fill(self, load: Load) -> None:
        """Store them all, or none."""

    async def mark(self) -> None:
        """Remember the job that was stored last: of its load it is one of the last to run."""

    async def finished(self) -> bool:
        """Whether the marked job has ended."""

    async def tally(self, since: datetime, from_due: bool) -> tuple[int, float]:
        """How many jobs were claimed since and have ended, and how many seconds that took: from the first claim on, or
        from when they were due."""

    def worker(self, concurrency: int) -> Sequence[str]:
        """The words after `python -m` that start a worker; the number of its line comes where `{line}` stands."""

    async def close(self) -> None:
        """Let go of its connections."""


async def bare(dsn: str, schema: str, limit: float) -> Connection:
    """A bare connection whose search_path is the bench's schema. Statements take `limit` seconds at the most."""
    settings = {"search_path": schema, "statement_timeout": "0", "idle_in_transaction_session_timeout": "0"}
    return await Dialer()(dsn, command_timeout=limit, server_settings=settings)
