"""The bench's schema, and steps that never end: whatever happens, it ends, and says what it leaves."""

import asyncio
from dataclasses import dataclass, replace

import anyio
import pytest

from jobqueue.base.errors import ConfigurationError
from jobqueue.bench import ground as module
from jobqueue.bench.figures import Sample
from jobqueue.bench.ground import Ground, NotDropped, own_ground
from jobqueue.bench.run import TooSlow, measure
from jobqueue.bench.side import Side
from jobqueue.bench.workloads import Drain, Unfinished, Workload
from tests.support.jobs.store import connect

SCHEMA = "measured"


async def is_there(dsn: str) -> bool:
    async with connect(dsn) as connection:
        return bool(await connection.fetchval("select to_regnamespace($1) is not null", SCHEMA))


async def test_it_is_there_for_its_block_alone(empty_database: str) -> None:
    """Also if the block fails; and one that is there already is nobody's to drop."""
    with pytest.raises(RuntimeError, match="inside"):
        async with own_ground(empty_database, SCHEMA, 100):
            assert await is_there(empty_database)
            with pytest.raises(ConfigurationError, match=f"schema {SCHEMA} is there already"):
                async with own_ground(empty_database, SCHEMA, 100):
                    pass
            assert await is_there(empty_database)
            raise RuntimeError("inside")
    assert not await is_there(empty_database)


async def test_a_cancellation_leaves_nothing(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelled when the schema is made, and the answer still on its way: in the end it is not there."""
    made, heard, execute = asyncio.Event(), asyncio.Event(), module._execute

    async def execute_slowly(dsn: str, schema: str, text: str) -> None:
        await execute(dsn, schema, text)
        made.set()
        await heard.wait()

    async def make() -> None:
        async with own_ground(empty_database, SCHEMA, 100):
            raise AssertionError

    monkeypatch.setattr(module, "_execute", execute_slowly)
    making = asyncio.create_task(make())
    await made.wait()
    making.cancel()
    await asyncio.sleep(0)
    heard.set()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert not await is_there(empty_database)


async def test_what_cannot_be_dropped_is_told(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody holds a table of it: the bench does not wait for ever, and says what to do."""
    async with connect(empty_database) as connection:
        with pytest.raises(NotDropped, match=f"drop schema {SCHEMA} cascade"):
            async with own_ground(empty_database, SCHEMA, 100):
                await connection.execute(f"begin; lock table {SCHEMA}.raw_job")
                monkeypatch.setattr(module, "BRIEF", 0.5)


@dataclass(frozen=True, slots=True)
class Endless(Workload):
    async def run(self, ground: Ground, side: Side) -> Sample:
        await anyio.sleep_forever()
        raise AssertionError


async def test_a_run_that_hangs_is_ended(empty_database: str) -> None:
    """Each sample has a limit, after which the bench says which measurement it was."""
    async with own_ground(empty_database, SCHEMA, 100) as ground:
        with pytest.raises(TooSlow, match="endless: one run was not done within"):
            await measure(replace(ground, limit=0.5), [Endless("endless", "endless")], 1, lambda series, last: None)


class Lossy:
    """A side whose workers lose a job."""

    def __init__(self, side: Side) -> None:
        self._side = side

    def __getattr__(self, name: str) -> object:
        return getattr(self._side, name)

    async def tally(self, *given: object) -> tuple[int, float]:
        return 99, 1.0


async def test_half_a_drain_is_no_figure(empty_database: str) -> None:
    """Jobs that were left behind are an error, and no better rate."""
    async with own_ground(empty_database, SCHEMA, 100) as ground:
        lossy: object = Lossy(ground.raw)
        with pytest.raises(Unfinished, match="limit: 1 of 100 jobs have not ended"):
            await Drain("drain", "drain").run(ground, lossy)  # type: ignore[arg-type]
