"""A client on another machine that can vanish: a network namespace of its own, where root may make one."""

import asyncio
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.postgres.own_server import OwnServer


@dataclass
class FarAway:
    """Runs scripts there, until the network is cut."""

    name: str
    host: str

    async def run(self, script: str, *words: str) -> asyncio.subprocess.Process:
        """Start a script there; it reaches the server at `host`."""
        return await asyncio.create_subprocess_exec(
            "ip", "netns", "exec", self.name, sys.executable, "-c", script, *words,
            stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        )  # fmt: skip

    def vanish(self) -> None:
        """No packet comes through any more, in no direction, and nobody is told."""
        call("ip", "link", "set", f"{self.name}h", "down")


def call(*words: str) -> bool:
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


@asynccontextmanager
async def far_away(server: OwnServer) -> AsyncIterator[FarAway]:
    """Another machine, from which this server is reached over a network. Skips the test where none can be made."""
    if os.name != "posix" or os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("only root can make a network namespace, with `ip`")
    place = FarAway(f"jq{secrets.token_hex(4)}", f"10.213.{secrets.randbelow(250)}.1")
    here, there = f"{place.name}h", f"{place.name}n"
    made = call("ip", "netns", "add", place.name) and all((
        call("ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", place.name),
        call("ip", "addr", "add", f"{place.host}/30", "dev", here),
        call("ip", "link", "set", here, "up"),
        call("ip", "netns", "exec", place.name, "ip", "addr", "add", f"{place.host[:-1]}2/30", "dev", there),
        call("ip", "netns", "exec", place.name, "ip", "link", "set", there, "up"),
    ))  # fmt: skip
    try:
        if not made:
            pytest.skip("no network namespace can be made here")
        await server.listen_also(place.host)
        yield place
    finally:
        call("ip", "link", "del", here)
        call("ip", "netns", "del", place.name)
        await server.listen_also(None)
