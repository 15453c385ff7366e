"""Bundles inside `app.testing()`."""

import asyncio
from typing import Any

import pytest

from jobqueue import App, BundleEnded, BundleNotFound, ConfigurationError, JobContext, JobNotFound, JobState, NewJob
from jobqueue.testing import Kit


class Shop:
    """Tasks of a bundle, and what they told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.app = App(name="shop")

        @self.app.task(max_attempts=1)
        async def load(name: str) -> str:
            self.told.append(name)
            if name.startswith("bad"):
                raise RuntimeError(name)
            return name.upper()

        @self.app.task
        async def merge(ctx: JobContext) -> list[str]:
            self.told.append("merge")
            return await ctx.results(load)

        @self.app.task
        async def report(ctx: JobContext, how: str) -> None:
            assert ctx.bundle is not None
            found = await ctx.bundle.results(load)
            self.told.append(f"{how} {','.join(found.values())} {(await ctx.bundle.get()).completed}")

        self.load, self.merge, self.report = load, merge, report

    def bundle(self, name: str = "import", **more: Any) -> Any:
        """One that calls back in every way."""
        job = self.report.job
        return self.app.bundle(name, on_success=job("good"), on_failure=job("bad"), on_finish=job("end"), **more)


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Shop:
    """On no database."""
    monkeypatch.setenv("JOBQUEUE_DSN", "postgresql://postgres@127.0.0.1:1/none")
    return Shop()


@pytest.mark.parametrize("mode", ["record", "inline"])
async def test_jobs_run_in_the_order_of_their_edges_then_callbacks(shop: Shop, mode: Any) -> None:
    """S4-110: what comes after others runs after them, callbacks run last, results are found."""
    async with shop.app.testing(mode) as t:
        async with shop.bundle() as b:
            first, second = b.add(shop.load.job("b")), b.add(shop.load.job("a"))
            merged = b.add(shop.merge.options(priority=9).job(), after=[second, first])
            assert [] == shop.told
        await t.drain()
        assert ["b", "a", "merge"] == shop.told[:3]
        assert {"good B,A 3", "end B,A 3"} == set(shop.told[3:])
        assert ["A", "B"] == await merged.result()
        bundle = await shop.app.bundles.wait(b.id)
        assert (True, 3, 1) == (bundle.finished, bundle.completed, bundle.round)
        assert {first.id: "B", second.id: "A"} == await shop.app.bundles.results(b.id, shop.load)


async def test_a_failed_member_dooms_what_needs_it(shop: Shop) -> None:
    """What needs a dead job is cancelled, what takes any end runs, and the failure is called back."""
    async with shop.app.testing() as t:
        async with shop.bundle() as b:
            bad = b.add(shop.load.job("bad"))
            doomed = b.add(shop.merge.job(), after=[bad])
            further = b.add(shop.merge.job(), after=[doomed])
            anyway = b.add(shop.merge.job(), after=[bad], when="ended")
        with pytest.raises(TimeoutError, match="drain"):
            await shop.app.bundles.wait(b.id)
        await t.drain()
        assert ["dead", "cancelled", "cancelled", "completed"] == [
            await handle.status() for handle in (bad, doomed, further, anyway)
        ]
        assert {"bad  1", "end  1"} == set(shop.told[2:])
        assert "dependency" == (await shop.app.jobs.get(doomed.id)).reason


async def test_members_may_add_and_a_parent_ends_last(shop: Shop) -> None:
    """A job adds to its bundle, which ends once more; a bundle within another is a member of it."""

    @shop.app.task
    async def spread(ctx: JobContext, names: list[str]) -> None:
        assert ctx.bundle is not None
        await ctx.bundle.add_many([shop.load.job(name) for name in names])

    async with shop.app.testing("inline"):
        async with shop.bundle("outer") as outer, shop.app.bundle("inner", parent=outer) as inner:
            inner.add(shop.load.job("x"))
            outer.add(spread.job(["y", "z"]))
            await outer.flush()
        assert ["y", "z", "x"] == shop.told[:3]
        assert {"good Y,Z 4", "end Y,Z 4"} == set(shop.told[3:])
        with pytest.raises(BundleEnded):
            async with shop.app.bundle("late", parent=outer) as late:
                late.add(shop.load.job("w"))


async def test_all_or_nothing_and_known_ids(shop: Shop) -> None:
    """An unknown `after` keeps nothing of the bundle; a bundle of a known id is a duplicate."""
    some = "0192f0c0-0000-7000-8000-000000000001"
    async with shop.app.testing() as t:
        with pytest.raises(JobNotFound):
            async with shop.bundle(id=some) as b:
                b.add(shop.load.job("a"))
                b.add(shop.load.job("b"), after=["0192f0c0-0000-7000-8000-000000000002"])
        assert [] == t.deferred()
        with pytest.raises(BundleNotFound):
            await shop.app.bundles.get(some)
        for duplicate in (False, True):
            async with shop.bundle(id=some) as b:
                b.add(shop.load.job("a"))
            assert duplicate is b.duplicate
        assert 1 == len(t.deferred())
        changes = await shop.app.bundles.cancel(some)
        assert 1 == len(changes)
        await t.drain()
        assert {"bad  0", "end  0"} == set(shop.told)


def tasks(t: Kit) -> list[str]:
    return [job.task for job in t.deferred()]


async def test_each_way_to_ignore_jobs(shop: Shop) -> None:
    """S4-111: all, of a task, of some, by a function: just those are dropped, and their handles say so."""
    load, merge, report = shop.load, shop.merge, shop.report

    async def send_all() -> list[bool]:
        handles = [await load.defer("a"), *await load.defer_many(["b"]), await merge.defer(), await report.defer("x")]
        handles += await shop.app.defer_many([load.job("c"), merge.job()])
        return [handle.ignored for handle in handles]

    async with shop.app.testing() as beneath:
        for which, dropped in (
            (None, "abmxcm"), (True, "abmxcm"), (load, "abc"), ([load, report], "abxc"),
            (lambda job: '"b"' in job.args, "b"), (False, ""),
        ):  # fmt: skip
            before = len(beneath.deferred())
            async with shop.app.testing("ignore", jobs=which) as t:  # type: ignore[arg-type]
                assert [letter in dropped for letter in "abmxcm"] == await send_all()
            assert (len(dropped), 6 - len(dropped)) == (len(t.deferred()), len(beneath.deferred()) - before)
        async with shop.app.testing("ignore", jobs=merge) as t:
            handle = await merge.defer()
            assert (JobState.CANCELLED, "too_late") == (await handle.status(), await handle.cancel())
            assert "ignored" == (t.assert_deferred(merge, times=1)[0].reason)
            assert "ignored" in repr(handle)
            for use in (lambda: t.clock, t.drain):
                with pytest.raises(ConfigurationError, match="runs nothing"):
                    await use()  # type: ignore[misc]


async def test_each_way_to_ignore_bundles(shop: Shop) -> None:
    """S4-111: all bundles, or those that a function chooses, are dropped with their callbacks."""
    async with shop.app.testing() as beneath:
        for which, name, ignored in (
            (True, "a", True), (lambda bundle: bundle.name == "a", "a", True),
            (lambda bundle: bundle.name == "a", "b", False), (None, "a", True),
        ):  # fmt: skip
            before = len(beneath.deferred())
            async with shop.app.testing("ignore", bundles=which) as t, shop.bundle(name) as b:
                handle = b.add(shop.load.job("x"))
            assert (ignored, ignored) == (b.ignored, handle.ignored)
            assert (int(ignored), int(not ignored)) == (len(t.deferred()), len(beneath.deferred()) - before)


async def test_a_bundle_without_its_ignored_jobs(shop: Shop) -> None:
    """S4-111: what comes after a dropped job does not wait for it."""
    async with shop.app.testing() as t:
        async with shop.app.testing("ignore", jobs=shop.load), shop.bundle() as b:
            dropped = b.add(shop.load.job("a"))
            kept = b.add(shop.merge.job(), after=[dropped])
        assert (True, False) == (dropped.ignored, kept.ignored)
        await t.drain()
        assert ["merge"] == shop.told[:1]
        assert {"good  1", "end  1"} == set(shop.told[1:])


async def test_a_bundle_without_its_ignored_callbacks(shop: Shop) -> None:
    """S4-111: a dropped task is not called back either, nor added by a member that runs; the rest is as ever."""

    @shop.app.task
    async def grow(ctx: JobContext) -> list[bool]:
        assert ctx.bundle is not None
        added = [await ctx.bundle.add(shop.merge.job()), *await ctx.bundle.add_many([shop.report.job("x")])]
        return [one.ignored for one in added]

    async with shop.app.testing() as t, shop.app.testing("ignore", jobs=shop.report) as ignoring:
        async with shop.app.bundle("b", on_success=shop.report.job("good"), on_finish=shop.load.job("end")) as b:
            grown = b.add(grow.job())
        await t.drain()
        assert [False, True] == await grown.result()
        assert (["grow", "merge", "load"], ["report"]) == (tasks(t), tasks(ignoring))


async def test_middleware_goes_around_what_is_ignored() -> None:
    """S4-113: by every way of deferring, middleware sees a dropped job as one that is kept, and each just once."""
    seen: list[str] = []

    async def look(job: NewJob[Any], call_next: Any) -> Any:
        seen.append(job.task)
        return await call_next(job)

    app = App(name="shop", middleware=[look])
    kept, dropped = app.task(name="kept")(_note), app.task(name="dropped")(_note)
    async with app.testing(), app.testing("ignore", jobs=dropped):
        await dropped.defer()
        await app.defer_many([dropped.job(), kept.job()])
        await asyncio.to_thread(app.defer_many_sync, [kept.job(), dropped.job()])
        async with app.bundle("b") as b:
            handles = [b.add(dropped.job()), b.add(kept.job())]
    assert (4, 3) == (seen.count("dropped"), seen.count("kept"))
    assert [True, False] == [handle.ignored for handle in handles]


async def test_the_null_app_ignores_bundles() -> None:
    """S4-11: App.null() drops bundles as it drops jobs."""
    shop = Shop()
    app = App.null()
    job = app.task(_note).job
    async with app, app.bundle("import", on_success=job()) as b:
        handle = b.add(job())
    assert (True, True) == (b.ignored, handle.ignored)
    assert [] == shop.told


async def _note() -> None: ...
