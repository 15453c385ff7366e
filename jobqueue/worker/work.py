"""A running worker, seen from its caller's side: the caller waits, and turns whatever cancels it into a stop.

No worker code runs in the caller's task: a native cancel or `asyncio.timeout` there would cut through anyio's shields
and groups.
"""

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from anyio.abc import TaskStatus

from jobqueue.base.errors import ConfigurationError
from jobqueue.base.moments import Seconds, check_delay, plain_seconds
from jobqueue.base.service import outlast
from jobqueue.base.settings import Settings
from jobqueue.store.connection.pool import Database
from jobqueue.store.dialing.dial import CLOSE_LIMIT
from jobqueue.worker.snapshot import Snapshot

if TYPE_CHECKING:
    from jobqueue.worker.supervisor import Supervisor

T = TypeVar("T")


class Work:
    """A running supervisor, seen from the caller's side."""

    def __init__(self, supervisor: "Supervisor") -> None:
        self._supervisor = supervisor
        self._task: asyncio.Task[None] | None = None

    @property
    def id(self) -> UUID:
        """The worker's identity, new at every start."""
        return self._supervisor.id

    @property
    def clean(self) -> bool:
        """True unless a handler outlived the stop or an outcome could not be written."""
        return self._supervisor.drain.clean

    @property
    def cut_off(self) -> int:
        """How many jobs were cancelled because the time of the stop was over."""
        return self._supervisor.drain.cut_off

    @property
    def has_ended(self) -> bool:
        """True once nothing of it runs any more."""
        return self._task is not None and self._task.done()

    @property
    def supervisor(self) -> "Supervisor":
        """The worker itself, for other rooms of this package."""
        return self._supervisor

    def snapshot(self) -> Snapshot:
        """The worker now."""
        return self._supervisor.snapshot()

    def ask(self, question: Callable[[Database], Coroutine[Any, Any, T]]) -> "Future[T]":
        """Ask the worker's database, on the worker's event loop, from any thread. Raises RuntimeError after its end."""
        asking = question(self._supervisor.database)
        try:
            if self._task is None:
                raise RuntimeError("the worker has not started")
            return asyncio.run_coroutine_threadsafe(asking, self._task.get_loop())
        except RuntimeError:
            asking.close()
            raise

    def when_hung(self, then: Callable[[], None]) -> None:
        """Call this, in another thread, once a job has blocked the event loop for so long that the claims are lost."""
        self._supervisor.heart.when_hung = then

    def stop(self, limit: Seconds) -> None:
        """Begin an orderly stop that gives running jobs `limit` seconds (or timedelta); returns at once."""
        self._supervisor.stop(check_delay("limit", limit))

    async def drain(self, timeout: Seconds | None = None) -> None:
        """Stop claiming, let running jobs end within `timeout` (default: the setting), cancel the rest, return.

        `timeout` is seconds or a timedelta. Raises TimeoutError, after everything is cleaned up, if jobs had to be cut
        off. On a worker that has ended already it does nothing.
        """
        if self._task is not None and self._task.done():
            return
        limit = self._supervisor.settings.drain_timeout if timeout is None else check_delay("timeout", timeout)
        self.stop(limit)
        await self.ended()
        if not self.clean:
            last = self._supervisor.drain.final_writes
            raise TimeoutError(f"jobs were still running after a drain of {limit:g} s and the final {last:g} s")
        if self.cut_off:
            raise TimeoutError(
                f"{self.cut_off} job(s) still ran after a drain of {limit:g} s; they were cut off and given back"
            )

    async def start(self) -> None:
        """Return once the worker listens and claims. Raises what kept it from starting, and on a second call."""
        if self._task is not None:
            raise ConfigurationError("worker: this one was started already; make another with app.worker()")
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.get_running_loop().create_task(
            self._supervisor.run(task_status=_Started(started)), context=contextvars.Context()
        )
        try:
            await asyncio.wait({self._task, started}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self.stop_now()
            raise
        if self._task.done():
            self._task.result()

    async def ended(self) -> None:
        """Wait for the worker's end. Cancelled: stops at once (running jobs are refunded), then raises on."""
        assert self._task is not None  # noqa: S101 - start() comes first by construction
        try:
            await asyncio.wait({self._task})
        except asyncio.CancelledError:
            await self.stop_now()
            raise
        self._task.result()

    async def stop_now(self) -> None:
        """Cancel running jobs, write what can be written, and return within the hard limit whatever cancels us."""
        self._supervisor.stop(0)
        if self._task is not None:
            await outlast(self._task, self._supervisor.drain.final_writes + 2 * CLOSE_LIMIT)


class _Started(TaskStatus[None]):
    def __init__(self, future: asyncio.Future[None]) -> None:
        self._future = future

    def started(self, value: None = None) -> None:
        if not self._future.done():
            self._future.set_result(None)


def tuned(settings: Settings, concurrency: int | None, drain_timeout: Seconds | None) -> Settings:
    """The settings with what a call has overridden, validated again."""
    if concurrency is not None:
        settings = replace(settings, concurrency=concurrency)
    if drain_timeout is not None:
        settings = replace(settings, drain_timeout=plain_seconds("drain_timeout", drain_timeout))
    return settings
