"""How long the queues are, as the database says: asked at most every few seconds, and never waited for long.

The question goes over the worker's event loop, where its pool lives, from whatever loop the answer is wanted on.
A queue has a label of its own if this worker's code or command line names it; whoever can write to the table could make
up any number of others.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, cast

from jobqueue.base.flows.webhook import QUEUE
from jobqueue.store.connection.faults import DATABASE_ERRORS
from jobqueue.store.connection.pool import Database
from jobqueue.store.flows.events import events_lag
from jobqueue.store.flows.limits import note_age, waiting_at_limits
from jobqueue.store.flows.schedules import schedule_lag
from jobqueue.store.looking.overview import QueueStats, queue_stats, waiting_flows
from jobqueue.tasks.registry import Registry
from jobqueue.worker.claiming.queues import ALL
from jobqueue.worker.keeping.tally import UNKNOWN
from jobqueue.worker.work import Work

T = TypeVar("T")

KEPT = 5.0
"""Seconds for which an answer, and a failure as well, is kept."""
MOST_WAITING = 10_000
"""Of the jobs that wait at a limit so many are counted."""
LIMIT = 2.0
"""Seconds that the database gets."""


@dataclass(frozen=True, slots=True)
class Depth:
    """One queue, or all that have no label of their own."""

    scheduled: int = 0
    ready: int = 0
    running: int = 0
    oldest_due: float = 0.0
    """Seconds; 0 if nothing is ready."""
    suspects: int = 0
    unserved: int = 0
    """Of the ready jobs, those in queues from which no living worker takes any."""
    blocked: int = 0


@dataclass(frozen=True, slots=True)
class Flows:
    """What is under way beside the jobs; each None if the database does not answer."""

    events_lag: float | None = None
    """For how many seconds readers of the log wait for who is writing it."""
    deliveries: int | None = None
    """How many deliveries of webhooks wait or run."""
    bundles: int | None = None
    """How many have not ended, up to 10 000."""
    facts: int | None = None
    """How much is to be added up, up to 10 000."""
    schedule_lag: float | None = None
    """For how many seconds the schedule has been due that is the latest; 0 if none is."""
    limits: Mapping[str, int] | None = None
    """How many wait at each limit, up to 10 000."""
    note_age: float | None = None
    """For how many seconds a gate has wanted a look."""


class Depths:
    """The last answer."""

    def __init__(self) -> None:
        self.flows = Flows()
        self._answer: list[QueueStats] | None = None
        self._asked_at = float("-inf")
        self._asking = asyncio.Lock()

    async def get(self, work: Work) -> dict[str, Depth] | None:
        """The depth of each queue by label; None if the database does not answer."""
        async with self._asking:
            if time.monotonic() - self._asked_at >= KEPT:
                self._answer = await _ask(work, queue_stats)
                self.flows = Flows() if self._answer is None else await _flows(work, self._answer)
                self._asked_at = time.monotonic()
            return None if self._answer is None else labelled(self._answer, named(work))


def named(work: Work) -> set[str]:
    """The queues that this worker was told to serve, and those of its tasks as they are registered now."""
    registered = cast(Registry, work.supervisor.tasks)  # an App gives its workers its registry
    return {task.queue for task in registered} | set(work.supervisor.queues.flags) - {ALL}


def labelled(stats: Iterable[QueueStats], known: Iterable[str]) -> dict[str, Depth]:
    """The depths of these queues, zeros if they are empty, and of all others together."""
    depths = dict.fromkeys(known, Depth())
    for each in stats:
        label = each.queue if each.queue in depths else UNKNOWN
        before = depths.get(label, Depth())
        depths[label] = Depth(
            before.scheduled + each.scheduled,
            before.ready + each.ready,
            before.running + each.running,
            max(before.oldest_due, each.oldest_due or 0.0),
            before.suspects + each.suspects,
            before.unserved + (0 if each.served else each.ready),
            before.blocked + each.blocked,
        )
    return depths


async def _flows(work: Work, stats: Iterable[QueueStats]) -> Flows:
    bundles, facts = await _ask(work, waiting_flows) or (None, None)
    waiting = await _ask(work, partial(waiting_at_limits, most=MOST_WAITING))
    lag, age = await _ask(work, events_lag), await _ask(work, note_age)
    return Flows(lag, _deliveries(stats), bundles, facts, await _ask(work, schedule_lag), waiting, age)


def _deliveries(stats: Iterable[QueueStats]) -> int:
    return sum(each.scheduled + each.ready + each.running for each in stats if each.queue == QUEUE)


async def _ask(work: Work, question: Callable[[Database], Coroutine[Any, Any, T]]) -> T | None:
    try:
        return await asyncio.wait_for(asyncio.wrap_future(work.ask(question)), LIMIT)
    except (*DATABASE_ERRORS, RuntimeError, TimeoutError, asyncio.CancelledError):
        if (task := asyncio.current_task()) is not None and task.cancelling():
            raise  # it is we who are cancelled, not the question
        return None
