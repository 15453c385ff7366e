"""Worker processes whose tasks note in a file when they begin and end: it stands when the database does not.

A line is appended by one system call, so that lines of several processes do not mix, nor get lost with a process.
"""

import asyncio
import json
import signal
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import asyncpg
from uuid_utils.compat import uuid7

from jobqueue.app import App
from jobqueue.base.errors import DeferUnknown
from jobqueue.tasks.task import Task
from tests.support.books import whole_lines
from tests.support.jobs.working import new_app
from tests.support.patience import NEVER, PATIENCE
from tests.support.programs.processes import CommandLine, Process
from tests.support.waiting import wait_until

MODULE = """
import asyncio, os, signal, time, uuid
from jobqueue import App, JobContext, Snooze, steps

BOOK = os.open(os.environ["NOTEBOOK"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
app = App(os.environ["NOTEBOOK_DSN"] or None, name="notebook")

async def let_go(ctx):
    while not os.path.exists(f"{os.environ['NOTEBOOK']}.{ctx.job.id}"):
        await asyncio.sleep(0.01)

def write(ctx, word):
    line = f"\\n{word} {ctx.job.id} {os.getpid()} {ctx.attempt} {time.monotonic()};\\n"
    os.write(BOOK, line.encode())

@app.task(retry=steps(0), max_attempts=3)
async def note(ctx: JobContext, seconds: float = 0, how: str = "works") -> int:
    write(ctx, "began")
    first = not ctx.job.lost and not ctx.job.crashes
    if how == "dies":
        os._exit(9)
    if "freezes" in how and first:
        os.kill(os.getpid(), signal.SIGSTOP)
    elif "blocks" in how and first:
        time.sleep(seconds)
    elif seconds or "held" in how:
        try:
            await (let_go(ctx) if "held" in how else asyncio.sleep(seconds))
        except asyncio.CancelledError:
            write(ctx, "cut")
            raise
    write(ctx, "ended")
    if "fails" in how and first:
        raise OSError("no route")
    if "snoozes" in how and first:
        raise Snooze(30)
    return os.getpid()

async def row(connection, job: str) -> str:
    await connection.execute("insert into ledger values ($1::uuid)", uuid.UUID(job))
    return job

async def roll() -> str:
    await asyncio.sleep(0.02)
    return uuid.uuid4().hex

@app.task(retry=steps(0), max_attempts=100)
async def phased(ctx: JobContext) -> str:
    await ctx.phase_in_transaction("row", row, str(ctx.job.id))
    first = await ctx.phase("first", roll)
    write(ctx, f"first-{first}")
    await ctx.sleep("nap", 0.05)
    n = await ctx.wait_for("go", int)
    last = await ctx.phase("last", roll)
    write(ctx, f"last-{last}")
    return f"{first} {n} {last}"

@app.task
def thread(ctx: JobContext, seconds: float) -> None:
    write(ctx, "began")
    time.sleep(seconds)
    write(ctx, "ended")
"""

AWAY = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError, DeferUnknown)
"""What a defer may raise while the database is away."""


async def note(seconds: float = 0, how: str = "works") -> int:
    """Stands for the task of the workers' module: only its name and parameters matter here.

    `how` may have the words `dies` (the process with it), `held` (until the test lets it go), and for the first run
    `blocks` (the event loop, for these seconds), `freezes` (the process), `fails` and `snoozes`. It gives the id of its
    process.
    """
    raise AssertionError("it runs in another process")


async def phased() -> str:
    """As `note`, for the task of phases: a row in a transaction, a random number, a sleep, a wait, another number."""
    raise AssertionError("it runs in another process")


def thread(seconds: float) -> None:
    """As `note`, for the task that runs in a thread."""
    raise AssertionError("it runs in another process")


@dataclass(frozen=True)
class Line:
    """What a task has noted: `began`, `ended`, or `cut` when it was cancelled."""

    word: str
    job: UUID
    process: int
    attempt: int
    at: float
    """On the clock of `time.monotonic`, which all processes of a machine share."""


class Notebook:
    """Worker processes on one database, a producer, and what the jobs have noted."""

    def __init__(self, folder: Path, dsn: str, **environment: str) -> None:
        """`environment` is what the workers have set; by default poll and lease outlast the test."""
        self.cli = CommandLine(folder)
        self.cli.module("notebook", MODULE)
        self._file = folder / "notes"
        self._file.touch()
        self.cli.environment |= {
            "NOTEBOOK": str(self._file),
            "NOTEBOOK_DSN": dsn,
            "JOBQUEUE_POLL": str(NEVER),
            "JOBQUEUE_LEASE": str(NEVER),
        } | environment
        self.app: App = new_app(dsn, name="notebook's tests")
        self.note: Task[..., Any] = self.app.task(note)
        self.thread: Task[..., Any] = self.app.task(thread)
        self.phased: Task[..., Any] = self.app.task(phased)

    async def __aenter__(self) -> Self:
        await self.app.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cli.close()
        await self.app.close()

    async def workers(self, count: int, *options: str, **environment: str) -> list[Process]:
        """Start worker processes, and wait until they work."""
        started = [
            self.cli.start("worker", "notebook:app", "--log-format", "json", *options, **environment)
            for _ in range(count)
        ]
        for process in started:
            await process.says("worker.started")
        return started

    async def kill(self, *processes: Process) -> None:
        """SIGKILL, all at once."""
        for process in processes:
            process.signal(signal.SIGKILL)
        for process in processes:
            assert -signal.SIGKILL == await process.ends()

    def events(self, process: Process, event: str, **facts: object) -> list[dict[str, Any]]:
        """The log lines of a worker with this event and these facts."""
        lines = (json.loads(line) for line in process.err.splitlines() if line.startswith("{") and line.endswith("}"))
        return [line for line in lines if line["event"] == event and facts.items() <= line.items()]

    def lines(self, word: str | None = "began") -> list[Line]:
        """What was noted so far, in order; None: every word."""
        found: list[Line] = []
        for line in whole_lines(self._file):
            said, job, process, attempt, at = line.split()
            if word in (None, said):
                found.append(Line(said, UUID(job), int(process), int(attempt), float(at)))
        return found

    def runs(self) -> dict[int, int]:
        """How many jobs began once, how many twice, and so on."""
        return dict(Counter(Counter(line.job for line in self.lines()).values()))

    def began(self, jobs: Iterable[UUID]) -> bool:
        """Tell whether all of these have begun."""
        return set(jobs) <= {line.job for line in self.lines()}

    async def have_begun(self, *jobs: UUID) -> None:
        """Return once these have begun."""
        await wait_until(lambda: self.began(jobs), f"{len(jobs)} job(s) have begun")

    def let_go(self, *jobs: UUID) -> None:
        """End the wait of these, which are `held`."""
        for job in jobs:
            Path(f"{self._file}.{job}").touch()


class Producer:
    """Keeps deferring, one after the other, each until it is stored: as a user would whose database comes and goes."""

    def __init__(self, notebook: Notebook, seconds: float = 0, **options: Any) -> None:
        self._note = notebook.note
        self._seconds, self._options = seconds, options
        self._stop = asyncio.Event()
        self.stored: list[UUID] = []
        self.failures = 0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The job under way is stored before this returns."""
        self._stop.set()
        if error is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            return
        await self._task

    async def more(self, count: int, timeout: float = PATIENCE) -> None:
        """Return once so many more are stored."""
        wanted = len(self.stored) + count
        await wait_until(
            lambda: len(self.stored) >= wanted or self._task.done(), f"{count} more jobs are stored", timeout
        )

    async def _run(self) -> None:
        while not self._stop.is_set():
            await self._store()

    async def _store(self) -> None:
        id = uuid7()
        while True:
            try:
                await self._note.options(id=id, **self._options).defer(self._seconds)
            except AWAY:
                self.failures += 1
                await asyncio.sleep(0.02)
            else:
                self.stored.append(id)
                return
