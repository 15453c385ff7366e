"""What running jobs wait to be told: asked by their handlers, answered for many of them at once."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from jobqueue.base.errors import ClaimLost
from jobqueue.worker.keeping.holds import Held, Hold

K = TypeVar("K")
A = TypeVar("A")


class Questions(Generic[K, A]):
    """Questions of one kind, by their keys. Whoever is cut off while he waits asks no more."""

    def __init__(self, holds: Held, ring: Callable[[], None]) -> None:
        """`ring` is called for each question, so that somebody answers it."""
        self._holds = holds
        self._ring = ring
        self._open: dict[K, list[asyncio.Future[A]]] = {}

    async def ask(self, key: K, hold: Hold) -> A:
        """The answer. Several may ask for one. Raises ClaimLost, and what the question is failed with."""
        if hold not in self._holds:
            raise ClaimLost(hold.id)
        waiting: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._open.setdefault(key, []).append(waiting)
        self._ring()
        try:
            return await waiting
        finally:
            self._give_up(key, waiting)

    def answer(self, key: K, value: A) -> None:
        """Tell all that ask this, if anybody still does."""
        for waiting in self._open.pop(key, ()):
            if not waiting.done():
                waiting.set_result(value)

    def fail(self, key: K, error: Exception) -> None:
        """Raise this where it is asked."""
        for waiting in self._open.pop(key, ()):
            if not waiting.done():
                waiting.set_exception(error)

    def __iter__(self) -> Iterator[K]:
        return iter(list(self._open))

    def __contains__(self, key: object) -> bool:
        return key in self._open

    def __len__(self) -> int:
        return len(self._open)

    def _give_up(self, key: K, waiting: "asyncio.Future[A]") -> None:
        others = self._open.get(key, [])
        if waiting in others:
            others.remove(waiting)
            if not others:
                del self._open[key]
