"""A bundle ends whatever happens to those who should see to it."""

from uuid import UUID

import pytest

from jobqueue.base.outcome import Dead
from jobqueue.store.connection.session import Session
from jobqueue.store.flows import bundles
from jobqueue.store.flows.bundles import Folded, heal_bundles
from jobqueue.worker.ending import folding
from tests.support.jobs.bundled import CALLBACKS, counts, fold, now, stored
from tests.support.jobs.store import claim, connect, failure, finish, open_session
from tests.support.jobs.working import new_app
from tests.support.patience import PATIENCE
from tests.support.waiting import wait_until


async def test_what_a_dead_worker_has_noted_is_added_up(database: str) -> None:
    """Killed between the finish and the fold, a worker leaves facts: the next one that lives ends the bundle."""
    app = new_app(database)
    called: list[str] = []

    @app.task
    async def on_finish() -> None:
        called.append("finish")

    async with open_session(database) as session:
        id = await stored(session, 3, CALLBACKS[2])
        await finish(session, *await claim(session))
        assert not (await now(session, id)).finished
    async with app, app.worker():
        assert (await app.bundles.wait(id, PATIENCE)).finished
        await wait_until(lambda: called, "the callback has run")
    assert ["finish"] == called


@pytest.mark.parametrize("left", [0, 1])
async def test_members_that_are_deleted_past_us_count_as_cancelled(
    database: str, monkeypatch: pytest.MonkeyPatch, left: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Rows deleted by hand leave no fact; the bundle ends all the same, with what is left of it, and as failed."""
    monkeypatch.setattr(folding, "_INSPECTION", 0.05)
    app = new_app(database)

    @app.task
    async def task() -> None: ...

    async with open_session(database) as session, connect(database) as connection:
        id = await stored(session, 3)
        doomed = "select id from jobqueue.job order by id limit $1"
        await connection.execute(f"delete from jobqueue.job where id in ({doomed})", 3 - left)
    async with app, app.worker():
        bundle = await app.bundles.wait(id, PATIENCE)
    assert (3, left, 3 - left, 0) == counts(bundle)
    assert "bundles.healed" in caplog.text


async def test_nothing_is_healed_that_is_well(database: str) -> None:
    """A bundle with members, with facts, with a bundle in it, or open: each is left alone."""
    async with open_session(database) as session:
        waits = await stored(session, 1)
        inner = await stored(session, 1, parent=None)
        outer = await stored(session, 1)
        rows = {row["bundle_id"]: row for row in await claim(session)}
        await finish(session, rows[outer])
        nested = await stored(session, 1, parent=waits)
        assert [] == await heal_bundles(session, 100)
        await finish(session, rows[inner], outcome=Dead("attempts", failure()))
        assert [] == await heal_bundles(session, 100), "its fact is there"
        await fold(session, inner, outer)
        assert [] == await heal_bundles(session, 100), "they have ended"
        await finish(session, rows[waits])
        await fold(session, waits)
        assert [] == await heal_bundles(session, 100), "a bundle in it has not ended"
        assert nested is not None


async def test_a_callback_that_cannot_be_stored_holds_up_its_own_bundle_only(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What the database refuses, written by hand or by another version, is said, and the others end."""
    app = new_app(database)
    async with open_session(database) as session, connect(database) as connection:
        before, broken, after = [await stored(session, 1, CALLBACKS[2]) for _ in range(3)]
        change = "update jobqueue.bundle set callbacks = replace(callbacks::text, '{}', '[]')::json where id = $1"
        await connection.execute(change, broken)
        await finish(session, *await claim(session))
        async with app, app.worker():
            for id in (before, after):
                assert (await app.bundles.wait(id, PATIENCE)).finished
            await wait_until(lambda: "bundle.refused" in caplog.text, "it is said")
        found = await now(session, broken)
        assert (0, False) == (found.pending, found.finished)


async def test_what_is_put_off_starves_nobody(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look for facts that has room for one bundle finds, beside twenty that are refused, the other one too."""
    monkeypatch.setattr(folding, "_BATCH", 1)
    monkeypatch.setattr(folding, "_SWEEP", 0.05)
    app = new_app(database)
    async with open_session(database) as session, connect(database) as connection:
        *broken, well = [await stored(session, 1, CALLBACKS[2]) for _ in range(21)]
        change = """update jobqueue.bundle set callbacks = '[{"when": "finish"}]' where id = any($1)"""
        await connection.execute(change, broken)
        await finish(session, *await claim(session))

        async def has_ended() -> bool:
            return bool(await connection.fetchval("select finished_at from jobqueue.bundle where id = $1", well))

        async with app, app.worker():
            await wait_until(has_ended, "the other one has ended")
        assert not (await now(session, broken[0])).finished


async def test_whoever_has_a_bundle_for_long_is_not_pestered(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction stays open on the row of a bundle: looks become rarer, of workers and of those who wait."""
    app, tries, looks = new_app(database), list[object](), list[object]()
    fold_bundles = bundles.fold_bundles

    async def fold_and_count(session: Session, ids: list[UUID]) -> list[Folded]:
        tries.append(ids)
        return await fold_bundles(session, ids)

    monkeypatch.setattr(folding, "fold_bundles", fold_and_count)
    async with open_session(database) as session, connect(database) as connection:
        id = await stored(session, 1)
        await finish(session, *await claim(session))
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("select from jobqueue.bundle where id = $1 for update", id)
        async with app, app.worker():
            await wait_until(lambda: tries, "the worker has tried")
            with pytest.raises(TimeoutError):
                await app.bundles.wait(id, 1.0, looked=looks.append)
            assert (len(looks) < 20, len(tries) < 20) == (True, True)
            await transaction.rollback()
            assert (await app.bundles.wait(id, PATIENCE)).finished
