"""What every loop does when the database fails it: say so, not too often, and wait, longer each time."""

import anyio

from jobqueue.base.log import Log
from jobqueue.base.service import Patience, Seldom
from jobqueue.store.faults import Fault, brief, classify


class Outage:
    """One loop's troubles with the database."""

    def __init__(self, doing: str, log: Log, *, cap: float = 2.0) -> None:
        """`doing` names the loop in the log; `cap` is the longest wait in seconds."""
        self._doing = doing
        self._log = log
        self._patience = Patience(cap=cap)
        self._seldom = Seldom()

    async def wait(self, error: BaseException) -> None:
        """Deal with one failure: its line in the log, at most one a second, and the wait before the next try."""
        await anyio.sleep(self.met(error))

    def met(self, error: BaseException) -> float:
        """As `wait`, for those who wait by themselves: gives the seconds."""
        delay, fault = self._patience.next(), classify(error)
        if self._seldom():
            say = self._log.error if fault in (Fault.OURS, Fault.SCHEMA) else self._log.warning
            say("database.unreachable", doing=self._doing, error=brief(error), retry_in=round(delay, 2))
        return delay

    def over(self) -> None:
        """Call after each success."""
        if self._patience.reset():
            self._log.info("database.back", doing=self._doing)
