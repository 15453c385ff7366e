"""Real processes of the command line: start one, wait for what it says, send it signals."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from tests.support.patience import PATIENCE
from tests.support.programs.forking import SETTLED, start
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[3]


class Process:
    """One `python -m jobqueue` in a folder; its output goes to files, so that it never waits for a reader.

    `into`: what its stdout is instead.
    """

    def __init__(
        self, words: Sequence[str], folder: Path, name: str, environment: Mapping[str, str], into: int | None = None
    ) -> None:
        self._out, self._err = folder / f"{name}.out", folder / f"{name}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            to = out.fileno() if into is None else into
            self._process = start(["-m", "jobqueue", *words], folder, environment, to, err.fileno())

    @property
    def out(self) -> str:
        """What it has written to stdout so far."""
        return self._out.read_text(encoding="utf-8")

    @property
    def err(self) -> str:
        """What it has written to stderr so far."""
        return self._err.read_text(encoding="utf-8")

    async def says(self, text: str) -> None:
        """Wait until it has written this text to stderr; fail with all it wrote if it ends without."""
        await wait_until(lambda: text in self.err or self._process.poll() is not None, f"it says {text!r}", PATIENCE)
        assert text in self.err, f"it ended with {self._process.returncode} and never said {text!r}:\n{self.err}"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    async def signal_until(self, number: int, text: str) -> None:
        """Send it this signal again and again, until it has written this text: an echo of another does not count."""

        def answered() -> bool:
            self.signal(number)
            return text in self.err or self._process.poll() is not None

        await wait_until(answered, f"it says {text!r}", PATIENCE)
        assert text in self.err, f"it ended with {self._process.returncode} and never said {text!r}:\n{self.err}"

    async def ends(self, timeout: float = PATIENCE) -> int:
        """Wait for its end; returns its exit code."""
        try:
            await wait_until(lambda: self._process.poll() is not None, "the process ends", timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}; it said:\n{self.err}") from None
        assert self._process.returncode is not None
        return self._process.returncode

    def kill(self) -> None:
        """End it, if it has not ended."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()


@dataclass
class CommandLine:
    """Runs commands in one folder, which is where the user's modules lie."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    _started: list[Process] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def module(self, name: str, text: str) -> None:
        """Write a module of the user's; dots are folders."""
        file = self.folder.joinpath(*name.split(".")).with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def start(self, *words: str, **environment: str) -> Process:
        """Start a command; `environment` is set beside ours, from which no JOBQUEUE_ variable is taken."""
        return self._start(words, environment)

    def _start(self, words: Sequence[str], environment: Mapping[str, str], into: int | None = None) -> Process:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("JOBQUEUE_", "PG"))}
        settled = kept | SETTLED | self.environment | dict(environment)
        process = Process(words, self.folder, f"process{next(self._numbers)}", settled, into)
        self._started.append(process)
        return process

    async def run(self, *words: str, **environment: str) -> "Answer":
        """Run a command to its end."""
        return await self._ended(self._start(words, environment))

    async def run_into(self, into: int, *words: str, **environment: str) -> "Answer":
        """The same, and its stdout is this file."""
        return await self._ended(self._start(words, environment, into))

    async def _ended(self, process: Process) -> "Answer":
        code = await process.ends()
        return Answer(code, process.out, process.err)

    def close(self) -> None:
        """End what still runs."""
        for process in self._started:
            process.kill()


@dataclass(frozen=True)
class Answer:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str


@contextmanager
def full_disk() -> Iterator[int]:
    """What takes nothing."""
    with open("/dev/full", "wb") as file:
        yield file.fileno()


@contextmanager
def gone_reader() -> Iterator[int]:
    """A pipe that nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@contextmanager
def command_line(folder: Path) -> Iterator[CommandLine]:
    """A command line for one test; nothing it started outlives the block."""
    line = CommandLine(folder)
    try:
        yield line
    finally:
        line.close()
