"""Counts what one worker does, by queue and task, as plain numbers: whoever wants to show them reads them.

Counted where the ledger of claims is kept (`holds.py`), so that always claimed = processed + in flight. Only tasks that
are registered have a row of their own, and only so many queues: whoever can write to the table could make up any number
of names. Written on the worker's event loop, read from any thread.
"""

import random
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from jobqueue.base.looking.history import BOUNDS
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
from jobqueue.store.claims import Claim, waited

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
MOST = 1_000
"""Pairs of a queue and a task that are counted apart; the queue of any further one is UNKNOWN."""
SAMPLES = 4
"""Of each claim so many jobs at most stand for all: how long they have waited."""

Pair: TypeAlias = tuple[str, str]
"""Queue and task."""


class Named(Protocol):
    """What counting needs of a task."""

    @property
    def name(self) -> str:
        """The registered name."""
        ...


class Counts:
    """The counts of one task, in one queue or in all."""

    __slots__ = ("buckets", "claimed", "outcomes", "seconds", "waits")

    def __init__(self) -> None:
        self.claimed = 0
        self.outcomes = dict.fromkeys(OUTCOMES, 0)
        """Processed claims by outcome; all are there from the start, so that another thread may go through them."""
        self.buckets = [0] * (len(BOUNDS) + 1)
        """How many runs took up to each bound, and longer than all."""
        self.seconds = 0.0
        """What all runs took together."""
        self.waits = [0] * (len(BOUNDS) + 1)
        """How many jobs had waited up to each bound from due to claimed; a sample, in which some stand for others."""

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

    def add(self, other: "Counts", sign: int = 1) -> None:
        """Add those of another, or with -1 take them away; what is ahead is read last."""
        for outcome, number in other.outcomes.copy().items():
            self.outcomes[outcome] += sign * number
        self.buckets = [ours + sign * theirs for ours, theirs in zip(self.buckets, other.buckets, strict=True)]
        self.waits = [ours + sign * theirs for ours, theirs in zip(self.waits, other.waits, strict=True)]
        self.seconds += sign * other.seconds
        self.claimed += sign * other.claimed

    @property
    def is_empty(self) -> bool:
        """Whether nothing was counted."""
        return not (self.claimed or self.processed or any(self.waits))


class Tally:
    """The counts of one worker."""

    def __init__(self, find: Callable[[str], Named | None]) -> None:
        """`find` gives the registered task of a name or alias."""
        self._find = find
        self._met: dict[Pair, Counts] = {}
        """By queue and name or alias, of registered tasks."""
        self._all: tuple[dict[str, Counts], dict[Pair, Counts]] = ({}, {})
        """By task, of pairs that have gone; and by pair. Replaced together: another thread sees each count once."""
        self._taken: dict[Pair, Counts] = {}
        """Up to where `take` has given them away, of pairs that stay."""

    def of(self, name: str, queue: str) -> Counts:
        """The counts of the task with this name or alias, in this queue; of UNKNOWN if there is none.

        To be used at once: what nothing is held of goes with the next `take`.
        """
        counts = self._met.get((queue, name))
        return self._meet(name, queue) if counts is None else counts

    def _meet(self, name: str, queue: str) -> Counts:
        task, pairs = self._find(name), self._all[1]
        label = UNKNOWN if task is None else task.name
        pair = (queue, label)
        known = pair in pairs or len(pairs) < MOST
        if not known:
            pair = (UNKNOWN, label)
        counts = pairs.get(pair)
        if counts is None:
            counts = pairs[pair] = Counts()
        if known and task is not None:
            self._met[queue, name] = counts
        return counts

    def sample_waits(self, rows: Sequence[Claim]) -> None:
        """Note how long the jobs of a claim have waited: of each stretch one, at random, stands for all of it."""
        stride = -(-len(rows) // SAMPLES) or 1
        shift = random.randrange(stride) if stride > 1 else 0  # noqa: S311 - a sample, guards nothing
        for first in range(0, len(rows), stride):
            weight = min(stride, len(rows) - first)
            row = rows[first + shift % weight]
            self.of(row["task"], row["queue"]).waits[bisect_left(BOUNDS, waited(row))] += weight

    def tasks(self) -> dict[str, Counts]:
        """The counts of each task that this worker has met, over all queues."""
        gone, pairs = self._all
        sums: dict[str, Counts] = {}
        for task, counts in (*gone.items(), *((pair[1], counts) for pair, counts in pairs.copy().items())):
            sums.setdefault(task, Counts()).add(counts)
        return sums

    def take(self) -> dict[Pair, Counts]:
        """What was counted by queue and task since the last time. Pairs of which nothing is held make room."""
        (gone, pairs), fresh = self._all, dict[Pair, Counts]()
        gone, stay, taken = gone.copy(), dict[Pair, Counts](), dict[Pair, Counts]()
        for pair, counts in pairs.items():
            fresh[pair] = since = Counts()
            since.add(counts)
            if (before := self._taken.get(pair)) is not None:
                since.add(before, -1)
            if counts.claimed > counts.processed:
                stay[pair], taken[pair] = counts, Counts()
                taken[pair].add(counts)
                continue
            total = Counts()
            total.add(gone.get(pair[1], total))
            total.add(counts)
            gone[pair[1]] = total
        self._all, self._taken, self._met = (gone, stay), taken, {}
        return {pair: counts for pair, counts in fresh.items() if not counts.is_empty}
