"""Serves an ASGI app: the pages of a worker in a thread of their own, the dashboard as all that a process does.

Logging is left alone. The end is bounded: in a thread it delays no drain, and takes no signals.
"""

import asyncio
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from jobqueue.base.errors import ConfigurationError

try:
    import uvicorn
    from starlette.types import ASGIApp
except ModuleNotFoundError as missing:
    raise ConfigurationError(f'web: {missing.name} is not installed; pip install "jobqueue[web]"') from None

_GRACE = 1
_STOP_LIMIT = 0.5
_LAST_ANSWERS = 3
"""Seconds that answers under way get when the process is to stop. A stream ends by itself in half a second."""


class Serving:
    """A server that runs from `start` to `stop`."""

    def __init__(self, app: ASGIApp, sockets: Sequence[socket.socket]) -> None:
        """`sockets` listen already: what can go wrong with an address has gone wrong. They are closed at the end."""
        self._sockets = list(sockets)
        self._server = uvicorn.Server(_config(app, _GRACE))
        self._thread = threading.Thread(target=self._run, name="jobqueue http", daemon=True)

    def start(self) -> None:
        """Serve from now on."""
        self._thread.start()

    def stop(self) -> None:
        """End it; from any thread. Waits half a second at most: an answer that is under way may be cut off."""
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(_STOP_LIMIT)

    def _run(self) -> None:
        try:
            asyncio.run(self._server.serve(sockets=self._sockets))  # outside of the main thread it touches no signals
        finally:
            for each in self._sockets:
                each.close()


async def serve(app: ASGIApp, sockets: Sequence[socket.socket], stops: Sequence[int]) -> None:
    """Serve until one of these signals comes; a second one waits for no answer. Only in the main thread.

    Addresses are those of the peers: what a proxy says in a header is not believed.
    """
    await _Front(_config(app, _LAST_ANSWERS), stops).serve(sockets=list(sockets))


class _Front(uvicorn.Server):
    """Stops at signals, and does not end the process with them, as uvicorn would: there is something to close yet."""

    def __init__(self, config: uvicorn.Config, stops: Sequence[int]) -> None:
        super().__init__(config)
        self._stops = stops

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Until the process ends: whoever sends another is not to end it in the midst of that."""
        for number in self._stops:
            signal.signal(number, self.handle_exit)
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal has come. Streams look whether the handler of SIGTERM is told to stop: `sse.is_stopping`."""
        self.force_exit = self.should_exit
        self.should_exit = True


def _config(app: ASGIApp, grace: int) -> uvicorn.Config:
    return _Config(
        app, lifespan="off", interface="asgi3", http="h11", ws="none", access_log=False, server_header=False,
        proxy_headers=False, timeout_graceful_shutdown=grace,
    )  # fmt: skip


class _Config(uvicorn.Config):
    def configure_logging(self) -> None:
        """Not ours to set up, nor uvicorn's."""
