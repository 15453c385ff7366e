"""A worker's stderr that never holds up or ends its work: what cannot be written is dropped, and how much is told.

A full disk refuses each line, and a reader that stands still blocks whoever writes. So a thread writes, from a line of
bounded length.
"""

import atexit
import os
import sys
import threading
from collections import deque
from contextlib import suppress
from typing import Any, TextIO

_MOST = 10_000
"""Pieces of text that may wait to be written; about as many log lines."""
_LAST = 1.0
"""Seconds that the end of the process waits for the last of them."""


class Lossy:
    """In place of `sys.stderr`. Whatever else is asked of it the real one answers."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._number = stream.fileno()
        self._waiting: deque[str] = deque()
        self._dropped = 0
        self._arrived = threading.Condition()
        self._writing = False
        self._alive = True
        threading.Thread(target=self._write_on, name="jobqueue stderr", daemon=True).start()
        os.register_at_fork(after_in_child=self._die)
        atexit.register(self.flush_last)

    def write(self, text: str) -> int:
        """Take over a piece of text. Never waits, never fails."""
        if not self._alive:
            with suppress(OSError, ValueError):
                return self._stream.write(text)
            return len(text)
        with self._arrived:
            if len(self._waiting) < _MOST:
                self._waiting.append(text)
                self._arrived.notify()
            else:
                self._dropped += 1
        return len(text)

    def flush(self) -> None:
        """Nothing: the thread writes as soon as it can."""

    def flush_last(self) -> None:
        """Wait a moment for what has been said; called at the end of the process."""
        with self._arrived:
            self._arrived.wait_for(lambda: not self._waiting and not self._writing, _LAST)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _write_on(self) -> None:
        while True:
            with self._arrived:
                self._arrived.wait_for(lambda: self._waiting or self._dropped)
                text, self._writing = self._next(), True
            written = self._write_out(text)
            with self._arrived:
                self._dropped += not written
                self._writing = False
                self._arrived.notify_all()
                if not written:  # a full disk: not again for every line
                    self._arrived.wait(_LAST)

    def _next(self) -> str:
        if self._waiting:
            return self._waiting.popleft()
        dropped, self._dropped = self._dropped, 0
        return f"jobqueue: {dropped} line(s) for this log could not be written, and were dropped\n"

    def _write_out(self, text: str) -> bool:
        left = text.encode(self._stream.encoding or "utf-8", "backslashreplace")
        try:
            while left:
                left = left[os.write(self._number, left) :]
        except OSError:
            return False
        return True

    def _die(self) -> None:
        """In a forked child there is no thread: it writes by itself."""
        self._alive = False


def let_stderr_be_lossy() -> None:
    """From now on stderr decides nothing any more."""
    with suppress(OSError, ValueError, AttributeError):  # there is none, or it is somebody's own
        sys.stderr.flush()
        lossy: Any = Lossy(sys.stderr)
        sys.stderr = lossy
