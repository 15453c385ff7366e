"""A command in a terminal of its own: what it shows, what is typed, and in which state it leaves the terminal."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.patience import PATIENCE
from tests.support.programs.forking import SETTLED, Command, start_in_terminal
from tests.support.waiting import wait_until

_CODES = re.compile(r"\x1b\[[\d;?]*[a-zA-Z]")
_HOME = "\x1b[H"
# The first terminal that a new session opens is its own: then Ctrl-C becomes a signal.
_BEGIN = (
    "import os, sys; os.close(os.open(os.ttyname(0), os.O_RDWR));"
    "os.execv(sys.executable, [sys.executable, '-m', 'jobqueue', *sys.argv[1:]])"
)


class Terminal:
    """One `python -m jobqueue` in a pseudo-terminal of so many columns and lines."""

    def __init__(
        self, words: tuple[str, ...], folder: Path, size: tuple[int, int], anew: bool, environment: dict[str, str]
    ) -> None:
        self._ours, self._theirs = pty.openpty()
        self.resize(*size)
        os.set_blocking(self._ours, False)
        kept = {name: os.environ[name] for name in os.environ if name not in {"COLUMNS", "LINES", "NO_COLOR"}}
        self.settings_before = termios.tcgetattr(self._theirs)
        self._written = b""
        environment = kept | SETTLED | {"TERM": "xterm"} | environment
        forked = None if anew else start_in_terminal(["-m", "jobqueue", *words], folder, environment, self._theirs)
        self._process: Command = forked or subprocess.Popen(
            [sys.executable, "-c", _BEGIN, *words],
            cwd=folder, env=environment,
            stdin=self._theirs, stdout=self._theirs, stderr=self._theirs, start_new_session=True,
        )  # fmt: skip

    @property
    def raw(self) -> str:
        """All that it has written, with the codes that steer the terminal."""
        while True:
            try:
                self._written += os.read(self._ours, 65_536)
            except BlockingIOError:
                return self._written.decode(errors="replace")

    @property
    def text(self) -> str:
        """All that it has written, without them."""
        return _CODES.sub("", self.raw).replace("\r\n", "\n")

    @property
    def frame(self) -> list[str]:
        """The lines of the last whole frame of a program that draws the whole screen."""
        frames = self.raw.split(_HOME)
        return [line.rstrip() for line in _CODES.sub("", frames[-1]).replace("\r", "").split("\n")]

    @property
    def settings(self) -> list[object]:
        """How the terminal treats keys."""
        return termios.tcgetattr(self._theirs)

    def resize(self, columns: int, lines: int) -> None:
        """Give it another size; the program is told."""
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, keys: str) -> None:
        """Press keys; Ctrl-C is \\x03."""
        os.write(self._ours, keys.encode())

    async def shows(self, text: str, timeout: float = PATIENCE) -> None:
        """Wait until it has written this, past the codes."""
        try:
            await wait_until(
                lambda: text in self.text or self._process.poll() is not None, f"it shows {text!r}", timeout
            )
        finally:
            assert text in self.text, f"{text!r} was not shown:\n{self.text}"

    async def ends(self, timeout: float = PATIENCE) -> int:
        """Wait for its end; its exit code."""
        await wait_until(lambda: self.raw and self._process.poll() is not None, f"it ends:\n{self.text}", timeout)
        assert self._process.returncode is not None
        return self._process.returncode

    async def hang_up(self) -> int:
        """Close the terminal, as its window would be; the exit code of the command."""
        os.close(self._ours)
        self._ours = -1
        await wait_until(lambda: self._process.poll() is not None, "it ends", 30.0)
        return self._process.wait()

    def close(self) -> None:
        """End it, if it has not ended."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        if self._ours >= 0:
            os.close(self._ours)
        os.close(self._theirs)


@contextmanager
def terminal(
    folder: Path, *words: str, size: tuple[int, int] = (80, 24), anew: bool = False, **environment: str
) -> Iterator[Terminal]:
    """Start a command in a terminal, as a new Python if it must be `anew`; nothing of it outlives the block."""
    running = Terminal(words, folder, size, anew, environment)
    try:
        yield running
    finally:
        running.close()
