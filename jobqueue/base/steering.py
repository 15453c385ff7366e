"""What may be done to a job from outside, in which state, and what then happens: the one table of it.

Workers move jobs by their outcomes (`outcome.py`), fenced. Everything here is for the hands of people and programs.

| | scheduled, ready | blocked | running | completed, cancelled, dead |
|---|---|---|---|---|
| cancel | done | done | asked: its worker ends it | too late |
| retry | done: due now | busy | busy | done: again, with all attempts |
| reschedule, move, set_priority | done | done: it stays blocked, or lines up when due | busy | too late |
| delete | done | done | busy | done |
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from jobqueue.base.job import FINAL, JobState


class Action(StrEnum):
    """What is asked for."""

    CANCEL = "cancel"
    RETRY = "retry"
    RESCHEDULE = "reschedule"
    MOVE = "move"
    SET_PRIORITY = "set_priority"
    DELETE = "delete"


class Change(StrEnum):
    """What became of it, for one job."""

    DONE = "done"
    ASKED = "asked"
    """The job runs: its worker was told to end it. What the handler reaches before that counts."""
    BUSY = "busy"
    """Refused: the job runs: cancel it first. Or it is to be retried, and waits for another one. Or an open transaction
    has locked it."""
    TOO_LATE = "too_late"
    """Refused: the job has ended."""
    KEY_TAKEN = "key_taken"
    """Refused: another job holds its unique key by now."""
    NOT_FOUND = "not_found"

    @property
    def happened(self) -> bool:
        """True if what was asked for is done or under way; a running job may have been asked to end before."""
        return self in (Change.DONE, Change.ASKED)


_WAITING = {JobState.SCHEDULED: Change.DONE, JobState.BLOCKED: Change.DONE, JobState.READY: Change.DONE}
_RUNS = {JobState.RUNNING: Change.BUSY}
_OVER = dict.fromkeys(sorted(FINAL), Change.TOO_LATE)
_AGAIN = dict.fromkeys(sorted(FINAL), Change.DONE)

LEGAL: Mapping[Action, Mapping[JobState, Change]] = {
    Action.CANCEL: {**_WAITING, JobState.RUNNING: Change.ASKED, **_OVER},
    Action.RETRY: {**_WAITING, JobState.BLOCKED: Change.BUSY, **_RUNS, **_AGAIN},
    Action.RESCHEDULE: {**_WAITING, **_RUNS, **_OVER},
    Action.MOVE: {**_WAITING, **_RUNS, **_OVER},
    Action.SET_PRIORITY: {**_WAITING, **_RUNS, **_OVER},
    Action.DELETE: {**_WAITING, **_RUNS, **_AGAIN},
}
"""The result of each action in each state."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose open transaction has a row: the name that its connection has given itself, or that of its role."""

    name: str
    pid: int | None
    """Its process at the server; None for a prepared transaction."""
    seconds: float | None
    """For how long it has been open; None if we have no right to know."""

    def __str__(self) -> str:
        facts = [] if self.pid is None else [f"pid {self.pid}"]
        facts += [] if self.seconds is None else [f"for {self.seconds:.0f} s"]
        return f"{self.name} ({', '.join(facts)})" if facts else self.name


@dataclass(frozen=True, slots=True)
class Changes:
    """What became of each job that was meant, by its id."""

    each: dict[UUID, Change] = field(default_factory=dict)
    locked: dict[UUID, Holder] = field(default_factory=dict)
    """Who has locked those that are `busy` only for that."""

    @property
    def changed(self) -> list[UUID]:
        """The jobs to which it happened, see `Change.happened`."""
        return [id for id, change in self.each.items() if change.happened]

    @property
    def refused(self) -> dict[UUID, Change]:
        """The others, with the reason."""
        return {id: change for id, change in self.each.items() if not change.happened}

    def __len__(self) -> int:
        return len(self.changed)
