"""Programs without the wait for their imports: a process that has the command line in memory forks for each of them.

What comes out is a process of its own like any other, with its words, folder, environment, files and signals. Only the
modules are not read again, nor taken apart at the end: that is nine tenths of what a short command costs. The start
itself is tried by those who start in the plain way: some terminals, children of a worker, installed packages, and what
changes how a process begins (PYTHONIOENCODING, an ignored signal, a module in place of an installed one).
"""

import atexit
import gc
import importlib.util
import io
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

ROOT = Path(__file__).resolve().parents[3]
SETTLED = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1"}
"""What the forked ones have in their environment; a program that has something else there begins anew."""
READ_AT_START = ("PYTHON", "LC_", "LANG")
UNBUFFERED = "PYTHONUNBUFFERED"  # of these the only one that can be done later
EXTRAS = (
    "jobqueue.web",
    "jobqueue.cli.web",
    "jobqueue.cli.worker.http",
)  # a command must find out itself whether their packages are there
PACKAGES_OF_EXTRAS = {"jinja2", "prometheus_client", "starlette", "uvicorn"}
"""What is not in memory: a forked one finds what a folder has in place of them, as any other does."""
ROOMS = ("jobqueue.cli", "jobqueue.cron", "jobqueue.worker")
AT_FIRST_USE = (
    "anyio._backends._asyncio", "jobqueue.exports", "jobqueue.tasks.bounded", "queue", "rich._emoji_codes", "uvloop",
)  # fmt: skip


_PID = 10
"""Digits of a process id on the line: the exit code of a short process may come together with it."""


class Command(Protocol):
    """A process, as `subprocess.Popen` shows it."""

    pid: int

    @property
    def returncode(self) -> int | None: ...
    def poll(self) -> int | None: ...
    def wait(self) -> int: ...
    def send_signal(self, number: int) -> None: ...
    def kill(self) -> None: ...


class Request(NamedTuple):
    """What a process is made with, beside its files."""

    arguments: list[str]
    """Those of Python."""
    folder: str
    environment: dict[str, str]
    in_terminal: bool
    """Whether its stdin becomes the terminal of a session of its own."""


def start(arguments: Sequence[str], folder: Path, environment: Mapping[str, str], out: int, err: int) -> Command:
    """Start `python ARGUMENTS` (`-m MODULE ...` or `FILE ...`) with these files as stdout and stderr, and no stdin."""
    forker = can_fork(folder, environment)
    if forker is not None:
        with open(os.devnull) as nothing:
            request = Request(list(arguments), str(folder), dict(environment), in_terminal=False)
            return forker.start(request, nothing.fileno(), out, err)
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
    )  # fmt: skip


def start_in_terminal(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str], terminal: int
) -> Command | None:
    """Start it with that terminal as its own; None if it must begin anew."""
    forker = can_fork(folder, environment)
    request = Request(list(arguments), str(folder), dict(environment), in_terminal=True)
    return None if forker is None else forker.start(request, terminal, terminal, terminal)


def can_fork(folder: Path, environment: Mapping[str, str]) -> "Forker | None":
    """Who forks processes that begin there, and with this environment; None if they would begin in another way."""
    forker = the_forker()
    return forker if forker.begins_like(environment) and PACKAGES_OF_EXTRAS >= set(replaced_modules(folder)) else None


def given_at_start(environment: Mapping[str, str]) -> tuple[dict[str, str], set[int]]:
    """What the interpreter has read when a program begins, and the signals that it leaves ignored."""
    read = {name: value for name, value in environment.items() if name.startswith(READ_AT_START) and name != UNBUFFERED}
    return read, {number for number in signal.valid_signals() if signal.getsignal(number) is signal.SIG_IGN}


def replaced_modules(folder: Path) -> Iterator[str]:
    """Modules there that a new process would take for ones of ours, or for packages that are installed."""
    for entry in folder.iterdir():
        spec = importlib.util.find_spec(entry.stem) if entry.stem.isidentifier() else None
        if spec is None or spec.origin is None or entry.suffix not in {"", ".py"}:
            continue
        if not Path(spec.origin).is_relative_to(entry):
            yield entry.stem


@cache
def the_forker() -> "Forker":
    """The one of this test process; it ends when the test process does."""
    forker = Forker(os.environ | SETTLED)
    atexit.register(forker.close)
    return forker


class Forker:
    """The test's end of the line to the process that forks."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._given = given_at_start(environment)
        self._line, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()],
            )  # fmt: skip

    def begins_like(self, environment: Mapping[str, str]) -> bool:
        """Tell whether a process with this environment would begin as the forked ones do."""
        return self._given == given_at_start(environment)

    def start(self, request: Request, *files: int) -> "Forked":
        """Have a process forked; the files are its stdin, stdout and stderr, and one more if it is to have one."""
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._line, [b"!"], [*files, theirs.fileno()])
        ours.sendall(json.dumps(request).encode() + b"\n")
        return Forked(ours)

    def close(self) -> None:
        """Let it end; what it has forked goes on."""
        self._line.close()
        self._process.wait()


class Forked:
    """One process that was forked."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self.returncode: int | None = None
        self.pid = int(self._hear(_PID))

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._line], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = int(self._hear(64))
            self._line.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _hear(self, most: int) -> bytes:
        told = self._line.recv(most)
        assert told, "the process that forks has ended"
        return told


# The process that forks. It has one thread, and no event loop was ever made in it.


def serve(line: socket.socket) -> Request:
    """Fork for each that asks, tell how it ended. Returns in the forked process, with what that is to do."""
    children: dict[int, socket.socket] = {}
    awake, wake = socket.socketpair()
    for end in (awake, wake):
        end.setblocking(False)
    signal.set_wakeup_fd(wake.fileno())
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    while True:
        ready, _, _ = select.select([line, awake], [], [])
        if awake in ready:
            awake.recv(4096)
            tell_of_the_ended(children)
        if line in ready:
            called, files, _, _ = socket.recv_fds(line, 1, 5)
            if not called:
                os._exit(0)
            back = socket.socket(fileno=files.pop())
            request = Request(*json.loads(back.makefile().readline()))
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                for end in (line, awake, wake, back, *children.values()):
                    end.close()
                become(request, files)
                return request
            back.sendall(f"{pid:{_PID}}".encode())
            children[pid] = back
            for file in files:
                os.close(file)


def tell_of_the_ended(children: dict[int, socket.socket]) -> None:
    """Reap them, and pass on their exit codes to who started them, if that still listens."""
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            with children.pop(pid) as back, suppress(BrokenPipeError):
                back.sendall(str(os.waitstatus_to_exitcode(status)).encode())


def become(request: Request, files: list[int]) -> None:
    """Take on what makes the process another one."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    if request.in_terminal:
        os.setsid()
        os.close(os.open(os.ttyname(0), os.O_RDWR))  # the first that a new session opens is its own: Ctrl-C is a signal
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.environment)
    open_streams()
    sys.path[0] = request.folder


def open_streams() -> None:
    """Make those of `sys` anew: they remember what kind of file they were opened on."""
    at_once = bool(os.environ.get(UNBUFFERED))
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        before = getattr(sys, name)
        raw = io.FileIO(number, "w" if number else "r", closefd=False)
        binary: Any = raw if number and at_once else io.BufferedWriter(raw) if number else io.BufferedReader(raw)
        by_line = not at_once and (number == 2 or os.isatty(number))
        stream = io.TextIOWrapper(binary, before.encoding, before.errors, "\n", by_line, at_once)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def import_command_line() -> None:
    """Have in memory what the verbs import when they are called, and the command line itself, built once for all."""
    for room in ROOMS:
        for module in pkgutil.walk_packages(importlib.import_module(room).__path__, f"{room}."):
            if module.name not in EXTRAS:
                importlib.import_module(module.name)
    for name in AT_FIRST_USE:
        with suppress(ImportError):  # not each is on every platform
            importlib.import_module(name)
    keep_built()
    assert not PACKAGES_OF_EXTRAS & set(sys.modules)


def keep_built() -> None:
    """Build typer's tree of all verbs now: it is the same in every command, and a third of what a short one costs.

    So are the SQL files.
    """
    import typer.main

    from jobqueue.cli.main import surface
    from jobqueue.store.schema.migrate import migrations
    from jobqueue.store.schema.statements import statements

    statements()
    migrations()

    typer.main.get_command = cache(typer.main.get_command)
    tree: Any = typer.main.get_command(surface)
    list(tree.commands.values())  # the groups, each of which is built when it is asked for


def end(code: int) -> None:
    """End as Python ends, but for the modules, of which it would have to copy all that it takes apart.

    Returns if its last words cannot be written: of that Python has something to say.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    gc.collect()  # whoever complains when it is forgotten does so now
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def run(arguments: Sequence[str]) -> None:
    """Do what the process was forked for."""
    option, *words = arguments
    try:
        if option == "-m":
            sys.argv[1:] = words[1:]
            runpy.run_module(words[0], run_name="__main__", alter_sys=True)
        else:
            sys.argv[:] = arguments
            sys.path[0] = str(Path(option).absolute().parent)
            runpy.run_path(option, run_name="__main__")
    except SystemExit as told:
        if told.code is None or isinstance(told.code, int):
            end(told.code or 0)
        raise
    end(0)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the test process, whose end we notice
    import_command_line()
    gc.collect()
    gc.freeze()  # else each fork would copy what it only looks at
    run(serve(socket.socket(fileno=int(sys.argv[1]))).arguments)
