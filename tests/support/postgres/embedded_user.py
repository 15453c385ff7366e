"""A process that uses the embedded server: joins, says so, and leaves when its input ends.

`python -m tests.support.postgres.embedded_user FOLDER [--uid N] [--child forked|started]`

Exits with 3 if it may not join.
"""

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import anyio
from anyio.to_thread import run_sync

from jobqueue.base.errors import ConfigurationError
from jobqueue.store.embedded.server import EmbeddedServer


async def use(folder: Path, child: str | None) -> None:
    server = EmbeddedServer(folder)
    dsn = await server.join()
    if child:
        have_child(child)
    print("started" if server.started else "joined", dsn, flush=True)
    await run_sync(sys.stdin.read)
    await server.leave()


def have_child(kind: str) -> None:
    """Start or fork a process that outlives this one and could hold its open files."""
    if kind == "started":
        subprocess.Popen(["sleep", "60"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, close_fds=False)
    elif os.fork() == 0:
        os.close(0)
        os.close(1)
        time.sleep(60)
        os._exit(0)


def become(uid: int) -> None:
    # Here and not when the process is started: the account may have no access to this Python, which is loaded by now,
    # but for what anyio loads at its first use.
    anyio.run(run_sync, os.getpid)
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--uid", type=int)
    arguments.add_argument("--child", choices=["forked", "started"])
    given = arguments.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if given.uid is not None:
        become(given.uid)
    try:
        asyncio.run(use(given.folder, given.child))
    except ConfigurationError:
        sys.exit(3)
