"""Handlers that were asked to end and do not: they are named, and a spare slot is opened for each.

Nothing can end them: they swallow their cancellation, or run in a thread. Their slot stays taken until they return, so
without a spare one a few of them would bring a worker to a standstill.
"""

import time

import anyio
from anyio.abc import TaskStatus

from jobqueue.base.log import get_logger, job_facts
from jobqueue.base.looking.stuck import ASKED
from jobqueue.tasks.run.attempt import Attempt
from jobqueue.worker.keeping.board import Board, Stuck
from jobqueue.worker.keeping.holds import Hold
from jobqueue.worker.keeping.stacks import stack_of_task, stack_of_thread
from jobqueue.worker.slots.batch import Member, batch_of
from jobqueue.worker.slots.slots import Slots

_LOOK = 1.0
_PATIENCE = 5.0
"""Seconds that a handler gets to clean up before it counts as stuck."""


class StuckFinder:
    """Looks once a second."""

    def __init__(self, slots: Slots, board: Board) -> None:
        """`board` shows who is stuck."""
        self._slots = slots
        self._board = board
        self._known: dict[Hold, Stuck | None] = {}
        self._log = get_logger(__name__)

    @property
    def count(self) -> int:
        """How many there were at the last look."""
        return len(self._known)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Look until cancelled."""
        task_status.started()
        while True:
            await anyio.sleep(_LOOK)
            stuck = {hold for hold in self._slots.running if _is_stuck(hold)}
            known = {hold: shown for hold, shown in self._known.items() if hold in stuck}
            for hold in stuck - known.keys():
                known[hold] = self._say(hold)
            self._known = known
            self._board.asked([shown for shown in known.values() if shown is not None])
            self._slots.open_spare(len(stuck))

    def _say(self, hold: Hold) -> Stuck | None:
        attempt = hold.attempt
        if attempt is None or attempt.state.why is None:
            return None
        batch = batch_of(attempt)
        runner = hold.task if batch is None else batch.runner
        thread = (attempt.state.thread if attempt.state.in_thread else None) if batch is None else batch.thread
        stack = stack_of_thread(thread) if thread is not None else runner and stack_of_task(runner)
        self._log.warning("job.stuck", why=attempt.state.why.name.lower(), stack=stack, **job_facts(hold.claim))
        return Stuck(str(hold.id), hold.claim["task"], ASKED, stack or "", _asked_at(attempt) or time.monotonic())


def _is_stuck(hold: Hold) -> bool:
    asked_at = None if hold.attempt is None else _asked_at(hold.attempt)
    return asked_at is not None and time.monotonic() - asked_at > _PATIENCE


def _asked_at(attempt: Attempt) -> float | None:
    return attempt.task.asked_at(attempt) if isinstance(attempt.task, Member) else attempt.state.asked_at
