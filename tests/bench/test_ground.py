"""The bench's schema, and steps that never end: whatever happens, it ends, and says what it leaves."""

import asyncio
from dataclasses import dataclass, replace
from typing import Any

import anyio
import pytest

from jobqueue.base.errors import ConfigurationError
from jobqueue.bench import ground as module
from jobqueue.bench.figures import Sample
from jobqueue.bench.ground import Ground, NotDropped, own_ground
from jobqueue.bench.run import TooSlow, measure
from jobqueue.bench.side import Side
from jobqueue.bench.workloads import Drain, Workload
from tests.support.jobs.store import connect
from tests.support.patience import scaled

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


class Late:
    """A side whose last job ends before some others, or whose workers lose one for good."""

    def __init__(self, side: Side, missing: int) -> None:
        self._side = side
        self._missing = missing

    def __getattr__(self, name: str) -> object:
        return getattr(self._side, name)

    async def tally(self, *given: Any) -> tuple[int, float]:
        jobs, seconds = await self._side.tally(*given)
        self._missing -= 1
        return (jobs - 1, seconds) if self._missing >= 0 else (jobs, seconds)


async def test_a_drain_waits_for_those_that_end_after_the_last(empty_database: str) -> None:
    """What was given back runs after the job that was stored last: it counts, and it is no error."""
    async with own_ground(empty_database, SCHEMA, 100) as ground:
        late: Any = Late(ground.raw, missing=3)
        assert (await Drain("drain", "drain").run(ground, late)).values[0] > 0
        assert late._missing < 0


async def test_half_a_drain_is_no_figure(empty_database: str) -> None:
    """Jobs that never end are an error, and no better rate."""
    async with own_ground(empty_database, SCHEMA, 100) as ground:
        lossy: Any = Late(ground.raw, missing=10**9)
        with pytest.raises(TooSlow, match="drain: one run was not done within"):
            short = replace(ground, limit=scaled(3.0), ours=lossy)
            await measure(short, [Drain("drain", "drain")], 1, lambda series, last: None)
