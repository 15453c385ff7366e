"""What signals do to a process that is not at work yet, or no more.

While the command line itself is still being imported, which may take a second or more; and in a worker's last moments,
when the interpreter has taken the handlers back: a signal would end it then, and its exit code with it. Imports nothing
that takes time. `worker` sets its own handlers before the user's module is imported.
"""

import atexit
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType

STOPPED_EARLY = "stopped before the worker had started"
STOPS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that ask a worker to stop. A closed terminal sends SIGHUP."""
LOADING = 50_021
"""The garbage collector's threshold at first. What is imported stays: to look at it again and again is a tenth.

A number that no user would set: one of theirs stands."""


def answer_signals(words: Sequence[str]) -> None:
    """From now on end as `--help` says: a worker that is asked to stop has not started and lost nothing."""
    if words[:1] == ["worker"]:
        listen_to_stops(_stop_worker)
        atexit.register(listen_to_stops, signal.SIG_IGN)  # the first to be registered is the last to be called
    else:
        signal.signal(signal.SIGINT, _interrupt)


def answered() -> None:
    """All is imported: an interrupted verb cleans up by itself from here on."""
    if signal.getsignal(signal.SIGINT) is _interrupt:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def listen_to_stops(handler: Callable[[int, FrameType | None], object] | signal.Handlers) -> None:
    """Set this handler for all of them, but not for a SIGHUP that is to be ignored: so says `nohup`."""
    for number in STOPS:
        if number.name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _stop_worker(number: int, frame: FrameType | None) -> None:
    if not any(word.startswith("--child") for word in sys.argv):  # a parent has said it for all
        os.write(2, f"jobqueue: {STOPPED_EARLY}\n".encode())
    os._exit(0)


def _interrupt(number: int, frame: FrameType | None) -> None:
    os._exit(130)
