"""Members among all other jobs: meant, spared, counted."""

import pytest

from jobqueue.base.errors import InvalidOption
from jobqueue.base.flows.bundle import BundleCounts
from tests.support.jobs.working import new_app


async def test_a_deletion_spares_members_if_it_is_told_to(database: str) -> None:
    """S4-99: of what has ended, jobs of no bundle go alone with `bundled=False`, and members alone with True."""
    app = new_app(database)

    @app.task
    async def load(page: int) -> int:
        return page

    async with app:
        async with app.bundle("import") as b:
            members = b.add_many([load.job(page) for page in range(3)])
        others = [await load.defer(page) for page in range(4)]
        await app.run_until_idle()

        would = await app.jobs.delete(state="completed", bundled=False, dry_run=True)
        assert {job.id for job in others} == set(would.changed)
        assert {job.id for job in others} == set((await app.jobs.delete(state="completed", bundled=False)).changed)
        assert 3 == len(await app.bundles.results(b.id, load))
        assert {job.id for job in members} == set((await app.jobs.delete(bundled=True, task="load")).changed)
        assert 3 == (await app.bundles.get(b.id)).completed


async def test_contradictions_are_refused(database: str) -> None:
    """`bundled` is True or False; it says nothing beside a bundle, or a key."""
    async with new_app(database) as app:
        for wrong in ({"bundled": 1}, {"bundled": False, "bundle": "01a20466-0396-7560-92ef-adfe1f5cacd8"}):
            with pytest.raises(InvalidOption, match=r"^bundled: "):
                await app.jobs.cancel(**wrong)
        with pytest.raises(InvalidOption, match=r"^key: "):
            await app.jobs.cancel(key="k", task="t", bundled=False)


async def test_an_app_counts_its_bundles(database: str) -> None:
    """S4-97: how many have ended, how many have not, and in how many something failed."""
    app = new_app(database)

    @app.task(max_attempts=1)
    async def load(fails: bool) -> None:
        if fails:
            raise ValueError("no")

    async with app:
        for fails in (True, False):
            async with app.bundle("import") as b:
                b.add(load.job(fails))
        await app.run_until_idle()
        async with app.bundle("waits") as b:
            b.add(load.options(delay=60).job(False))
        counts = await app.bundles.counts()

    assert BundleCounts(unfinished=1, finished=2, with_errors=1) == counts
