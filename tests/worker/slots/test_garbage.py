"""What a finished job leaves to the garbage collector: nothing, for that costs a fifth of a worker's speed."""

import gc
from collections import Counter

from tests.support.jobs.working import new_app


async def test_a_run_leaves_no_circle(database: str) -> None:
    """All that a run was made of goes with its last reference."""
    app = new_app(database)

    @app.task
    async def work(number: int) -> int:
        return number

    async with app:
        await work.defer_many(range(100))
        gc.collect()
        gc.disable()
        try:
            await app.run_until_idle()
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            left = Counter(type(thing).__name__ for thing in gc.garbage)
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    assert [] == [name for name in ("Attempt", "Hold", "JobContext", "RunState", "Record") if left[name] >= 100]
