"""Workers and producers of a measurement: processes of their own, which end with it, however it ends."""

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import anyio
import orjson

from jobqueue.base.errors import JobQueueError
from jobqueue.bench.figures import Cost

_END = 5.0
"""Seconds that a child gets to end once its line is cut, before it is killed."""
_LOOK = 0.02


class ChildFailed(JobQueueError):
    """Raised when a process of the bench ended before it was told to, or badly."""

    def __init__(self, code: int | None, said: str) -> None:
        last = said.strip().rpartition("\n")[2]
        super().__init__(f"a process of the bench ended with {code}: {last or 'it said nothing'}")


@dataclass(frozen=True, slots=True)
class Report:
    """What a child told of itself at its end."""

    began: float
    jobs: int
    first: float
    last: float
    cpu: float
    rss: float
    delays: list[float]


class Child:
    """One process."""

    def __init__(self, process: asyncio.subprocess.Process, line: socket.socket, began: float) -> None:
        self._process = process
        self._line = line
        self._began = began
        self._output = asyncio.create_task(process.communicate())  # read all along: no child waits for its reader

    @classmethod
    async def start(cls, words: Sequence[str], environment: Mapping[str, str]) -> "Child":
        """Start `python -m` with these words. In a session of its own: Ctrl-C is for the bench alone."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs, contextlib.ExitStack() as undo:
            undo.callback(ours.close)
            given = [word.format(line=theirs.fileno()) if word == "{line}" else word for word in words]
            began = time.monotonic()
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", *given, env=environment, pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )  # fmt: skip
            undo.pop_all()
        return cls(process, ours, began)

    @property
    def code(self) -> int | None:
        """How it ended."""
        return self._process.returncode

    async def ready(self) -> None:
        """Wait until it says so. Raises ChildFailed if it ends instead."""
        if not await asyncio.get_running_loop().sock_recv(self._line, 1000):
            await self.report()
            raise ChildFailed(self.code, "it was never ready")

    def tell(self) -> None:
        """Begin, or stop: whatever it waits for."""
        with contextlib.suppress(OSError):  # it has ended: the report says how
            self._line.send(b"1")

    def check(self) -> None:
        """Raises ChildFailed if it has ended."""
        if self._output.done():
            raise ChildFailed(self.code, self._output.result()[1].decode(errors="replace"))

    async def report(self) -> Report:
        """Wait for its end. Raises ChildFailed."""
        out, err = await self._output
        if self.code or not out:
            raise ChildFailed(self.code, err.decode(errors="replace"))
        told: dict[str, Any] = orjson.loads(out)
        return Report(began=self._began, **told)

    async def end(self) -> None:
        """Cut its line, which ends it; kill it if that does not."""
        self._line.close()
        with anyio.move_on_after(_END, shield=True):
            await asyncio.wait([self._output])
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        with anyio.move_on_after(_END, shield=True):
            await asyncio.wait([self._output])


class Team:
    """Several processes of one kind."""

    def __init__(self, children: Sequence[Child]) -> None:
        self._children = children

    async def ready(self) -> None:
        """Wait until all are."""
        for child in self._children:
            await child.ready()

    async def until(self, done: Callable[[], Awaitable[bool]]) -> None:
        """Wait until it is done. Raises ChildFailed if a process ends before."""
        while not await done():
            for child in self._children:
                child.check()
            await anyio.sleep(_LOOK)

    async def told(self) -> list[Report]:
        """Tell all of them, and wait for their reports."""
        for child in self._children:
            child.tell()
        return [await child.report() for child in self._children]


def cost(reports: Sequence[Report], started: bool) -> Cost:
    """What they took together. `started`: jobs were waiting when they were started."""
    jobs = sum(report.jobs for report in reports)
    first = min((report.first - report.began for report in reports if report.jobs), default=None)
    return Cost(
        cpu=sum(report.cpu for report in reports) / max(1, jobs) * 1000,
        rss=max(report.rss for report in reports),
        start=first if started else None,
    )


@contextlib.asynccontextmanager
async def team(words: Sequence[str], processes: int, environment: Mapping[str, str]) -> AsyncIterator[Team]:
    """So many processes with these words; not one outlives the block."""
    children: list[Child] = []
    try:
        while len(children) < processes:
            children.append(await Child.start(words, environment))
        yield Team(children)
    finally:
        with anyio.CancelScope(shield=True):  # bounded by `_END`
            for child in children:
                await child.end()
