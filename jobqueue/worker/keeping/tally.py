"""Counts what one worker does, task by task, as plain numbers: whoever wants to show them reads them.

Counted where the ledger of claims is kept (`holding.py`), so that always claimed = processed + in flight. Only tasks
that are registered have a row of their own: whoever can write to the table could make up any number of names. Written
on the worker's event loop, read from any thread.
"""

from bisect import bisect_left
from collections.abc import Callable
from typing import Protocol

from jobqueue.base.outcome import (
    Cancelled,
    Dead,
    Done,
    LinedUp,
    Outcome,
    PutAside,
    Released,
    Retried,
    Snoozed,
    Suspended,
)

UNKNOWN = "unknown"
"""Stands for every name that no registered task has."""
REFUSED = "refused"
"""The fence kept the outcome out: another worker had taken over."""
LOST = "lost"
"""The claim was over before there was an outcome to write."""
WORDS: dict[type[Outcome], str] = {
    Done: "completed",
    Cancelled: "cancelled",
    Dead: "dead",
    Retried: "retried",
    Snoozed: "snoozed",
    Suspended: "suspended",
    Released: "released",
    PutAside: "put_aside",
    LinedUp: "lined_up",
}
"""An outcome's word, in logs and metrics alike. (A worker never ends its own claims as rescued.)"""
OUTCOMES = (*WORDS.values(), REFUSED, LOST)
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
"""Upper bounds of the histogram's buckets in seconds; the last bucket has none."""


class Named(Protocol):
    """What counting needs of a task."""

    @property
    def name(self) -> str:
        """The registered name."""
        ...


class Counts:
    """The counts of one task."""

    __slots__ = ("buckets", "claimed", "outcomes", "seconds")

    def __init__(self) -> None:
        self.claimed = 0
        self.outcomes = dict.fromkeys(OUTCOMES, 0)
        """Processed claims by outcome; all are there from the start, so that another thread may go through them."""
        self.buckets = [0] * (len(BOUNDS) + 1)
        """How many runs took up to each bound, and longer than all."""
        self.seconds = 0.0
        """What all runs took together."""

    @property
    def processed(self) -> int:
        """How many claims have come to their end. In another thread read it before `claimed`, which is ahead of it."""
        return sum(self.outcomes.values())

    def end(self, outcome: str, seconds: float | None) -> None:
        """A claim has come to its end; `seconds` is what its run took, None if none had begun."""
        self.outcomes[outcome] += 1
        if seconds is not None:
            self.buckets[bisect_left(BOUNDS, seconds)] += 1
            self.seconds += seconds


class Tally:
    """The counts of one worker."""

    def __init__(self, find: Callable[[str], Named | None]) -> None:
        """`find` gives the registered task of a name or alias."""
        self._find = find
        self._by_task: dict[str, Counts] = {}

    def of(self, name: str) -> Counts:
        """The counts of the task with this name or alias; of UNKNOWN if there is none."""
        task = self._find(name)
        label = UNKNOWN if task is None else task.name
        counts = self._by_task.get(label)
        if counts is None:
            counts = self._by_task[label] = Counts()
        return counts

    def tasks(self) -> dict[str, Counts]:
        """The counts of each task that this worker has met."""
        return self._by_task.copy()
