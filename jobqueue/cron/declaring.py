"""Stores what the code declares, and says again and again that it still does.

The last that declares a name wins: while two versions of the code run, all of them fire what the row says. One that no
worker declares any more is not fired after five minutes, and removed after a week.
"""

import time
from collections.abc import Callable, Sequence

from jobqueue.base.errors import JobQueueError
from jobqueue.base.log import get_logger
from jobqueue.cron.putting import put
from jobqueue.cron.template import new_schedule
from jobqueue.store.connection.faults import DATABASE_ERRORS
from jobqueue.store.connection.outage import Outage
from jobqueue.store.connection.session import Session
from jobqueue.store.flows import schedules
from jobqueue.store.flows.schedules import NewSchedule
from jobqueue.store.locks import wait_briefly
from jobqueue.tasks.registry import Declared

_EVERY = 60.0
"""Seconds between two times of saying so."""
_FORGOTTEN = 7 * 86_400.0

log = get_logger(__name__)


class Declarer:
    """What one worker does about the schedules of its code."""

    def __init__(self, session: Session, declared: Callable[[], Sequence[Declared]]) -> None:
        self._session = session
        self._declared = declared
        self._known: Sequence[Declared] = ()
        self._names: set[str] = set()
        """Those of ours that are stored as ours."""
        self._said_at = float("-inf")
        self._again_at = float("-inf")
        self._outage = Outage("declare schedules", log)

    async def look(self) -> None:
        """Store what is new in the code; once a minute say that all of it is still there.

        What goes wrong is tried again later: it keeps no other schedule from being fired.
        """
        if time.monotonic() < self._again_at:
            return
        try:
            await self._look()
        except DATABASE_ERRORS as error:
            self._again_at = time.monotonic() + self._outage.met(error)
        else:
            self._outage.over()

    async def _look(self) -> None:
        declared = self._declared()
        if declared != self._known:
            await self._put(declared)
            self._known = declared
        if time.monotonic() - self._said_at < _EVERY:
            return
        there = await schedules.see(self._session, sorted(self._names)) if self._names else set()
        if self._names - there:
            await self._put(declared)
        for name in await schedules.forget(self._session, _FORGOTTEN):
            log.info("schedule.forgotten", schedule=name)
        self._said_at = time.monotonic()

    async def _put(self, declared: Sequence[Declared]) -> None:
        new = [schedule for each in declared if (schedule := _written(each)) is not None]
        if new:
            async with self._session.transaction():
                await wait_briefly(self._session)
                stored = await put(self._session, "code", new)
            self._names = set(stored)
            for name in sorted({schedule.name for schedule in new} - self._names):
                log.error("schedule.name_taken", schedule=name)
            for name in sorted(name for name, changed in stored.items() if changed):
                log.info("schedule.declared", schedule=name)


def _written(declared: Declared) -> NewSchedule | None:
    try:
        return new_schedule(declared.name, declared.task.job(), declared.timing)
    except JobQueueError as error:
        log.error("schedule.broken", schedule=declared.name, error=type(error).__name__)
        return None
