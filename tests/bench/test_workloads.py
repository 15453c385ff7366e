"""Each measurement on a real server, small: it gives figures on both sides, and has worked off what it says."""

import subprocess
import sys
from dataclasses import replace

import pytest

from jobqueue.bench.ground import own_ground
from jobqueue.bench.side import Load
from jobqueue.bench.workloads import WORKLOADS, Defer, Drain
from tests.support.jobs.store import connect

SCHEMA = "measured"
SMALL = 100


@pytest.mark.parametrize("start", range(0, len(WORKLOADS), 5))
@pytest.mark.timeout(240)
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
