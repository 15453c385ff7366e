"""The busy machine of `make test-busy`."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from tests.support.programs.busy import burning
from tests.support.programs.processes import ROOT
from tests.support.waiting import wait_until


async def test_burners_end_with_the_block() -> None:
    """What burns the cores computes inside the block and is gone after it, also if the block fails."""
    with pytest.raises(OSError, match="in the block"), burning(2) as burners:
        before = [psutil.Process(pid).cpu_times().user for pid in burners]
        await wait_until(
            lambda: all(psutil.Process(pid).cpu_times().user > past for pid, past in zip(burners, before, strict=True)),
            "both burn",
        )
        raise OSError("in the block")

    assert not any(psutil.pid_exists(pid) for pid in burners)


async def test_burners_end_with_whoever_started_them() -> None:
    """Killed, the starter leaves no burner behind."""
    shown = "print(*burners, flush=True)"
    code = f"from tests.support.programs.busy import burning\nwith burning(1) as burners: {shown}; input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as starter:
        assert starter.stdout is not None
        burner = int(starter.stdout.readline())
        os.kill(starter.pid, signal.SIGKILL)

    await wait_until(lambda: not psutil.pid_exists(burner), "the burner has ended")


def test_a_busy_command_ends_as_it_would_alone() -> None:
    """The exit code is the command's."""
    command = [sys.executable, "-m", "tests.support.programs.busy", sys.executable, "-c", "raise SystemExit(3)"]

    assert 3 == subprocess.run(command, cwd=ROOT, check=False).returncode
