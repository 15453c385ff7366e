"""`app.queues`: look at queues, pause and resume them."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

from jobqueue.base.acting.audit import By, Doer
from jobqueue.base.errors import InvalidOption
from jobqueue.base.moments import Seconds, check_seconds, check_time
from jobqueue.base.names import check_whole
from jobqueue.store import steering
from jobqueue.store.connection.edge import executor_for, own_session
from jobqueue.store.connection.executor import Executor
from jobqueue.store.connection.pool import Database
from jobqueue.store.looking.overview import QueueStats, queue_stats
from jobqueue.tasks.options import queue_named

T = TypeVar("T")

_SOME = (1, 2**53)


def check_limits(
    completed: Seconds | None, other: Seconds | None, most_completed: int | None, most_other: int | None
) -> tuple[float | None, float | None, int | None, int | None]:
    """What a queue may keep of its finished jobs. Raises InvalidOption."""
    return (
        check_seconds("completed", completed),
        check_seconds("other", other),
        check_whole("most_completed", most_completed, _SOME),
        check_whole("most_other", most_other, _SOME),
    )


class Queues:
    """Looks at queues, pauses and resumes them for every worker there is."""

    def __init__(
        self, database: Callable[[], Awaitable[Database]], on: Callable[[object], Executor] | None = None
    ) -> None:
        """`on` gives the executor for a caller's connection; None where nobody has one."""
        self._database = database
        self._on = on

    async def stats(self, *, connection: object | None = None) -> list[QueueStats]:
        """The queues that have unfinished jobs, or were ever paused or told what to keep, by name.

        `keep` is what the last `keep()` of a queue said. Cheap, also with millions of jobs. Large numbers are then
        estimates: `estimated` names the states that are. With `connection` as the caller's transaction sees them.
        """
        async with executor_for(connection, self._on, self._database) as executor:
            return await queue_stats(executor)

    async def pause(
        self, name: str, until: datetime | None = None, *, seconds: Seconds | None = None, by: Doer | None = None
    ) -> datetime | None:
        """Start no more jobs of a queue, in any worker, until it is resumed.

        Or until `until` (timezone-aware) has come, or for so many `seconds`: then it says when that will be. The clock
        is the database's: an `until` that is over there pauses nothing, and ends a pause. What runs goes on. Jobs are
        deferred as ever. `by` is who does it, for the audit. Raises InvalidOption, QueueLocked.
        """
        moment = None if until is None else check_time("until", until)
        if until is not None and seconds is not None:
            raise InvalidOption("seconds", "give either until= or seconds=")
        length = check_seconds("seconds", seconds)
        return await self._run(steering.pause_queue, queue_named("name", name), moment, length, By.of(by))

    async def resume(self, name: str, *, by: Doer | None = None) -> bool:
        """Start jobs of a queue again, at once. False if it was not paused. Raises InvalidOption, QueueLocked."""
        return await self._run(steering.resume_queue, queue_named("name", name), By.of(by))

    async def keep(
        self,
        name: str,
        *,
        completed: Seconds | None = None,
        other: Seconds | None = None,
        most_completed: int | None = None,
        most_other: int | None = None,
        by: Doer | None = None,
    ) -> None:
        """How long this queue's finished jobs stay, and how many of the newest; what is not given, as the settings say.

        So without limits it takes back what was said before; `stats()` has what holds. `other` means the cancelled
        and the dead. An age can only be shorter than the setting, which drops whole days. Workers remove hourly, row by
        row, so the limits are passed for a while. Raises InvalidOption, QueueLocked.
        """
        limits = check_limits(completed, other, most_completed, most_other)
        await self._run(steering.keep_finished, queue_named("name", name), *limits, By.of(by))

    async def _run(self, call: Callable[..., Awaitable[T]], *values: object) -> T:
        async with own_session(self._database) as session:
            return await call(session, *values)
