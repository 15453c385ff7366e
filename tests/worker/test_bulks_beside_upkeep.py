"""What does bulk actions: it looks only if there is one, and goes on whatever is removed from beneath it meanwhile."""

import pytest

from jobqueue import BulkState
from jobqueue.base.settings import Settings
from jobqueue.store.upkeep import Ages, sweep
from jobqueue.worker.bulks import BulkRunner
from tests.support.history import finished, kept
from tests.support.jobs.store import open_database
from tests.support.jobs.working import asked, new_app

DAY = 86_400.0
PAGE, MANY = 500, 600


async def test_a_worker_that_starts_looks_only_if_there_is_one_to_do(database: str) -> None:
    """It asks on the connection on which the worker registers, and opens none of its own."""
    async with new_app(database) as app, open_database(database) as db:
        runner, session = BulkRunner(db, Settings()), db.session()
        runner.wakeup.ring()  # as the listener does when it begins

        await runner.look_first(session)
        assert not await runner.wakeup.wait(0)

        await app.jobs.bulk("retry", queue="mail", by="ada")
        await runner.look_first(session)
        assert await runner.wakeup.wait(0)
        assert 1 == db.pool.get_size()
        await session.close()


@pytest.mark.parametrize(
    ("age", "left"), [(5 * DAY, 2), (3 * DAY, 1), (DAY, 0)], ids=["where it is", "and the next", "all"]
)
async def test_days_of_the_archive_are_dropped_in_the_middle(database: str, age: float, left: int) -> None:
    """It passes over what is gone, does not fail, and its numbers are those that it changed."""
    for days in (2, 4, 6):  # the later a day, the lower its ids: no place within one leads into another
        finished(database, MANY, seconds=days * DAY, queue="mail", state="dead")
    async with new_app(database) as app, open_database(database) as db:
        bulk = await app.jobs.bulk("retry", queue="mail", by="ada")
        runner = BulkRunner(db, Settings())
        while (await app.bulks.get(bulk.id)).changed == 0:
            await runner.look()
        assert {("mail", "dead"): 3 * MANY - PAGE} == kept(database)

        assert 3 - left == (await sweep(db, Ages(other=age))).days
        while not (done := await app.bulks.get(bulk.id)).finished:
            await runner.look()

        (entry,) = await app.audit.list()
    expected = PAGE + left * MANY
    assert (BulkState.FINISHED, expected, expected, {}) == (done.state, done.matched, done.changed, dict(done.refused))
    assert (expected, expected) == (entry.matched, entry.changed)
    assert {} == kept(database)
    assert expected == await asked(database, "select count(*) from jobqueue.job where state = 'ready'")
