"""`worker --processes`: a parent that starts worker processes, replaces those that die, and drains them together.

The parent has no event loop, no connection and none of the user's code, so hardly anything can hang or kill it. Each
child is a fresh process (nothing is forked) in a session of its own: Ctrl-C reaches the parent alone, which passes it
on. `child.py` is the other end of the line between the two.

The first child starts alone, the others once it is ready: what is wrong with the App or its database is said once.
"""

import os
import random
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from jobqueue.base.settings import Settings
from jobqueue.cli.terminal.failures import ExitCode, Refusal, tell_now
from jobqueue.cli.terminal.first_moments import STOPS, listen_to_stops
from jobqueue.cli.worker.http import address_of, listen
from jobqueue.cli.worker.stopping import CANCELLING, ECHO, LEFT_AT_ONCE, MARGIN
from jobqueue.cli.worker.wishes import Wishes
from jobqueue.worker.draining import FINAL_WRITES

_TICK = 1.0
_BADNESS: dict[int, int] = {ExitCode.OK: 0, ExitCode.CUT_OFF: 1, ExitCode.LEFT_HARD: 3}
"""Of exit codes; any other stands between the last two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """In seconds."""

    ready: float = 60.0
    """What a child gets to become ready."""
    well: float = 60.0
    """After this long as a ready worker its end is not taken for one of a row."""
    first_pause: float = 0.1
    """Before a replacement; four times as much with each that follows in a row."""
    longest_pause: float = 30.0
    stop: float = FINAL_WRITES + 2 * MARGIN
    """Beyond the drain's limit, until a child is killed. One MARGIN earlier it ends itself."""


def run_processes(target: str, wishes: Wishes) -> int:
    """Run the App in several worker processes until a signal, or in a burst until all have ended."""
    if sys.platform == "win32":
        raise Refusal("--processes does not work on Windows; start several workers instead", ExitCode.USAGE)
    command = [sys.executable, "-m", "jobqueue", "worker", *wishes.options]
    own = [] if wishes.http is None else _http_of_each(wishes.http, wishes.processes)
    return Parent(command, target, wishes.processes, own=own, burst=wishes.burst).run()


def _http_of_each(text: str, processes: int) -> list[str]:
    """Each process has a port of its own. All are tried: else a child whose port is taken would be started for ever."""
    first = address_of(text, processes)
    addresses = [first.of_process(number) for number in range(1, processes + 1)]
    for address in addresses:
        for each in listen(address):
            each.close()
    return [f"--http={address}" for address in addresses]


@dataclass(eq=False)
class Child:
    """One of the worker processes, and those that take its place one after the other."""

    number: int
    due: float | None = None
    """When it is to be started; None while it runs, and if it is not to be."""
    process: "subprocess.Popen[bytes] | None" = None
    line: socket.socket | None = None
    started: float = 0.0
    ready: float | None = None
    heard: float = 0.0
    silence: float = float("inf")
    """Seconds without a sign of life after which it counts as hung: it says so itself."""
    ends_in_a_row: int = 0
    killed_for: str | None = None
    unread: bytes = b""

    def __str__(self) -> str:
        return f"worker {self.number} (pid {self.process.pid})" if self.process else f"worker {self.number}"

    def start(self, command: Sequence[str], target: str) -> None:
        """Start a process for it. Raises OSError if the system has no room for one."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self.process = subprocess.Popen(  # noqa: S603 - our own command, without a shell
                    [*command, f"--child={theirs.fileno()}", "--", target],
                    stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True,
                )  # fmt: skip
            except OSError:
                ours.close()
                raise
        ours.setblocking(False)
        self.line, self.unread = ours, b""
        self.due = self.ready = self.killed_for = None
        self.silence = float("inf")
        self.started = self.heard = time.monotonic()

    def hear(self) -> Iterator[list[str]]:
        """The words of each line that it has sent."""
        while self.line is not None:
            try:
                data = self.line.recv(65536)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.close()
                return
            self.heard = time.monotonic()
            *lines, self.unread = (self.unread + data).split(b"\n")
            yield from (line.decode().split() for line in lines)

    def order(self, stage: int) -> None:
        """Let its stop reach this stage."""
        if self.process is None:
            return
        with suppress(OSError):
            if self.line is not None:
                self.line.send(str(stage).encode())
                return
        self.process.terminate()  # it has closed its end: it is about to end, or somebody closed all there was

    def kill(self, reason: str) -> None:
        """End it now."""
        if self.process is not None:
            self.killed_for = reason
            self.process.kill()

    def close(self) -> None:
        """Give up the line."""
        if self.line is not None:
            self.line.close()
            self.line = None


class Parent:
    """Keeps `count` children running. `command` runs one of them, `target` is its last word."""

    def __init__(
        self,
        command: Sequence[str],
        target: str,
        count: int,
        *,
        own: Sequence[str] = (),
        burst: bool = False,
        limits: Limits | None = None,
    ) -> None:
        """`own` has a word for each child that only its command has."""
        self._command = command
        self._own = own
        self._target = target
        self._burst = burst
        self._limits = limits or Limits()
        self._children = [Child(number) for number in range(1, count + 1)]
        self._any_was_ready = False
        self._asked, self._last_signal = 0, float("-inf")
        self._drain_limit = Settings().drain_timeout  # until a child says what its App wants
        self._kill_at = float("inf")
        self._codes: list[int] = []
        self._bell, self._ringer = socket.socketpair()

    def run(self) -> int:
        """Returns the worst exit code of the children, once all have ended."""
        self._listen_to_signals()
        self._children[0].due = time.monotonic()
        with self._bell, self._ringer:
            try:
                while any(child.process or child.due is not None for child in self._children):
                    self._start_those_due()
                    self._wait()
                    self._hear()
                    self._obey_signals()
                    self._reap()
                    self._enforce_limits()
            finally:
                signal.set_wakeup_fd(-1)
                for child in self._children:
                    child.close()  # one that still runs ends itself
        return self._verdict()

    # signals

    def _listen_to_signals(self) -> None:
        """The handlers do nothing: the wake-up descriptor brings each signal's number to the loop.

        Without handlers the first process of a container would not get any.
        """
        self._bell.setblocking(False)
        self._ringer.setblocking(False)
        signal.set_wakeup_fd(self._ringer.fileno(), warn_on_full_buffer=False)
        listen_to_stops(lambda *_: None)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def _obey_signals(self) -> None:
        with suppress(BlockingIOError):
            for number in self._bell.recv(4096):
                if number in STOPS and time.monotonic() - self._last_signal >= ECHO:
                    self._last_signal = time.monotonic()
                    self._asked += 1
                    self._stop()

    def _stop(self) -> None:
        running = [child for child in self._children if child.process]
        limit = 0.0
        for child in self._children:
            child.due = None
        if self._asked == 1:
            limit = self._drain_limit
            tell_now(self._first_answer(running))
        elif self._asked == 2:
            tell_now(CANCELLING)
        else:
            tell_now(LEFT_AT_ONCE)
            for child in running:
                child.kill("was left")
            return
        self._kill_at = time.monotonic() + limit + self._limits.stop
        for child in running:
            child.order(self._asked)

    def _first_answer(self, running: list[Child]) -> str:
        if not any(child.ready for child in running):
            return "stopping, no worker had started yet"
        workers = "1 worker" if len(running) == 1 else f"{len(running)} workers"
        return f"draining {workers}, up to {self._drain_limit:g} s; again to stop now"

    # life and death

    def _start_those_due(self) -> None:
        for child in self._children:
            if child.due is not None and child.due <= time.monotonic():
                try:
                    silent = ["--silent"] if self._any_was_ready else []
                    child.start([*self._command, *self._own[child.number - 1 : child.number], *silent], self._target)
                except OSError as error:
                    self._replace(child, f"could not be started: {error.strerror}")

    def _wait(self) -> None:
        now = time.monotonic()
        pause = max(0.0, min([_TICK, *(child.due - now for child in self._children if child.due is not None)]))
        select.select([self._bell, *(child.line for child in self._children if child.line)], [], [], pause)
        late = time.monotonic() - now - pause
        if late > _TICK:  # we were stopped, and perhaps they were with us: that silence does not count
            for child in self._children:
                child.started += late
                child.heard += late

    def _hear(self) -> None:
        for child in self._children:
            for words in child.hear():
                if words[0] == "ready":
                    child.ready = time.monotonic()
                    child.silence, self._drain_limit = float(words[1]), float(words[2])
                    self._first_is_ready()

    def _first_is_ready(self) -> None:
        if not self._any_was_ready and not self._asked:
            self._any_was_ready = True
            for other in self._children[1:]:
                other.due = time.monotonic()

    def _reap(self) -> None:
        """Collect every process that has ended; a container's first one inherits orphans of others."""
        with suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                for child in self._children:
                    if child.process and child.process.pid == found[0]:
                        child.process.returncode = os.waitstatus_to_exitcode(found[1])
        self._hear()  # first: a short burst says that it is ready, and ends
        for child in self._children:
            if child.process and child.process.returncode is not None:
                self._has_ended(child, child.process.returncode)

    def _has_ended(self, child: Child, code: int) -> None:
        how = child.killed_for or (f"was ended by {_name(-code)}" if code < 0 else f"ended with exit code {code}")
        child.close()
        if self._asked:
            if code < 0 and child.ready:
                if self._asked < 3:
                    tell_now(f"{child} {how}", own_line=False)
                code = ExitCode.LEFT_HARD
            self._codes.append(max(code, 0))
        elif code >= 0 and ((self._burst and code == 0) or not self._any_was_ready):
            self._codes.append(code)  # its work is done, or it could not even begin and has said why
        else:
            if child.ready and time.monotonic() - child.ready >= self._limits.well:
                child.ends_in_a_row = 0
            self._replace(child, how)
        child.process = child.ready = None

    def _replace(self, child: Child, how: str) -> None:
        spread = random.uniform(0.8, 1.2)  # noqa: S311 - spreads load, guards nothing
        pause = min(self._limits.first_pause * spread * 4.0 ** min(child.ends_in_a_row, 20), self._limits.longest_pause)
        tell_now(f"{child} {how}; replaced in {pause:.1f} s", own_line=False)
        child.due = time.monotonic() + pause
        child.ends_in_a_row += 1

    def _enforce_limits(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if not child.process or child.killed_for:
                continue
            if self._asked:
                if now >= self._kill_at:
                    child.kill("did not end in time and was killed")
            elif child.ready is None:
                if now - child.started >= self._limits.ready:
                    child.kill(f"was not ready after {self._limits.ready:g} s and was killed")
            elif now - child.heard >= child.silence:
                child.kill(f"gave no sign of life for {child.silence:g} s and was killed")

    def _verdict(self) -> int:
        if self._asked > 2:
            return ExitCode.LEFT_HARD
        if cut_off := self._codes.count(ExitCode.CUT_OFF):
            tell_now(
                f"jobs were cancelled in {self._of(cut_off)}; what had not finished was given back", own_line=False
            )
        if left := self._codes.count(ExitCode.LEFT_HARD):
            tell_now(
                f"jobs outlived the stop, or could not be saved, in {self._of(left)}; "
                "they are taken over when their lease has ended", own_line=False
            )  # fmt: skip
        return max(self._codes, key=lambda code: _BADNESS.get(code, 2), default=0)

    def _of(self, number: int) -> str:
        return f"{number} of {len(self._children)} workers"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
