"""Wake-ups: nobody who waits for a job may miss it, and nobody polls fast for that."""

import pytest

from jobqueue.base.service import Wakeup
from jobqueue.worker.claiming.wakeup import router
from tests.support.jobs.racing import Race
from tests.support.rounds import LONG


@pytest.mark.timeout(300)
async def test_no_wake_up_is_lost(database: str) -> None:
    """S1-07, S4-31: jobs deferred in all ways just when workers go to sleep start at once; none waits for the poll.

    800 random moments; 10 000 with JOBQUEUE_LONG=1.
    """
    moments = 10_000 if LONG else 800
    race = Race(database, seed=1)
    await race.run(moments, lanes=8)

    assert [] == race.lost
    assert moments == len(race.latencies)


async def test_a_ring_is_kept_until_it_is_heard() -> None:
    """A ring before the wait ends it at once; cleared rings are forgotten; without one the wait ends by itself."""
    wakeup = Wakeup()
    assert not await wakeup.wait(0)
    wakeup.ring()
    assert await wakeup.wait(60)
    assert await wakeup.wait(60)
    wakeup.clear()
    assert not await wakeup.wait(0.001)


def test_notifications_ring_those_whom_they_concern() -> None:
    """A ready job rings the claimer if it serves the queue, a due one the stager, a gap both; a cancel rings nobody.

    Nor does a reader of the log, what is to be added up, or a schedule. Who stands at a gate rings the admitter only.
    """
    claimer, stager, admitter, gaps, readers, facts, due = (Bell() for _ in range(7))
    cancelled: list[int] = []
    hear = router(
        claimer,
        stager,
        admitter,
        lambda queue: queue == "ours",
        gaps.ring,
        cancelled.extend,
        readers.ring,
        facts.ring,
        due.ring,
    )

    hear("r:theirs")
    assert [0, 0, 0] == [claimer.rings, stager.rings, gaps.rings]
    hear("r:ours")
    assert [1, 0, 0] == [claimer.rings, stager.rings, gaps.rings]
    hear("d:theirs")
    assert [1, 1, 0] == [claimer.rings, stager.rings, gaps.rings]
    hear("c:7")
    assert [1, 1, 0] == [claimer.rings, stager.rings, gaps.rings]
    hear("c:rubbish")
    assert [7] == cancelled
    hear("l:")
    assert [1, 1, 0, 1] == [claimer.rings, stager.rings, gaps.rings, readers.rings]
    hear("f:")
    assert [1, 1, 0, 1] == [claimer.rings, stager.rings, gaps.rings, facts.rings]
    hear("s:")
    assert [1, 1, 0, 1] == [claimer.rings, stager.rings, gaps.rings, due.rings]
    assert 0 == admitter.rings
    hear("d:")
    assert [1, 1, 0, 1] == [claimer.rings, stager.rings, gaps.rings, admitter.rings]
    hear(None)
    assert [2, 2, 1, 2, 2] == [claimer.rings, stager.rings, gaps.rings, due.rings, admitter.rings]


class Bell(Wakeup):
    """Counts its rings. It needs no event loop."""

    def __init__(self) -> None:
        self.rings = 0

    def ring(self) -> None:
        self.rings += 1
