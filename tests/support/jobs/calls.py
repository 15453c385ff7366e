"""Calls for `bounded_map` that count themselves."""

import asyncio
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Calls:
    """Counts calls; each waits until it is cancelled, then cleans up for a while, as a rollback would."""

    begun: int = 0
    running: int = 0
    peak: int = 0
    cancelled: int = 0
    cleaned: int = 0
    hold: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.hold.set()

    async def wait(self, item: object) -> None:
        self.begun += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            await asyncio.sleep(0)
            await self.hold.wait()
            await asyncio.sleep(0)
            self.cleaned += 1
            raise

    async def step(self, item: int) -> int:
        self.running += 1
        self.peak = max(self.peak, self.running)
        for _ in range(item % 7 + 1):  # so that they end in another order than they began in
            await asyncio.sleep(0)
        self.running -= 1
        return -item

    @property
    def are_gone(self) -> bool:
        """True if all that began were cancelled once, and have cleaned up."""
        return self.begun == self.cancelled == self.cleaned > 0


def tasks() -> set["asyncio.Task[Any]"]:
    return asyncio.all_tasks()
