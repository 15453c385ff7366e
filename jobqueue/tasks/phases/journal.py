"""What the phases of a run need of whoever stores them: a worker, or `task.run`, which keeps them in memory."""

from collections.abc import Sequence
from typing import Any, Protocol

from jobqueue.base.flows.phase import Found, Looked, Record, Wait, Waking


class Journal(Protocol):
    """The phases of one job, under the claim of one run.

    All that waits outlasts an outage of the database, and raises ClaimLost once another worker has the job. A cancelled
    caller leaves what it had to say behind: it is written all the same, before the job's outcome.
    """

    async def load(self) -> Sequence[Found]:
        """What earlier runs have left."""
        ...

    async def result_of(self, name: str) -> str | None:
        """The result of a completed phase as JSON text, from the store; None if it is not there."""
        ...

    async def record(self, record: Record) -> Waking | None:
        """Store the last word of a phase: returns once it is stored. Of a sleep, until when it lasts."""
        ...

    def note(self, record: Record) -> None:
        """Store it soon, at the latest before the job's outcome."""
        ...

    async def record_on(self, connection: Any, record: Record) -> None:
        """Store it with the transaction that this connection is in."""
        ...

    async def look(self, wait: Wait) -> Looked:
        """Take the next signal of a wait, or say until when it waits."""
        ...
