"""What a test left behind: asyncio tasks, threads, and connections to its database."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.support.patience import scaled
from tests.support.waiting import wait_until

# Threads of pools that live as long as the process or its loop; they hold no work once a test has ended.
POOLED = ("asyncio_", "AnyIO worker thread", "ThreadPoolExecutor", "pytest", "tests-door", "Dummy-", "execnet")
MOMENT = scaled(5.0)
"""Seconds: what takes longer to end was left behind."""


@dataclass(frozen=True)
class Surroundings:
    """The tasks and threads that were there before a test began."""

    tasks: frozenset["asyncio.Task[Any]"]
    threads: frozenset[threading.Thread]

    @classmethod
    def now(cls) -> "Surroundings":
        return cls(frozenset(asyncio.all_tasks()), frozenset(threading.enumerate()))

    def new_tasks(self) -> list["asyncio.Task[Any]"]:
        return sorted(asyncio.all_tasks() - self.tasks - {asyncio.current_task()}, key=lambda task: task.get_name())

    def new_threads(self) -> list[threading.Thread]:
        fresh = [thread for thread in threading.enumerate() if thread not in self.threads]
        return [thread for thread in fresh if not thread.name.startswith(POOLED)]


async def find_leaks(before: Surroundings, backends: Callable[[], list[str]]) -> list[str]:
    """Wait a moment for what is just ending, then name what is still there, one line each."""
    found: list[str] = []
    found += await _remaining(lambda: [f"asyncio task {describe_task(task)}" for task in before.new_tasks()])
    found += await _remaining(lambda: [f"thread {thread.name!r}" for thread in before.new_threads()])
    found += await _remaining(backends)
    return found


async def _remaining(look: Callable[[], list[str]]) -> list[str]:
    try:
        await wait_until(lambda: not look(), "nothing is left", timeout=MOMENT)
    except AssertionError:
        return look()
    return []


def describe_task(task: "asyncio.Task[Any]") -> str:
    coroutine = getattr(task.get_coro(), "__qualname__", "?")
    frames = task.get_stack(limit=1)
    where = f" at {frames[0].f_code.co_filename}:{frames[0].f_lineno}" if frames else ""
    return f"{task.get_name()!r} ({coroutine}{where})"
