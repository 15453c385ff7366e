"""Jobs that wait for other jobs, or for bundles, hold their slots meanwhile.

Once all slots are held so, and what they wait for wants a slot as well, this worker stands still, for good if no other
one takes those: that is told, and shown for as long as it lasts.
"""

import time
from collections import Counter
from uuid import UUID

import anyio
from anyio.abc import TaskStatus

from jobqueue.base.job import WorkerId
from jobqueue.base.log import get_logger
from jobqueue.base.looking.stuck import WAITS
from jobqueue.store.connection.faults import DATABASE_ERRORS
from jobqueue.store.connection.outage import Outage
from jobqueue.store.connection.pool import Database
from jobqueue.store.looking.lookup import unclaimed
from jobqueue.worker.keeping.board import Board, Stuck
from jobqueue.worker.slots.slots import Slots

_LOOK = 1.0
_PATIENCE = 5
"""Looks in a row that find the same jobs waiting before it is told; after so many more it is asked again."""
_TOLD = 5
"""Names of tasks in the line."""


class StarvingFinder:
    """Looks once a second."""

    def __init__(self, database: Database, worker: WorkerId, slots: Slots, board: Board) -> None:
        """`board` shows a standstill."""
        self._database = database
        self._slots = slots
        self._board = board
        self._told: frozenset[UUID] = frozenset()
        self._log = get_logger(__name__).bind(worker=str(worker))
        self._outage = Outage("starving", self._log, cap=60.0)

    @property
    def count(self) -> int:
        """How many jobs run here that wait for others now."""
        return sum(bool(awaits) for awaits in self._awaits())

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Look until cancelled."""
        task_status.started()
        try:
            await self._look_on()
        finally:
            self._board.waits(None)

    async def _look_on(self) -> None:
        seen: frozenset[UUID] = frozenset()
        looks, since = 0, 0.0
        while True:
            await anyio.sleep(_LOOK)
            awaited = self._awaited_by_all()
            if awaited and awaited == seen:
                looks += 1
            else:
                seen, looks, since = awaited, 0, time.monotonic()
                self._board.waits(None)
            if looks and looks % _PATIENCE == 0:
                try:
                    await self._ask(awaited, since)
                    self._outage.over()
                except DATABASE_ERRORS as error:
                    self._board.waits(None)  # nobody looks during the pause
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

    async def _ask(self, awaited: frozenset[UUID], since: float) -> None:
        """Whether what all wait for wants a slot, or runs elsewhere: it may begin and end while they wait."""
        holds = sorted(self._slots.running, key=lambda hold: str(hold.id))
        waiting = await unclaimed(self._database, sorted(awaited))
        if not waiting or not holds:
            self._board.waits(None)
            return
        self._board.waits(Stuck(str(holds[0].id), str(holds[0].claim["task"]), WAITS, "", since))
        if awaited != self._told:
            self._told = awaited
            tasks = Counter(str(hold.claim["task"]) for hold in holds)
            self._log.warning(
                "worker.starved",
                slots=tasks.total(),
                tasks=[task for task, _ in tasks.most_common(_TOLD)],
                awaited=[task for task, _ in Counter(waiting.values()).most_common(_TOLD)],
            )
