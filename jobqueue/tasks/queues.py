"""`app.queues`: look at queues, pause and resume them."""

from collections.abc import Awaitable, Callable
from datetime import datetime

from jobqueue.base.errors import InvalidOption
from jobqueue.store import steering
from jobqueue.store.pool import Database, Session
from jobqueue.store.steering import QueueStatus
from jobqueue.tasks.options import queue_named


class Queues:
    """Looks at queues, pauses and resumes them for every worker there is."""

    def __init__(self, database: Callable[[], Awaitable[Database]]) -> None:
        self._database = database

    async def list(self) -> list[QueueStatus]:
        """The queues that have unfinished jobs or were paused, by name."""
        return await steering.list_queues(await self._database())

    async def pause(self, name: str, until: datetime | None = None) -> None:
        """Start no more jobs of a queue, in any worker, until it is resumed or `until` (timezone-aware) has come.

        What runs goes on. Jobs are deferred as ever. Raises InvalidOption.
        """
        if until is not None and until.tzinfo is None:
            raise InvalidOption("until", "must be timezone-aware, e.g. datetime.now(UTC)")
        await self._run(steering.pause_queue, queue_named("name", name), until)

    async def resume(self, name: str) -> None:
        """Start jobs of a queue again, at once."""
        await self._run(steering.resume_queue, queue_named("name", name))

    async def _run(self, call: Callable[..., Awaitable[None]], *values: object) -> None:
        session = Session(await self._database())
        try:
            await call(session, *values)
        finally:
            await session.close()
