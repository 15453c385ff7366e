"""Many clients of one site's server-sent events: what each has heard, how late, and what that cost the site."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import quantiles

import orjson
import psutil


@dataclass
class Client:
    """One raw connection, so that three hundred of them fit into a process."""

    heard: list[str] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    connected: asyncio.Event = field(default_factory=asyncio.Event)
    _place: str = ""

    async def run(self, port: int, path: str) -> None:
        """Connect again whenever the stream has ended, behind what was heard last, as browsers do."""
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            after = f"Last-Event-ID: {self._place}\r\n" if self._place else ""
            writer.write(f"GET {path} HTTP/1.1\r\nHost: site\r\nConnection: close\r\n{after}\r\n".encode())
            try:
                while line := await reader.readline():
                    self._take(line.strip())
            finally:
                writer.close()

    def _take(self, line: bytes) -> None:
        if line.startswith(b"id: "):
            self._place = line[4:].decode()
            self.connected.set()
        elif line.startswith(b"data: "):
            event = orjson.loads(line[6:])
            self.heard.append(event["id"])
            self.late.append((datetime.now(UTC) - datetime.fromisoformat(event["at"])).total_seconds())


@asynccontextmanager
async def clients(port: int, path: str, count: int) -> AsyncIterator[list[Client]]:
    """So many, connected, inside the block."""
    many = [Client() for _ in range(count)]
    tasks = [asyncio.create_task(client.run(port, path)) for client in many]
    try:
        for client in many:
            await client.connected.wait()
        yield many
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def at_a_rate(call: Callable[[], Awaitable[object]], times: int, rate: float) -> None:
    """Call it so many times, so many a second."""
    began = time.monotonic()
    for number in range(times):
        await call()
        await asyncio.sleep(max(0.0, began + (number + 1) / rate - time.monotonic()))


class Cost:
    """What a process uses from now on."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._began, self._cpu = time.monotonic(), self._used()

    def _used(self) -> float:
        times = self._process.cpu_times()
        return times.user + times.system

    def tell(self, many: list[Client], *, aloud: bool) -> None:
        """Print how late the events came, and what the process has used meanwhile."""
        cut = quantiles([late for client in many for late in client.late], n=100)
        core = (self._used() - self._cpu) / (time.monotonic() - self._began)
        memory = self._process.memory_info().rss / 2**20
        late = f"{1000 * cut[49]:.0f} ms p50, {1000 * cut[98]:.0f} ms p99"
        if aloud:
            print(
                f"\n{len(many)} clients, {len(many[0].heard)} events: {late}, {100 * core:.0f} % CPU, {memory:.0f} MiB"
            )
