"""Runs the examples as their readers do: real processes, started in the checkout, on the test's own database."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM, Signals

import anyio
import psutil
from anyio.abc import Process

from tests.support.patience import PATIENCE
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

    process: Process
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
        return self.process.returncode is not None

    async def stop(self, how: Signals = SIGTERM) -> int:
        """Send a signal and return the exit code."""
        if not self.ended:
            self.process.send_signal(how)
        with anyio.fail_after(PATIENCE):
            return await self.process.wait()


async def run(*arguments: str, dsn: str | None, cwd: Path = ROOT) -> Ended:
    """Run Python with these arguments to its end."""
    done = await anyio.run_process(
        [sys.executable, *arguments], cwd=cwd, env=environment(dsn), stdin=subprocess.DEVNULL, check=False
    )
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())


@asynccontextmanager
async def running(
    *arguments: str, dsn: str | None, log: Path, cwd: Path = ROOT, **variables: str
) -> AsyncIterator[Program]:
    """Python with these arguments as long as the block; what still runs then is killed."""
    with log.open("wb") as file:
        process = await anyio.open_process(
            [sys.executable, *arguments],
            cwd=cwd,
            env={**environment(dsn), **variables},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    program = Program(process, log)
    try:
        yield program
    finally:
        if not program.ended:
            process.kill()
            await asyncio.shield(process.wait())


def environment(dsn: str | None) -> Mapping[str, str]:
    """Ours, with the test's database or none. PYTHONPATH stands for an installation, which a test may run without."""
    found = {name: value for name, value in os.environ.items() if not name.startswith("JOBQUEUE_")}
    found |= {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "COLUMNS": "100"}
    return found if dsn is None else found | {"JOBQUEUE_DSN": dsn}


def processes_with(text: str) -> list[str]:
    """The command lines of all processes that have this text in it."""
    lines = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    return [line for line in lines if text in line]
