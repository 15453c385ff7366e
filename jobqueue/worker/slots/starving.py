"""Jobs that wait for other jobs, or for bundles, hold their slots meanwhile.

Once all slots are held so, and what they wait for wants a slot as well, this worker stands still, for good if no other
one takes those: that is told.
"""

from collections import Counter
from uuid import UUID

import anyio
from anyio.abc import TaskStatus

from jobqueue.base.job import WorkerId
from jobqueue.base.log import get_logger
from jobqueue.store.connection.faults import DATABASE_ERRORS
from jobqueue.store.connection.outage import Outage
from jobqueue.store.connection.pool import Database
from jobqueue.store.looking.lookup import unclaimed
from jobqueue.worker.slots.slots import Slots

_LOOK = 1.0
_PATIENCE = 5
"""Looks in a row that find the same jobs waiting before it is told."""
_TOLD = 5
"""Names of tasks in the line."""


class StarvingFinder:
    """Looks once a second."""

    def __init__(self, database: Database, worker: WorkerId, slots: Slots) -> None:
        self._database = database
        self._slots = slots
        self._log = get_logger(__name__).bind(worker=str(worker))
        self._outage = Outage("starving", self._log, cap=60.0)

    @property
    def count(self) -> int:
        """How many jobs run here that wait for others now."""
        return sum(bool(awaits) for awaits in self._awaits())

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Look until cancelled."""
        task_status.started()
        seen: frozenset[UUID] = frozenset()
        looks = 0
        while True:
            await anyio.sleep(_LOOK)
            awaited = self._awaited_by_all()
            looks = looks + 1 if awaited and awaited == seen else 0
            seen = awaited
            if looks == _PATIENCE:
                try:
                    await self._tell(awaited)
                    self._outage.over()
                except DATABASE_ERRORS as error:
                    await self._outage.wait(error)
                    looks -= 1

    def _awaits(self) -> list[tuple[UUID, ...]]:
        attempts = [hold.attempt for hold in list(self._slots.running)]  # in one step: /metrics asks in another thread
        runs = [None if attempt is None else attempt.context for attempt in attempts]
        return [() if context is None else context.awaits for context in runs]

    def _awaited_by_all(self) -> frozenset[UUID]:
        """What the jobs here wait for, if every slot has one that waits."""
        awaits = self._awaits()
        if self._slots.unused or not awaits or not all(awaits):
            return frozenset()
        return frozenset(id for ids in awaits for id in ids)

    async def _tell(self, awaited: frozenset[UUID]) -> None:
        waiting = await unclaimed(self._database, sorted(awaited))
        if waiting:
            tasks = Counter(str(hold.claim["task"]) for hold in self._slots.running)
            self._log.warning(
                "worker.starved",
                slots=tasks.total(),
                tasks=[task for task, _ in tasks.most_common(_TOLD)],
                awaited=[task for task, _ in Counter(waiting.values()).most_common(_TOLD)],
            )
