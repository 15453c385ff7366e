"""Runs a part of the worker beside its event loop: in a thread with a loop of its own, which no job can block."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine

import anyio

_LIMIT = 6.0
"""Seconds that the thread gets to end; it is a daemon, so nothing waits for it any longer."""


async def run_beside(work: Callable[[], Coroutine[None, None, None]], name: str) -> None:
    """Run `work` in a thread until it ends or this call is cancelled, which cancels it there. Raises what it raises."""
    thread = _Beside(work)
    threading.Thread(target=thread.body, name=name, daemon=True).start()
    try:
        await asyncio.shield(thread.ended)
    finally:
        thread.cancel()
        with anyio.move_on_after(_LIMIT, shield=True):
            await asyncio.wait({thread.ended})


class _Beside:
    def __init__(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        self._work = work
        self._outer = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._outer.create_future()
        self.ended.add_done_callback(lambda ended: ended.exception())  # looked at, also if nobody waits any more
        self._inner: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._cancelled = threading.Event()

    def body(self) -> None:
        """The thread."""
        error: BaseException | None = None
        try:
            asyncio.run(self._main())
        except asyncio.CancelledError:
            if not self._cancelled.is_set():
                error = RuntimeError("cancelled by nobody who may")
        except BaseException as broken:
            error = broken
        with contextlib.suppress(RuntimeError):  # the worker's loop is closed: nobody waits for us
            self._outer.call_soon_threadsafe(self._end, error)

    async def _main(self) -> None:
        self._task, self._inner = asyncio.current_task(), asyncio.get_running_loop()
        if not self._cancelled.is_set():  # set before it looks for the loop: one of the two sees the other
            await self._work()

    def cancel(self) -> None:
        self._cancelled.set()
        if self._inner is not None and self._task is not None:
            with contextlib.suppress(RuntimeError):  # it has ended
                self._inner.call_soon_threadsafe(self._task.cancel)

    def _end(self, error: BaseException | None) -> None:
        if self.ended.done():
            return
        if error is None:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(error)
