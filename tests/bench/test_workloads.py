"""Each measurement on a real server, small: it gives figures on both sides, and has worked off what it says."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import pytest

from jobqueue.bench import children
from jobqueue.bench.children import Child
from jobqueue.bench.ground import own_ground
from jobqueue.bench.side import Load
from jobqueue.bench.workloads import WORKLOADS, Defer, Drain
from tests.support.jobs.store import connect
from tests.support.programs.forking import ROOT, SETTLED, Command, Forker, Request, can_fork

SCHEMA = "measured"
SMALL = 100


class Forked:
    """A process of the bench that was forked, as the bench sees it."""

    def __init__(self, command: Command, out: Path, err: Path) -> None:
        self._command, self._out, self._err = command, out, err

    @property
    def returncode(self) -> int | None:
        return self._command.returncode

    def kill(self) -> None:
        self._command.kill()

    async def communicate(self) -> tuple[bytes, bytes]:
        await anyio.to_thread.run_sync(self._command.wait)
        return self._out.read_bytes(), self._err.read_bytes()


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Processes of the bench come from a fork, which is nine tenths cheaper; test_children starts them in its way."""
    numbers = count()

    def fork(forker: Forker, words: Sequence[str], environment: Mapping[str, str]) -> Child:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        given = ["-m", *("3" if word == "{line}" else word for word in words)]
        request = Request(given, str(ROOT), dict(environment), in_terminal=False)
        files = [tmp_path / f"{next(numbers)}.{name}" for name in ("out", "err")]
        began = time.monotonic()
        with theirs, open(os.devnull) as nothing, files[0].open("wb") as out, files[1].open("wb") as err:
            command = forker.start(request, nothing.fileno(), out.fileno(), err.fileno(), theirs.fileno())
        process: Any = Forked(command, *files)
        return Child(process, ours, began)

    class ForkedChild(Child):
        @classmethod
        async def start(cls, words: Sequence[str], environment: Mapping[str, str]) -> Child:
            settled = {**environment, **SETTLED}
            forker = can_fork(tmp_path, settled)
            return await Child.start(words, environment) if forker is None else fork(forker, words, settled)

    monkeypatch.setattr(children, "Child", ForkedChild)


@pytest.mark.parametrize("start", range(0, len(WORKLOADS), 5))
@pytest.mark.timeout(240)
@pytest.mark.usefixtures("forked")
async def test_every_measurement_gives_figures(empty_database: str, start: int) -> None:
    """A sample has a value for each line, above zero, on our side and on the one that it is compared with."""
    async with own_ground(empty_database, SCHEMA, SMALL) as ground:
        for named in WORKLOADS[start : start + 5]:
            workload = replace(named, processes=2) if isinstance(named, Defer) and named.processes > 2 else named
            sides = (ground.ours,) if workload.beside else (ground.ours, ground.raw)
            for side in sides:
                await ground.clear()
                sample = await workload.run(ground, side)
                assert len(workload.lines) == len(sample.values), workload.name
                assert min(sample.values) > 0, workload.name
                assert (sample.cost is None) is (workload.name == "latency"), workload.name


@pytest.mark.usefixtures("forked")
async def test_a_drain_leaves_nothing(empty_database: str) -> None:
    """Both sides keep each job as one that has ended, and none is left."""
    async with own_ground(empty_database, SCHEMA, SMALL) as ground, connect(empty_database) as connection:
        for side in (ground.ours, ground.raw):
            await Drain("drain", "drain", priorities=5).run(ground, side)
        (ended,) = await connection.fetch(
            "select (select count(*) from measured.job) as ready, (select count(*) from measured.job_archive) as ours,"
            " (select count(*) from measured.raw_job where state = 2) as raw"
        )

    assert (0, SMALL, SMALL) == tuple(ended)


@pytest.mark.usefixtures("forked")
async def test_a_bulk_defer_stores_all(empty_database: str) -> None:
    """Both producers store as many jobs as they say, beside the one with which they warm up."""
    async with own_ground(empty_database, SCHEMA, SMALL) as ground, connect(empty_database) as connection:
        for side in (ground.ours, ground.raw):
            await Defer("bulk", "bulk", bulk=True, unique=True).run(ground, side)
        (stored,) = await connection.fetch(
            "select (select count(*) from measured.job_key) as ours,"
            " (select count(*) from measured.raw_job where key is not null) as raw"
        )

    assert (SMALL, SMALL) == tuple(stored)


async def test_a_mark_is_the_last_job(empty_database: str) -> None:
    """A side says that its load has ended when it has, and not before; what comes behind the mark does not count."""
    async with own_ground(empty_database, SCHEMA, SMALL) as ground, connect(empty_database) as connection:
        for side, ending in (
            (ground.ours, "delete from measured.job"),
            (ground.raw, "update measured.raw_job set state = 2"),
        ):
            await side.fill(Load(3))
            await side.mark()
            await side.fill(Load(2, priorities=2))
            assert not await side.finished()
            await connection.execute(ending)
            assert await side.finished()


def test_the_limits_worker_is_a_bare_program() -> None:
    """It loads nothing of ours but what it is made of: else its start and its memory would be no limit."""
    code = "import sys, jobqueue.bench.raw_worker; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    ours = {name for name in loaded if name.startswith("jobqueue")}
    assert {f"jobqueue{name}" for name in ("", ".bench", ".bench.child", ".bench.raw_worker", ".bench.sql")} == ours
    assert not {"pydantic", "structlog", "anyio", "typer"} & set(loaded)
