"""A worker whose log cannot be written: its jobs run all the same, and what was dropped is told."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.cli.conftest import Shop
from tests.support.programs.processes import ROOT, CommandLine
from tests.support.waiting import wait_until

JOBS = 400
"""Their lines are more than a pipe holds."""


@contextmanager
def worker(cli: CommandLine, stderr: int) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that writes its log to this descriptor."""
    environment = os.environ | cli.environment | {"PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "jobqueue", "worker", "shop:app", "--log-level", "debug"]
    process = subprocess.Popen(words, cwd=cli.folder, env=environment, stdin=subprocess.DEVNULL, stderr=stderr)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def test_a_full_disk_keeps_no_worker_from_its_work(cli: CommandLine, shop: Shop) -> None:
    """With a stderr that takes nothing the worker starts, runs its jobs and drains as ever."""
    full = os.open("/dev/full", os.O_WRONLY)
    with worker(cli, full) as process:
        os.close(full)
        shop.defer("note", '{"n": 1}')
        await wait_until(lambda: shop.states() == {"completed": 1}, "the job is completed")
        process.send_signal(signal.SIGTERM)
        await wait_until(lambda: process.poll() is not None, "it ends")
    assert 0 == process.returncode


async def test_a_reader_that_stands_still_stops_no_worker(cli: CommandLine, shop: Shop) -> None:
    """While nobody reads the log all jobs run; once somebody does, the rest comes, and the worker ends as ever."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as log, worker(cli, writing) as process:
        os.close(writing)
        for number in range(JOBS):
            shop.defer("note", f'{{"n": {number}}}')
        await wait_until(lambda: shop.states() == {"completed": JOBS}, "all jobs are completed")
        process.send_signal(signal.SIGTERM)
        said = log.read().decode()
        await wait_until(lambda: process.poll() is not None, "it ends")
    assert 0 == process.returncode
    assert f"note {JOBS - 1}" in said
