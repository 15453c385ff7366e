"""How long the queues are, as the database says: asked at most every few seconds, and never waited for long.

The question goes over the worker's event loop, where its pool lives, from whatever loop the answer is wanted on.
"""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass

from jobqueue.store.faults import DATABASE_ERRORS
from jobqueue.store.overview import QueueStats, queue_stats
from jobqueue.worker.queues import ALL
from jobqueue.worker.supervisor import Work
from jobqueue.worker.tally import UNKNOWN

KEPT = 5.0
"""Seconds for which an answer, and a failure as well, is kept."""
LIMIT = 2.0
"""Seconds that the database gets."""
MOST = 200
"""Queues with a label of their own."""


@dataclass(frozen=True, slots=True)
class Depth:
    """One queue, or all that have no label of their own."""

    scheduled: int = 0
    ready: int = 0
    running: int = 0
    oldest_due: float = 0.0
    """Seconds; 0 if nothing is ready."""


class Depths:
    """The last answer, and the queues that have a label of their own: once had, it is kept."""

    def __init__(self) -> None:
        self._known: dict[str, None] = {}
        self._answer: dict[str, Depth] | None = None
        self._asked_at = float("-inf")
        self._asking = asyncio.Lock()

    async def get(self, work: Work) -> dict[str, Depth] | None:
        """The depth of each queue by label; None if the database does not answer."""
        async with self._asking:
            if time.monotonic() - self._asked_at >= KEPT:
                stats = await _ask(work)
                self._asked_at = time.monotonic()
                self._answer = None if stats is None else self._labelled(stats, work.supervisor.queues.flags)
            return self._answer

    def _labelled(self, stats: Iterable[QueueStats], served: Iterable[str]) -> dict[str, Depth]:
        """Whoever can write to the table could make up any number of queues: only so many become labels."""
        served = set(served)
        self._known |= dict.fromkeys(sorted(served - {ALL}))
        depths = dict.fromkeys(self._known, Depth())
        for each in stats:
            if (ALL in served or each.paused_at is not None) and len(self._known) < MOST:
                self._known[each.queue] = None
            label = each.queue if each.queue in self._known else UNKNOWN
            before = depths.get(label, Depth())
            depths[label] = Depth(  # a queue that is empty by now stands there with zeros
                before.scheduled + each.scheduled,
                before.ready + each.ready,
                before.running + each.running,
                max(before.oldest_due, each.oldest_due or 0.0),
            )
        return depths


async def _ask(work: Work) -> list[QueueStats] | None:
    try:
        return await asyncio.wait_for(asyncio.wrap_future(work.ask(queue_stats)), LIMIT)
    except (*DATABASE_ERRORS, RuntimeError, TimeoutError, asyncio.CancelledError):
        if (task := asyncio.current_task()) is not None and task.cancelling():
            raise  # it is we who are cancelled, not the question
        return None
