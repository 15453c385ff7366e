"""The processes of a measurement: they end with their line, and a failure is told in their own words."""

import pytest

from jobqueue.bench import children
from jobqueue.bench.children import Child, ChildFailed, team
from jobqueue.bench.ground import own_ground
from jobqueue.bench.producing import Order
from tests.support.patience import PATIENCE

SCHEMA = "measured"


@pytest.mark.parametrize("kind", ["ours", "limit", "producer"])
async def test_a_process_ends_with_its_line(empty_database: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever it is: once the bench is gone it ends by itself, and nobody has to kill it."""
    monkeypatch.setattr(children, "_END", PATIENCE)
    async with own_ground(empty_database, SCHEMA, 100) as ground:
        words = {
            "ours": ground.ours.worker(5),
            "limit": ground.raw.worker(5),
            "producer": Order(side="limit", count=10, limit=30.0).words,
        }
        child = await Child.start(words[kind], ground.environment)
        await child.ready()
        await child.end()

    assert child.code is not None
    assert child.code >= 0


async def test_what_a_process_said_is_told(empty_database: str) -> None:
    """The last line of its error is in ours, whether it is waited for or not."""
    words = ("jobqueue.bench.producing", "{line}", "no order")
    async with own_ground(empty_database, SCHEMA, 100) as ground, team(words, 1, ground.environment) as failing:
        with pytest.raises(ChildFailed, match=r"ended with 1: .*JSONDecodeError"):
            await failing.ready()
