"""Runs the examples as their readers do: real processes, started in the checkout, on the test's own database."""

import os
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM, Signals

import psutil

from tests.support.patience import NEVER, PATIENCE
from tests.support.programs.forking import SETTLED, Command, start
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Ended:
    """A program that ran to its end."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Program:
    """A program that runs, and what it has said so far, both streams in one."""

    process: Command
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    async def says(self, text: str) -> None:
        """Wait until it has said this."""
        await wait_until(lambda: text in self.said or self.ended, f"{text!r} is said")
        assert text in self.said, f"ended with {self.process.returncode} before it said {text!r}:\n{self.said}"

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    async def stop(self, how: Signals = SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(how)
        return await self.end()

    async def end(self) -> int:
        """Wait for its end and return the exit code."""
        await wait_until(lambda: self.ended, "the program ends", PATIENCE)
        return self.process.wait()


async def run(*arguments: str, dsn: str | None, cwd: Path = ROOT) -> Ended:
    """Run Python with these arguments to its end."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = start(arguments, cwd, environment(dsn), out.fileno(), err.fileno())
        try:
            await wait_until(lambda: process.poll() is not None, f"{arguments} ends", NEVER)
        finally:
            end(process)
        out.seek(0)
        err.seek(0)
        return Ended(process.wait(), out.read().decode(), err.read().decode())


@asynccontextmanager
async def running(
    *arguments: str, dsn: str | None, log: Path, cwd: Path = ROOT, **variables: str
) -> AsyncIterator[Program]:
    """Python with these arguments as long as the block; what still runs then is killed."""
    with log.open("wb") as file:
        process = start(arguments, cwd, {**environment(dsn), **variables}, file.fileno(), file.fileno())
    try:
        yield Program(process, log)
    finally:
        end(process)


def end(process: Command) -> None:
    """Kill it, if it has not ended."""
    if process.poll() is None:
        process.kill()
    process.wait()


def environment(dsn: str | None) -> Mapping[str, str]:
    """Ours, with the test's database or none. PYTHONPATH stands for an installation, which a test may run without."""
    found = {name: value for name, value in os.environ.items() if not name.startswith("JOBQUEUE_")}
    found |= SETTLED | {"PYTHONUNBUFFERED": "1", "COLUMNS": "100"}
    return found if dsn is None else found | {"JOBQUEUE_DSN": dsn}


def processes_with(text: str) -> list[str]:
    """The command lines of all processes that have this text in it."""
    lines = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    return [line for line in lines if text in line]
