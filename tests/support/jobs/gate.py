"""A step that a test lets go on."""

import asyncio


class Gate:
    """A step that waits until it may go on, and counts how often it did."""

    def __init__(self) -> None:
        self.begun, self.open = asyncio.Event(), asyncio.Event()
        self.runs = 0

    async def step(self) -> int:
        """Wait for the gate."""
        self.runs += 1
        self.begun.set()
        await self.open.wait()
        return self.runs
