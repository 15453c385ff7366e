"""What every loop does when the database fails it: say so, not too often, and wait, longer each time."""

import anyio

from jobqueue.base.log import Log
from jobqueue.base.service import Patience, Seldom
from jobqueue.store.connection.faults import Fault, brief, classify

_AWAY = (Fault.UNKNOWN, Fault.AWAY, Fault.CONFLICT, Fault.READ_ONLY)


class Outage:
    """One loop's troubles with the database."""

    def __init__(self, doing: str, log: Log, *, cap: float = 2.0) -> None:
        """`doing` names the loop in the log; `cap` is the longest wait in seconds."""
        self._doing = doing
        self._log = log
        self._patience = Patience(cap=cap)
        self._seldom = Seldom()
        self._unreachable = False

    async def wait(self, error: BaseException) -> None:
        """Deal with one failure: its line in the log, at most one a second, and the wait before the next try."""
        await anyio.sleep(self.met(error))

    def met(self, error: BaseException) -> float:
        """As `wait`, for those who wait by themselves: gives the seconds."""
        delay, away = self._patience.next(), classify(error) in _AWAY
        self._unreachable = self._unreachable or away
        if self._seldom():
            facts = {"doing": self._doing, "error": brief(error), "retry_in": round(delay, 2)}
            if away:
                self._log.warning("database.unreachable", **facts)
            else:
                self._log.error("loop.failed", **facts)
        return delay

    def over(self) -> None:
        """Call after each success."""
        self._patience.reset()
        if self._unreachable:
            self._unreachable = False
            self._log.info("database.back", doing=self._doing)
