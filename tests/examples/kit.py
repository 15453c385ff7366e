"""Tests of applications that use the kit, run by a pytest of their own."""

import re
import subprocess
import sys
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import anyio

from tests.examples.programs import environment


@dataclass(frozen=True)
class Tested:
    """What such a run came to."""

    code: int
    out: str

    @property
    def passed(self) -> int:
        """How many tests passed."""
        found = re.search(r"(\d+) passed", self.out)
        return int(found[1]) if found else 0


async def pytest_in(folder: Path, *arguments: str, dsn: str, **variables: str) -> Tested:
    """Run pytest there with the plugin, whether it is installed or not, its databases on the server of this DSN.

    Of other plugins that are installed here it loads what is needed: all of them took longer than most of these runs.
    """
    plugins = ["jobqueue.testing.plugin", "pytest_asyncio.plugin", "no:cacheprovider"]
    plugins += ["xdist.plugin"] if "-n" in arguments else []
    done = await anyio.run_process(
        [sys.executable, "-m", "pytest", *chain(*(("-p", plugin) for plugin in plugins)), *arguments],
        cwd=folder,
        env={**environment(None), "JOBQUEUE_TEST_DSN": dsn, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **variables},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return Tested(done.returncode, done.stdout.decode())
