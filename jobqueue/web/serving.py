"""Serves an ASGI app in a thread of its own: its pages are there while a job blocks the worker's event loop.

It leaves signals and logging alone, and its end is bounded: nothing of it delays a drain.
"""

import asyncio
import socket
import threading
from collections.abc import Sequence

from jobqueue.base.errors import ConfigurationError

try:
    import uvicorn
    from starlette.types import ASGIApp
except ModuleNotFoundError as missing:
    raise ConfigurationError(f'web: {missing.name} is not installed; pip install "jobqueue[web]"') from None

_GRACE = 1
_STOP_LIMIT = 0.5


class Serving:
    """A server that runs from `start` to `stop`."""

    def __init__(self, app: ASGIApp, sockets: Sequence[socket.socket]) -> None:
        """`sockets` listen already: what can go wrong with an address has gone wrong. They are closed at the end."""
        self._sockets = list(sockets)
        self._server = uvicorn.Server(
            _Config(
                app, lifespan="off", interface="asgi3", http="h11", ws="none", access_log=False, server_header=False,
                timeout_graceful_shutdown=_GRACE,
            )
        )  # fmt: skip
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


class _Config(uvicorn.Config):
    def configure_logging(self) -> None:
        """Not ours to set up, nor uvicorn's."""
