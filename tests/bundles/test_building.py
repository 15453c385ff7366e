"""A bundle is stored whole or not at all, and its callbacks run when its members have ended."""

import asyncio
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from jobqueue import App, JobContext, Unique
from jobqueue.base.errors import (
    BundleEnded,
    BundleNotFound,
    ConfigurationError,
    InvalidOption,
    InvalidPayload,
    WaitTimeout,
)
from jobqueue.base.job import JobState
from jobqueue.store.flows import bundles
from jobqueue.tasks.jobs import Jobs
from tests.support.jobs.store import connect, open_session
from tests.support.jobs.working import counted, new_app
from tests.support.patience import PATIENCE


class Shop:
    """An app with a member that may fail, and callbacks that say when they ran."""

    def __init__(self, dsn: str) -> None:
        self.app = app = new_app(dsn)
        self.called: list[str] = []
        self.fails: set[int] = set()

        @app.task(max_attempts=1)
        async def load(number: int) -> int:
            if number in self.fails:
                raise OSError(number)
            return number * 10

        @app.task
        async def note(ctx: JobContext, word: str) -> None:
            assert ctx.bundle is not None
            self.called.append(f"{word} {(await ctx.bundle.get()).round}")

        @app.task
        async def total(ctx: JobContext) -> int:
            assert ctx.bundle is not None
            return sum((await ctx.bundle.results(load)).values())

        @app.task
        async def grow(ctx: JobContext, depth: int) -> None:
            assert ctx.bundle is not None
            if depth:
                await ctx.bundle.add_many([grow.job(depth - 1), grow.job(depth - 1)])

        self.load, self.note, self.total, self.grow = load, note, total, grow

    def callbacks(self) -> dict[str, object]:
        return {f"on_{word}": self.note.job(word) for word in ("success", "failure", "finish")}


async def test_callbacks_run_once_all_have_ended(database: str) -> None:
    """S4-83: 100 jobs, 3 fail for good: finish fires once, success does not, failure once; then a retry: round 2."""
    shop = Shop(database)
    shop.fails = {5, 50, 99}
    async with shop.app:
        async with shop.app.bundle("import", **shop.callbacks()) as b:  # type: ignore[arg-type]
            b.add_many(shop.load.job(number) for number in range(100))
        await shop.app.run_until_idle()
        bundle = await shop.app.bundles.get(b.id)
        assert (100, 97, 0, 3, True, True) == (
            bundle.added, bundle.completed, bundle.cancelled, bundle.dead, bundle.finished, bundle.has_errors
        )  # fmt: skip
        assert ["failure 1", "finish 1"] == sorted(shop.called)

        shop.fails, shop.called = set(), []
        assert 3 == len(await shop.app.bundles.retry(b.id))
        assert 3 == (await shop.app.bundles.get(b.id)).pending
        await shop.app.run_until_idle()
        bundle = await shop.app.bundles.get(b.id)
        assert (100, 0, 2, False) == (bundle.completed, bundle.dead, bundle.round, bundle.has_errors)
        assert ["finish 2", "success 2"] == sorted(shop.called)


async def test_an_error_in_the_block_stores_nothing(database: str) -> None:
    """S4-80: neither bundle nor jobs exist, whether the block raises or the last job cannot be stored."""
    shop = Shop(database)
    async with shop.app:
        with pytest.raises(ZeroDivisionError):
            async with shop.app.bundle("import") as b:
                b.add(shop.load.job(1))
                raise ZeroDivisionError
        bad = shop.load.job(3)
        object.__setattr__(bad, "args", '{"number": ')
        with pytest.raises(ValueError):
            async with shop.app.bundle("import") as c:
                c.add_many([shop.load.job(1), bad])
        for id in (b.id, c.id):
            with pytest.raises(BundleNotFound):
                await shop.app.bundles.get(id)
    assert 0 == await counted(database)


async def test_what_was_flushed_is_cancelled_with_the_block(database: str) -> None:
    """What may have run already cannot be unstored: its bundle ends as cancelled, and says so."""
    shop = Shop(database)
    async with shop.app:
        with pytest.raises(ZeroDivisionError):
            async with shop.app.bundle("import", **shop.callbacks()) as b:  # type: ignore[arg-type]
                b.add_many(shop.load.job(number) for number in range(3))
                await b.flush()
                assert (await shop.app.bundles.get(b.id)).open
                raise ZeroDivisionError
        bundle = await shop.app.bundles.wait(b.id, PATIENCE)
        assert (3, 3, True) == (bundle.added, bundle.cancelled, bundle.finished)
        await shop.app.run_until_idle()
    assert ["failure 1", "finish 1"] == sorted(shop.called)


async def test_a_bundle_joins_the_callers_transaction(database: str) -> None:
    """S4-80: it comes with the commit, and not at all with a rollback."""
    shop = Shop(database)
    async with shop.app, connect(database) as connection:
        with pytest.raises(ZeroDivisionError):
            async with connection.transaction(), shop.app.bundle("import", connection=connection) as lost:
                lost.add(shop.load.job(4))
                await lost.flush()
                raise ZeroDivisionError
        async with connection.transaction():
            async with shop.app.bundle("import", connection=connection) as b:
                handle = b.add(shop.load.job(4))
            with pytest.raises(BundleNotFound):
                await shop.app.bundles.get(b.id)
            assert 1 == (await shop.app.bundles.get(b.id, connection=connection)).added
        with pytest.raises(BundleNotFound):
            await shop.app.bundles.get(lost.id)
        async with shop.app.worker():
            assert 40 == await handle.result(PATIENCE)
            assert (await shop.app.bundles.wait(b.id, PATIENCE)).finished


async def test_members_add_members(database: str) -> None:
    """`ctx.bundle.add`: a bundle does not end while a member may still add to it, however the ends come."""
    shop = Shop(database)
    async with shop.app:
        async with shop.app.bundle("tree", on_finish=shop.note.job("finish")) as b:
            b.add(shop.grow.job(7))
        await shop.app.run_until_idle()
        bundle = await shop.app.bundles.get(b.id)
    assert (255, 255, 1) == (bundle.added, bundle.completed, bundle.round)
    assert ["finish 1"] == shop.called


async def test_a_member_adds_in_its_transaction(database: str) -> None:
    """`ctx.bundle.add(job, connection=conn)` commits with the member's own end, or is undone with it."""
    shop = Shop(database)

    @shop.app.task(max_attempts=1)
    async def split(ctx: JobContext, works: bool) -> None:
        assert ctx.bundle is not None
        async with ctx.transaction() as connection:
            await ctx.bundle.add(shop.load.job(1), connection=connection)
            if not works:
                raise ZeroDivisionError
            ctx.complete()

    async with shop.app:
        async with shop.app.bundle("import") as b:
            b.add_many([split.job(True), split.job(False)])
        await shop.app.run_until_idle()
        bundle = await shop.app.bundles.get(b.id)
    assert (3, 2, 1, True) == (bundle.added, bundle.completed, bundle.dead, bundle.finished)


async def test_a_member_that_cannot_be_stored_is_refused(database: str) -> None:
    """What the database does not take is InvalidPayload to a member that adds it, as it is to whoever defers it."""
    shop, told = Shop(database), list[str]()

    @shop.app.task
    async def split(ctx: JobContext) -> None:
        assert ctx.bundle is not None
        bad = replace(shop.load.job(3), args='{"number": ')
        with pytest.raises(InvalidPayload) as refused:
            await ctx.bundle.add_many([shop.load.job(1), bad])
        told.append(str(refused.value))

    async with shop.app:
        async with shop.app.bundle("import") as b:
            b.add(split.job())
        await shop.app.run_until_idle()
        bundle = await shop.app.bundles.get(b.id)
    assert (1, 1) == (bundle.added, bundle.completed)
    assert len(told) == 1


async def test_members_are_steered_by_filter(database: str) -> None:
    """`jobs.cancel(bundle=)` and its like mean members and callbacks of one bundle, by the other filters too."""
    shop = Shop(database)
    async with shop.app:
        other = await shop.load.defer(9)
        async with shop.app.bundle("import") as b:
            handles = b.add_many([shop.load.job(0), shop.load.options(queue="slow").job(1)])
        moved = await shop.app.jobs.move(bundle=str(b.id), queue="slow", to="fast")
        assert [handles[1].id] == moved.changed
        assert {handle.id for handle in handles} == set((await shop.app.jobs.cancel(bundle=b.id)).changed)
        with pytest.raises(InvalidOption, match=r"^bundle: must be a UUID"):
            await shop.app.jobs.cancel(bundle="soon")
        assert JobState.READY is await other.status()


async def test_a_callback_may_add_a_stage(database: str) -> None:
    """What a callback adds opens the bundle again: it ends once more."""
    shop = Shop(database)

    @shop.app.task
    async def next_stage(ctx: JobContext) -> None:
        assert ctx.bundle is not None
        if (await ctx.bundle.get()).round < 3:
            await ctx.bundle.add(shop.load.job(1))

    async with shop.app:
        async with shop.app.bundle("stages", on_success=next_stage.job()) as b:
            b.add(shop.load.job(0))
        await shop.app.run_until_idle()
        bundle = await shop.app.bundles.get(b.id)
    assert (3, 3, 3, True) == (bundle.added, bundle.completed, bundle.round, bundle.finished)


async def test_results_are_read_by_the_callback(database: str) -> None:
    """S4-87: the callback sees what the members have given, decoded by the task's annotation."""
    shop = Shop(database)
    async with shop.app:
        async with shop.app.bundle("sum", on_success=shop.total.job()) as b:
            b.add_many(shop.load.job(number) for number in range(10))
        await shop.app.run_until_idle()
        (total,) = [job for job in await shop.app.bundles.members(b.id, payload=True) if job.task == "total"]
        results = await shop.app.bundles.results(b.id, shop.load)
    assert 450 == total.result
    assert [number * 10 for number in range(10)] == list(results.values())


async def test_a_bundle_in_a_bundle(database: str) -> None:
    """Nested: the outer one ends after the inner one, with its failure; retried, both end again."""
    shop = Shop(database)
    shop.fails = {1}
    async with shop.app:
        async with shop.app.bundle(
            "outer", on_failure=shop.note.job("outer"), on_success=shop.note.job("good")
        ) as outer:
            outer.add(shop.load.job(0))
            await outer.flush()
            async with shop.app.bundle("inner", parent=outer, on_failure=shop.note.job("inner")) as inner:
                inner.add_many([shop.load.job(1), shop.load.job(2)])
        await shop.app.run_until_idle()
        assert ["inner 1", "outer 1"] == sorted(shop.called)
        found = await shop.app.bundles.get(outer.id)
        assert (2, 1, 1) == (found.added, found.completed, found.dead)
        with pytest.raises(BundleEnded):
            async with shop.app.bundle("late", parent=outer) as late:
                late.add(shop.load.job(5))

        shop.fails, shop.called = set(), []
        assert 1 == len(await shop.app.bundles.retry(outer.id))
        await shop.app.run_until_idle()
        found = await shop.app.bundles.get(outer.id)
        assert (2, 2, 0, 2) == (found.added, found.completed, found.dead, found.round)
        assert ["good 2"] == shop.called


async def test_a_duplicate_is_no_member(database: str) -> None:
    """A job whose unique key another job holds is not stored, not counted, and its handle says so."""
    shop = Shop(database)
    async with shop.app:
        first = await shop.load.options(unique="k").defer(1)
        async with shop.app.bundle("import") as b:
            again = b.add(shop.load.options(unique="k").job(1))
            b.add(shop.load.job(2))
        assert (True, first.id) == (again.duplicate, again.id)
        assert 1 == (await shop.app.bundles.get(b.id)).added
        async with shop.app.bundle("import") as c:
            c.add(shop.load.options(unique=Unique("k")).job(1))
        assert (await shop.app.bundles.wait(c.id, PATIENCE)).finished, "without members it ends at once"


async def test_a_bundle_sent_again_is_stored_once(database: str) -> None:
    """With an id of the caller's a second call stores nothing, and says `duplicate`."""
    shop, id = Shop(database), uuid4()
    async with shop.app:
        for duplicate in (False, True):
            async with shop.app.bundle("import", id=id) as b:
                b.add(shop.load.job(1))
            assert duplicate is b.duplicate
    assert 1 == await counted(database)


async def test_what_is_wrong_is_said_at_once(database: str) -> None:
    """S4-81: no jobs, no job, a callback with a key, a name that is none: each one clear error, and nothing stored."""
    shop = Shop(database)
    async with shop.app:
        with pytest.raises(InvalidOption, match="has no jobs"):
            async with shop.app.bundle("empty"):
                pass
        async with shop.app.bundle("empty", empty="finish", on_success=shop.note.job("empty")) as b:
            pass
        with pytest.raises(InvalidOption, match=r"^on_success: must have neither"):
            shop.app.bundle("x", on_success=shop.load.options(unique="k").job(1))
        with pytest.raises(InvalidOption, match=r"^name: "):
            shop.app.bundle("")
        with pytest.raises(InvalidOption, match=r"^parent: must be a UUID"):
            shop.app.bundle("x", parent="soon")
        with pytest.raises(InvalidOption, match=r"^job: must be a job"):
            async with shop.app.bundle("x") as c:
                c.add("load")  # type: ignore[arg-type]
        with pytest.raises(InvalidOption, match=r"^task: must be a task"):
            await shop.app.bundles.results(b.id, len)
        with pytest.raises(ConfigurationError, match="add inside"):
            b.add(shop.load.job(1))
        await shop.app.run_until_idle()
    assert ["empty 1"] == shop.called


async def test_a_cancelled_bundle_ends_its_members(database: str) -> None:
    """Those that wait end at once, one that runs as soon as its worker has heard of it; nothing is added any more."""
    shop, running = Shop(database), asyncio.Event()

    @shop.app.task
    async def hang() -> None:
        running.set()
        await asyncio.Event().wait()

    async with shop.app:
        async with shop.app.bundle("import", on_failure=shop.note.job("failure")) as b:
            b.add(hang.job())
            b.add_many(shop.load.options(delay=3600).job(number) for number in range(3))
        async with shop.app.worker():
            await running.wait()
            assert 4 == len(await shop.app.bundles.cancel(b.id))
            bundle = await shop.app.bundles.wait(b.id, PATIENCE)
        assert (4, 4) == (bundle.added, bundle.cancelled)
        assert bundle.cancel_asked is not None
        await shop.app.run_until_idle()
        assert ["failure 1"] == shop.called


async def test_a_deleted_bundle_leaves_nothing(database: str) -> None:
    """S4-88: the bundle goes with its members, finished or not; of what others have nothing."""
    shop = Shop(database)
    async with shop.app:
        other = await shop.load.defer(1)
        async with shop.app.bundle("import", on_success=shop.note.job("x")) as b:
            b.add(shop.load.job(2))
        await shop.app.run_until_idle()
        await shop.app.bundles.delete(b.id)
        with pytest.raises(BundleNotFound):
            await shop.app.bundles.get(b.id)
        assert [other.id] == [job.id for job in await shop.app.jobs.list()]
        assert JobState.COMPLETED is await other.status()


async def test_a_deleted_bundle_calls_nobody_back(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that adds up between the last member's removal and the bundle's ends it, and nothing comes of that."""
    shop, delete = Shop(database), Jobs.delete

    async def delete_and_add_up(self: Jobs, **which: Any) -> object:
        done = await delete(self, **which)
        async with open_session(database) as session:
            await bundles.fold_bundles(session, [b.id])
        return done

    monkeypatch.setattr(Jobs, "delete", delete_and_add_up)
    async with shop.app:
        async with shop.app.bundle("import", **shop.callbacks()) as b:  # type: ignore[arg-type]
            b.add(shop.load.job(2))
        await shop.app.bundles.delete(b.id)
        with pytest.raises(BundleNotFound):
            await shop.app.bundles.get(b.id)
    assert 0 == await counted(database)


async def test_what_ended_the_block_is_what_is_raised(database: str) -> None:
    """Also if what was flushed cannot be cancelled: an error, or a cancellation, is not hidden by another one."""
    shop = Shop(database)
    async with shop.app:
        with pytest.raises(ZeroDivisionError):
            async with shop.app.bundle("import") as b:
                b.add(shop.load.job(1))
                await b.flush()
                await shop.app.bundles.delete(b.id)
                raise ZeroDivisionError


async def test_bundles_are_listed(database: str) -> None:
    """The newest first; by name, and those that are unfinished only."""
    shop = Shop(database)
    async with shop.app:
        ids = []
        for name in ("a", "b", "a"):
            async with shop.app.bundle(name) as b:
                b.add(shop.load.job(1))
            ids.append(b.id)
        assert ids[::-1] == [bundle.id for bundle in await shop.app.bundles.list()]
        assert [ids[1]] == [bundle.id for bundle in await shop.app.bundles.list(after=ids[2], limit=1)]
        assert [ids[2], ids[0]] == [bundle.id for bundle in await shop.app.bundles.list(name="a")]
        await shop.app.bundles.cancel(ids[0])
        await shop.app.bundles.wait(ids[0], PATIENCE)
        assert [ids[2]] == [bundle.id for bundle in await shop.app.bundles.list(name="a", unfinished=True)]


async def test_a_wait_ends_in_time(database: str) -> None:
    """`wait` without a worker raises a TimeoutError that says what is left, and leaves the bundle alone."""
    shop = Shop(database)
    async with shop.app:
        async with shop.app.bundle("import") as b:
            b.add(shop.load.job(1))
        with pytest.raises(TimeoutError, match=f"bundle {b.id} .* within 0.05 s: 1 of its 1 jobs are left") as told:
            await shop.app.bundles.wait(b.id, 0.05)
        assert isinstance(told.value, WaitTimeout)
        assert 1 == (await shop.app.bundles.get(b.id)).pending
        with pytest.raises(BundleNotFound):
            await shop.app.bundles.wait(uuid4(), 0)
        async with shop.app.bundle("nothing", empty="finish") as ended:
            pass
        await shop.app.bundles.wait(ended.id, PATIENCE)
        assert (await shop.app.bundles.wait(ended.id, 0)).finished


def test_an_app_without_a_database_refuses(database: str) -> None:
    """`App.null()` has no bundles: it says what it needs."""
    app = App.null()
    with pytest.raises(ConfigurationError, match="database"):
        asyncio.run(listed(app))


async def listed(app: App) -> object:
    return await app.bundles.list()


async def test_members_are_listed_as_jobs_are(database: str) -> None:
    """`jobs.list(bundle=)`: only its members and callbacks, by the same filters, page by page."""
    shop = Shop(database)
    async with shop.app:
        await shop.load.defer(0)
        async with shop.app.bundle("import", on_finish=shop.note.job("finish")) as b:
            handles = b.add_many(shop.load.job(number) for number in range(5))
        await shop.app.run_until_idle()
        ids = [handle.id for handle in handles]
        first = await shop.app.jobs.list(bundle=b.id, task="load", limit=3)
        rest = await shop.app.jobs.list(bundle=b.id, task="load", limit=3, after=first.next)
        called = await shop.app.jobs.list(bundle=str(b.id), task="note")
        none = await shop.app.jobs.list(bundle=b.id, state="dead")

    assert ids[::-1] == [job.id for job in (*first, *rest)]
    assert ([b.id], None, []) == ([job.bundle_id for job in called], rest.next, none)


async def test_the_log_tells_of_bundles(database: str) -> None:
    """Each end and each reopening is an event, with how it ended; the members' events carry the bundle's id."""
    shop = Shop(database)
    shop.fails = {1}
    async with shop.app:
        async with shop.app.bundle("import") as b:
            b.add_many([shop.load.job(0), shop.load.job(1)])
        await shop.app.run_until_idle()
        shop.fails = set()
        await shop.app.bundles.retry(b.id)
        await shop.app.run_until_idle()
        told = []
        async for event in shop.app.events(after="0", bundle=b.id):
            told.append((event.type, event.reason))
            if told.count(("bundle.finished", "completed")):
                break
            assert b.id == event.bundle_id

    assert [("bundle.finished", "dead"), ("bundle.reopened", None), ("bundle.finished", "completed")] == [
        one for one in told if one[0].startswith("bundle.")
    ]
    assert ["job.completed", "job.completed", "job.dead", "job.revived"] == sorted(
        type for type, _ in told if type.startswith("job.")
    )
