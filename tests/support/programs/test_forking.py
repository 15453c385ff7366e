"""A forked command is a process like one that was started anew."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.programs.processes import CommandLine, command_line
from tests.support.programs.terminal import terminal

TELLING = """
import atexit, json, os, signal, sys, threading
from jobqueue import App

def last():
    threading.main_thread().join()
    print("the thread's last word", file=sys.stderr)

threading.Thread(target=last).start()
atexit.register(print, "and that of the process", file=sys.stderr)
print(json.dumps({
    "main": sys.modules["__main__"].__spec__.name, "words": sys.argv[1:], "first": sys.path[:2], "folder": os.getcwd(),
    "files": sorted(os.listdir("/dev/fd"))[:3], "stdin": sys.stdin.isatty() or sys.stdin.read(), "pid": os.getpid(),
    "environment": {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"},
    "leads": os.getsid(0) == os.getpid(),
    "streams": [
        (each.encoding, each.errors, each.line_buffering, each.write_through, type(each.buffer).__name__)
        for each in (sys.stdin, sys.stdout, sys.stderr)
    ],
    "signals": [
        getattr(handler, "__qualname__", str(handler))
        for handler in map(signal.getsignal, (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD))
    ],
}))
if "wait" in os.environ:
    print("waiting", file=sys.stderr, flush=True)
    signal.pause()
app = App("postgresql://nowhere")
"""
ANEW = {"PYTHONHASHSEED": "1"}  # the interpreter reads it when it starts


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    """The command line in a folder with a module that tells of its process."""
    with command_line(tmp_path) as line:
        line.module("telling", TELLING)
        yield line


@pytest.mark.parametrize("given", [{}, {"PYTHONUNBUFFERED": "1"}], ids=["plain", "unbuffered"])
async def test_it_sees_what_a_new_process_sees(cli: CommandLine, given: dict[str, str]) -> None:
    """Words, folder, environment, path, stdin and signals are the same; so are exit code, error and last words."""
    answers = {
        how: await cli.run("worker", "telling", "--burst", FORGOTTEN="no", **more, **given)
        for how, more in {"forked": {}, "anew": ANEW}.items()
    }
    told = {how: json.loads(answer.out) for how, answer in answers.items()}
    pids = {process.pop("pid") for process in told.values()}

    assert 2 == len(pids - {os.getpid()})
    assert "no" == told["forked"]["environment"]["FORGOTTEN"]
    assert told["anew"] == told["forked"]
    assert (answers["anew"].code, answers["anew"].err) == (answers["forked"].code, answers["forked"].err)
    assert answers["forked"].err.endswith("the thread's last word\nand that of the process\n")


async def test_it_has_its_terminal_as_a_new_process_has(cli: CommandLine) -> None:
    """It leads a session whose terminal is its own, and writes by lines there."""
    told = []
    for anew in (False, True):
        with terminal(cli.folder, "worker", "telling", "--burst", size=(4000, 50), anew=anew) as running:
            await running.ends()
            told.append(json.loads(next(line for line in running.text.splitlines() if line.startswith("{"))))
    pids = {process.pop("pid") for process in told}

    assert 2 == len(pids - {os.getpid()})
    assert told[1] == told[0]
    assert (True, True) == (told[0]["leads"], told[0]["stdin"])


@pytest.mark.parametrize("more", [{}, ANEW], ids=["forked", "anew"])
async def test_it_dies_of_a_signal(cli: CommandLine, more: dict[str, str]) -> None:
    """A signal reaches it by its id, and its end is known by the signal's number."""
    process = cli.start("worker", "telling", wait="yes", **more)
    await process.says("waiting")
    process.signal(signal.SIGKILL)

    assert -signal.SIGKILL == await process.ends()
