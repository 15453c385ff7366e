"""What the graph of a bundle is made of: jobs that come after others, and the number of those that do not."""

from dataclasses import dataclass
from uuid import UUID

from jobqueue.base.job import JobState


@dataclass(frozen=True, slots=True)
class GraphJob:
    """A job that comes after others, or that others come after."""

    id: UUID
    task: str
    """Empty if nothing is known of it any more."""
    state: JobState | None
    """None once neither the job nor what became of it is kept."""
    after: tuple[UUID, ...] = ()
    """The jobs it comes after, in the order in which they were named; of one of another bundle nothing is said here."""
    reason: str | None = None
    """Why it is cancelled or dead, in a word; `dependency`: because of what it comes after."""
    error: str | None = None
    """The class of what its last failed attempt raised."""
    outside: bool = False
    """Whether it is no member of the bundle."""

    @property
    def doomed(self) -> bool:
        """Whether it was cancelled because of what it comes after."""
        return self.state is JobState.CANCELLED and self.reason == "dependency"


@dataclass(frozen=True, slots=True)
class Unlinked:
    """Jobs of a bundle that come after no other, and no other after them."""

    task: str
    state: JobState
    jobs: int
    callback: bool
    """Whether they are no members, but were stored because all members had ended."""
