"""Worker processes that live as long as a block of code."""

import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import Process

DRAIN_LIMIT = 30.0  # seconds; a worker needs 20 at most, and a few to close
TAIL = 30  # lines
ENDED_WELL = {0, -signal.SIGTERM}  # the latter: told to end before it had begun


class WorkerFailed(Exception):
    """Raised when a worker process ended by itself or with an error; the text has the end of its log."""


class Workers:
    """So many processes of one Python command. However the block ends, they drain and have ended when it is left."""

    def __init__(self, command: list[str], *, count: int, logs: Path) -> None:
        self._command = [sys.executable, *command]
        self._logs = [logs / f"worker-{number}.log" for number in range(1, count + 1)]
        self._processes: list[Process] = []

    @property
    def ids(self) -> list[int]:
        """The processes, as `ps` names them."""
        return [process.pid for process in self._processes]

    def check(self) -> None:
        """Raise WorkerFailed if one has ended, which none should before the block does."""
        for process, log in zip(self._processes, self._logs, strict=True):
            if process.returncode is not None:
                raise WorkerFailed(describe(process, log))

    async def __aenter__(self) -> Self:
        try:
            for log in self._logs:
                self._processes.append(await self._start(log))
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()
        if kind is None:
            for process, log in zip(self._processes, self._logs, strict=True):
                if process.returncode not in ENDED_WELL:
                    raise WorkerFailed(describe(process, log))

    async def _start(self, log: Path) -> Process:
        with log.open("wb") as file:
            # In a session of its own, so that Ctrl-C reaches us alone: we tell the workers, once, and wait for them.
            return await anyio.open_process(
                self._command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )

    async def _stop(self) -> None:
        with anyio.move_on_after(DRAIN_LIMIT, shield=True):
            for process in self._processes:
                if process.returncode is None:
                    process.terminate()
            for process in self._processes:
                await process.wait()
        for process in self._processes:
            if process.returncode is None:
                process.kill()


def describe(process: Process, log: Path) -> str:
    """What is to be said of a process that failed."""
    lines = log.read_text(errors="replace").splitlines()
    said = "\n".join(lines[-TAIL:]) or "(it said nothing)"
    return f"worker process {process.pid} ended with exit code {process.returncode}; the end of its log:\n{said}"
