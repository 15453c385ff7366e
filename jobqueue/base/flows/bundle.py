"""A bundle, as it stood when it was read; and what is called back when all its members have ended."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias
from uuid import UUID

from jobqueue.base.job import NewJob

When: TypeAlias = Literal["success", "failure", "finish"]
"""When a callback runs: all members are completed; some are dead or cancelled; whatever became of them."""


@dataclass(frozen=True, slots=True)
class Callback:
    """A job that is stored anew each time that the bundle ends."""

    when: When
    job: NewJob[Any]


@dataclass(frozen=True, slots=True)
class NewBundle:
    """A bundle not yet stored."""

    id: UUID
    name: str
    origin: str | None = None
    parent_id: UUID | None = None
    callbacks: tuple[Callback, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class BundleCounts:
    """How many bundles there are, as far as the ends of their members are added up.

    Small numbers are exact. Of very many bundles they are about right only, from a sample: `estimated` names which.
    """

    unfinished: int
    finished: int
    """As long as they are kept."""
    with_errors: int
    """Of both, those with a member that is dead or cancelled now."""
    estimated: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle as it stood in the database when it was read: a snapshot, never updated in place."""

    id: UUID
    name: str
    origin: str | None
    parent_id: UUID | None
    open: bool
    """Whether whoever made it may still add to it: it does not end before."""
    added: int
    completed: int
    cancelled: int
    """Members that were cancelled, or deleted before they had ended."""
    dead: int
    round: int
    """How often it has ended: a member that is retried after the end opens it again."""
    cancel_asked: datetime | None
    created_at: datetime
    finished_at: datetime | None

    @property
    def pending(self) -> int:
        """Members that have not ended."""
        return max(0, self.added - self.ended)

    @property
    def ended(self) -> int:
        """Members that have ended."""
        return self.completed + self.cancelled + self.dead

    @property
    def fraction(self) -> float:
        """How much of it has ended, from 0 to 1; of an empty one all."""
        return min(1.0, self.ended / self.added) if self.added else 1.0

    @property
    def finished(self) -> bool:
        """Whether all its members have ended, and nobody may add to it any more."""
        return self.finished_at is not None

    @property
    def has_errors(self) -> bool:
        """Whether some member is dead or cancelled now."""
        return self.dead + self.cancelled > 0
