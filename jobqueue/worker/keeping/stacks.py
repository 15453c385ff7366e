"""Where a task or a thread is: files, lines and functions, never a value. From the task's own code inwards."""

import asyncio
import sys
import traceback
from pathlib import Path
from types import CodeType

from jobqueue.tasks.run import attempt

_FRAMES = 12
_RUNNING = str(Path(attempt.__file__).parent)
"""Where the frames lie that stand above the task's own."""


def stack_of_thread(ident: int) -> str:
    """Where a thread is now."""
    frame = sys._current_frames().get(ident)  # the one way to see another thread's frames
    found = traceback.extract_stack(frame) if frame is not None else []
    return _told([(place.filename, place.lineno or 0, place.name) for place in found])


def stack_of_task(task: "asyncio.Task[object]") -> str:
    """Where a task waits: it, what it awaits, what that awaits, and so on."""
    places: list[tuple[str, int, str]] = []
    waiting: object = task.get_coro()
    while waiting is not None:
        frame = getattr(waiting, "cr_frame", None) or getattr(waiting, "gi_frame", None)
        if frame is None:
            break
        code: CodeType = frame.f_code
        places.append((code.co_filename, frame.f_lineno, code.co_name))
        waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "gi_yieldfrom", None)
    return _told(places)


def _told(places: list[tuple[str, int, str]]) -> str:
    ours = [number for number, place in enumerate(places) if place[0].startswith(_RUNNING)]
    own = places[ours[-1] + 1 :] if ours else places
    return " > ".join(f"{file}:{line} {name}" for file, line, name in own[-_FRAMES:])
