"""The claims that a worker holds: from the claim's answer until the outcome is written.

The event loop adds and drops; the heartbeat's thread reads. It gets a tuple, made in one step of the interpreter, so no
lock is needed and a blocked loop holds nobody up. What is added and dropped is counted here, and nowhere else.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from jobqueue.base.job import AttemptError
from jobqueue.base.outcome import Dead, Outcome
from jobqueue.store.claims import Claim, moment_of
from jobqueue.tasks.run.attempt import Attempt
from jobqueue.worker.keeping.tally import Counts, Tally

MAX_LOST = 10
"""A claim may be lost so often without a crash, then its job is dead: it would run for nothing again and again."""


@dataclass(slots=True, eq=False)
class Hold:
    """One claimed job. Not known by the job's id: a thread may still run beside the next attempt of the same job."""

    claim: Claim
    lease_ends: float
    """On this process's monotonic clock, counted from before the claim or its renewal was sent."""
    attempt: Attempt | None = None
    task: asyncio.Task[Outcome] | None = None
    suspect: bool = False
    """Its worker has died before while it ran."""
    completed: bool = False
    """Its handler has committed its completion itself: nothing is left to write."""
    lost: bool = False
    """The claim is over, or about to be without a renewal: the run is cancelled, or never begins."""
    unheard: bool = False
    """The claim was lost because the database did not answer, which is not the job's fault."""
    busy: bool = False
    """Its outcome waits for whoever has its row locked: our own beats are not to be the next."""
    gone: bool = False
    """Another has the job: there is nothing to give back."""
    start_by: float | None = None
    """Until when it may begin by what a rate has given it, on the monotonic clock; None: whenever it likes."""
    counts: Counts | None = None
    """Where it is counted."""
    began: float = 0.0
    ran: float | None = None
    """For how many seconds its handler ran; None until that ended, and if it never began."""

    @property
    def id(self) -> UUID:
        """The job's id."""
        id: UUID = self.claim["id"]
        return id

    @property
    def fence(self) -> int:
        """What proves the claim."""
        fence: int = self.claim["fence"]
        return fence

    def begins(self) -> None:
        """Its run begins now."""
        self.began = time.monotonic()

    def ends(self) -> None:
        """Its run has ended now; a handler that was never called has not run."""
        if self.attempt is not None and self.attempt.state.begun:
            self.ran = time.monotonic() - self.began


def lost_too_often(times: int, attempt: int) -> Dead:
    """The end of a job whose claim was lost MAX_LOST times."""
    return Dead("lost", AttemptError("ClaimLost", f"its claim was lost {times} times", attempt=attempt))


def aside_for(claim: Claim) -> float:
    """For how many seconds this job has been put aside, on the database's clock; 0 if it is not."""
    since = claim["aside_since"]
    seconds: float = 0.0 if since is None else (moment_of(claim["claimed_at"]) - moment_of(since)).total_seconds()
    return seconds


class Held:
    """All holds of one worker."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._by_fence: dict[int, Hold] = {}

    def add(self, hold: Hold) -> None:
        """Hold a claim from now on."""
        claim = hold.claim
        hold.counts = counts = self._tally.of(claim["task"], claim["queue"])
        counts.claimed += 1
        self._by_fence[claim["fence"]] = hold

    def came(self, rows: Sequence[Claim]) -> None:
        """A claim has brought these, which are added at once."""
        self._tally.sample_waits(rows)

    def drop(self, hold: Hold, outcome: str) -> None:
        """Its outcome, one of the tally's words, is written, or refused, or there is none. A second time is nothing."""
        if self._by_fence.pop(hold.claim["fence"], None) is not None and hold.counts is not None:
            hold.counts.end(outcome, hold.ran)

    def __contains__(self, hold: Hold) -> bool:
        return hold.fence in self._by_fence

    def snapshot(self) -> tuple[Hold, ...]:
        """All of them now; from any thread."""
        return tuple(self._by_fence.copy().values())  # copy: one step, whatever else runs

    def fences(self) -> list[int]:
        """The fences of all of them now."""
        return list(self._by_fence)
