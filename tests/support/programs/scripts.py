"""Python programs in processes of their own: only there is seen what a fork or the end of a loop does."""

import asyncio
import os
import re
import sys
from pathlib import Path
from textwrap import dedent

from tests.support.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[3]

_SLOW = re.compile(r"Executing <.* took \d+\.\d+ seconds$")
"""What the loop's debug mode says of a busy machine; no fault of the program's."""


async def run_script(code: str, dsn: str, *arguments: str, timeout: float = PATIENCE, **environment: str) -> str:
    """Run a program with JOBQUEUE_DSN set, every warning an error; return what it printed. Fails if the program did."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-X",
        "dev",
        "-W",
        "error",
        "-c",
        dedent(code),
        *arguments,
        cwd=ROOT,
        env={**os.environ, "JOBQUEUE_DSN": dsn, "PYTHONPATH": str(ROOT), **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(timeout):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    complaints = [line for line in err.decode().splitlines() if not _SLOW.match(line)]
    assert process.returncode == 0 and not complaints, f"exit {process.returncode}:\n{err.decode()}"
    return out.decode().strip()
