"""Bulk actions: workers do them page by page, each job once, whatever dies, and can be told to stop."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from jobqueue import App, Bulk, BulkNotFound, BulkState, InvalidOption, WaitTimeout
from tests.support.history import finished
from tests.support.jobs.store import connect
from tests.support.jobs.working import new_app
from tests.support.patience import PATIENCE
from tests.support.waiting import wait_until

DAY = 86_400.0
MANY = 2_600
LATER = datetime(2100, 1, 1, tzinfo=UTC)


async def note(n: int) -> int:
    return n


@pytest_asyncio.fixture
async def app(database: str) -> AsyncIterator[App]:
    async with new_app(database) as app:
        app.task(note)
        yield app


async def defer(app: App, many: int, **options: Any) -> None:
    task = next(iter(app.registry)).options(**options)
    await app.defer_many([task.job(n) for n in range(many)])


async def rows(dsn: str, query: str) -> Any:
    async with connect(dsn) as connection:
        return await connection.fetchval(query)


async def ended(app: App, bulk: Bulk) -> Bulk:
    ended = await app.bulks.wait(bulk.id, PATIENCE)
    assert ended == await app.bulks.wait(bulk.id, 0), "what has ended is told, however short the limit"
    return ended


def numbers(bulk: Bulk) -> tuple[BulkState, int, int, dict[str, int]]:
    return bulk.state, bulk.matched, bulk.changed, dict(bulk.refused)


async def test_over_unfinished_jobs_and_the_archive(app: App, database: str) -> None:
    """All that match are changed, whatever table they are in, and the audit has the numbers."""
    await defer(app, 1_100, queue="mail", delay=3_600.0)
    finished(database, 600, seconds=10.0, queue="mail", state="dead")
    finished(database, 700, seconds=DAY / 2, queue="mail")
    await defer(app, 3, queue="other", delay=3_600.0)
    bulk = await app.jobs.bulk("delete", queue="mail", by="ada")
    assert (BulkState.WAITING, 0, 0, {}) == numbers(bulk)

    async with app.worker(["none"]):
        done = await ended(app, bulk)

    assert (BulkState.FINISHED, 2_400, 2_400, {}) == numbers(done)
    assert {"queue": "mail"} == done.filter
    assert 3 == await rows(
        database, "select (select count(*) from jobqueue.job) + (select count(*) from jobqueue.job_archive)"
    )
    (entry,) = await app.audit.list()
    assert ("job.delete", 2_400, 2_400) == (entry.action, entry.matched, entry.changed)
    assert {"filter": {"queue": "mail"}, "bulk": str(bulk.id)} == entry.what


async def test_what_comes_later_is_left_alone(app: App, database: str) -> None:
    """Neither a job that was deferred after it was asked for, nor one that ended after."""
    await defer(app, 5, queue="mail", delay=3_600.0)
    bulk = await app.jobs.bulk("delete", queue="mail", state=["scheduled", "dead"])
    await defer(app, 4, queue="mail", delay=3_600.0)
    async with connect(database) as connection:
        await connection.execute("update jobqueue.bulk set at = at - interval '1 h'")
        await connection.execute(
            "update jobqueue.job set created_at = created_at - interval '2 h' where id in"
            " (select id from jobqueue.job order by id limit 5)"
        )
    finished(database, 3, seconds=10.0, queue="mail", state="dead")

    async with app.worker(["none"]):
        done = await ended(app, bulk)

    assert (BulkState.FINISHED, 5, 5, {}) == numbers(done)


async def test_lists_have_the_newest_first(app: App) -> None:
    """Page by page; `unfinished`: only those that are not done. A wait in vain says how far it is."""
    first, second, third, fourth = [await app.jobs.bulk("cancel", queue="mail") for _ in range(4)]
    await app.bulks.cancel(second.id)

    async def ids(**options: Any) -> list[UUID]:
        return [bulk.id for bulk in await app.bulks.list(**options)]

    assert [fourth.id, third.id, second.id, first.id] == await ids()
    assert [fourth.id, third.id, first.id] == await ids(unfinished=True)
    assert [third.id, second.id] == await ids(before=fourth.id, limit=2)
    assert [third.id, first.id] == await ids(before=fourth.id, limit=2, unfinished=True)
    with pytest.raises(WaitTimeout, match=f"bulk action {first.id} .* within 0 s: it is waiting, 0 jobs are changed"):
        await app.bulks.wait(first.id, 0)


async def test_a_filter_with_nothing_is_done_at_once(app: App) -> None:
    """It is finished, with nothing."""
    bulk = await app.jobs.bulk("cancel", queue="absent", by="ada")
    async with app.worker(["none"]):
        assert (BulkState.FINISHED, 0, 0, {}) == numbers(await ended(app, bulk))
    assert [bulk.id] == [each.id for each in await app.bulks.list()]
    assert [] == await app.bulks.list(unfinished=True)


async def test_taken_keys_and_running_jobs_are_refused(app: App) -> None:
    """Reasons are counted as those of a call."""
    task = next(iter(app.registry))
    for n in range(3):
        first = await task.options(unique=f"k{n}").defer(n)
        await app.jobs.cancel(first.id)
        await task.options(unique=f"k{n}", delay=3_600.0).defer(n)
    await defer(app, 2)
    await app.jobs.cancel(state="ready")
    bulk = await app.jobs.bulk("retry", state="cancelled")
    await app.queues.pause("default")

    async with app.worker(["none"]):
        assert (BulkState.FINISHED, 5, 2, {"key_taken": 3}) == numbers(await ended(app, bulk))


async def test_locked_jobs_are_tried_again_and_then_busy(
    app: App, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What others have locked to the end is told as busy; the rest is done."""
    monkeypatch.setattr("jobqueue.worker.bulks._AGAIN", 0.05)
    await defer(app, 10)
    async with connect(database) as connection, connection.transaction():
        await connection.execute("select from jobqueue.job order by id limit 2 for update")
        bulk = await app.jobs.bulk("move", queue="default", to="bulk")
        async with app.worker(["none"]):
            done = await ended(app, bulk)
    assert (BulkState.FINISHED, 10, 8, {"busy": 2}) == numbers(done)


async def test_each_action_has_its_target(app: App, database: str) -> None:
    """As the verbs of these names; a delay counts from when it was asked for."""
    await defer(app, 2, delay=60.0)
    async with app.worker(["none"]):
        for action, target in (
            ("set_priority", {"priority": 7}), ("move", {"to": "bulk"}), ("reschedule", {"at": LATER}),
        ):  # fmt: skip
            await ended(app, await app.jobs.bulk(action, state="scheduled", **target))
        assert (7, "bulk", LATER) == tuple(
            [
                await rows(database, f"select {name} from jobqueue.job limit 1")
                for name in ("priority", "queue", "due_at")
            ]
        )
        bulk = await app.jobs.bulk("reschedule", state="scheduled", delay=600)
        await ended(app, bulk)
    assert 600.0 == (await rows(database, "select due_at from jobqueue.job limit 1") - bulk.at).total_seconds()


async def test_two_workers_share_it_and_change_each_job_once(app: App, database: str) -> None:
    """Every job has one revival, and the numbers are exact."""
    finished(database, MANY, seconds=10.0, queue="mail", state="dead")
    bulk = await app.jobs.bulk("retry", queue="mail", by="ada")
    async with app.worker(["none"]), app.worker(["none"]), app.worker(["none"]):
        done = await ended(app, bulk)
    assert (BulkState.FINISHED, MANY, MANY, {}) == numbers(done)
    revived = "select sum(cardinality(jobs)) from jobqueue.event where type = 'job.revived'"
    assert MANY == await rows(database, revived)


WORKER = """
import asyncio, sys
from jobqueue import App
app = App(sys.argv[1])
asyncio.run(app.run_worker(["none"]))
"""


async def test_a_killed_worker_costs_nothing(app: App, database: str) -> None:
    """Killed in the middle of a page: another goes on where it was, no job twice, none left out."""
    finished(database, MANY, seconds=10.0, queue="mail", state="dead")
    gate = "select pg_advisory_lock(42)"
    async with connect(database) as connection, connect(database) as looks:
        await connection.execute(
            "create function jobqueue.hold() returns trigger language plpgsql as $$ begin"
            " if (select count(*) from jobqueue.event where type = 'job.revived') >= 2"
            " then perform pg_advisory_xact_lock_shared(42); end if; return new; end $$;"
            " create trigger hold before update on jobqueue.bulk for each row execute function jobqueue.hold()"
        )
        await connection.execute(gate)
        bulk = await app.jobs.bulk("retry", queue="mail", by="ada")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            WORKER,
            database,
            stderr=asyncio.subprocess.DEVNULL,
        )

        async def held() -> bool:
            query = "select exists (select from pg_locks where locktype = 'advisory' and objid = 42 and not granted)"
            return bool(await looks.fetchval(query))

        await wait_until(held, "a page stands before its commit", PATIENCE)
        before = await app.bulks.get(bulk.id)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        await connection.execute("select pg_advisory_unlock(42)")
    assert 0 < before.changed < MANY
    async with app.worker(["none"]):
        done = await ended(app, bulk)
    assert (BulkState.FINISHED, MANY, MANY, {}) == numbers(done)
    assert MANY == await rows(database, "select sum(cardinality(jobs)) from jobqueue.event where type = 'job.revived'")
    (entry,) = await app.audit.list()
    assert (MANY, MANY) == (entry.matched, entry.changed)


async def test_it_is_cancelled_in_the_middle(app: App, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was done stands, nothing further is."""
    monkeypatch.setattr("jobqueue.worker.bulks._REST", 1_000.0)  # after one page it rests for long
    await defer(app, MANY)
    bulk = await app.jobs.bulk("move", queue="default", to="bulk", by="ada")
    async with app.worker(["none"]):

        async def begun() -> bool:
            return (await app.bulks.get(bulk.id)).changed > 0

        await wait_until(begun, "a page is done", PATIENCE)
        stopped = await app.bulks.cancel(bulk.id, by="ada")
        again = await app.bulks.cancel(bulk.id, by="ada")
    assert stopped == again
    assert BulkState.CANCELLED is stopped.state
    assert 0 < stopped.changed < MANY
    assert stopped.changed == await rows(database, "select count(*) from jobqueue.job where queue = 'bulk'")
    assert ["bulk.cancel", "bulk.cancel", "job.move"] == [entry.action for entry in await app.audit.list()]


async def test_a_database_error_in_the_middle(app: App, database: str) -> None:
    """Failing again and again ends it: it says the class of the error; what was done stands."""
    await defer(app, MANY)
    async with connect(database) as connection:
        await connection.execute(
            "create function jobqueue.refuse() returns trigger language plpgsql as $$"
            " begin raise exception 'a secret'; end $$;"
        )
        ninth = await connection.fetchval("select id from jobqueue.job order by id offset 900 limit 1")
        await connection.execute(
            f"create trigger refuse before update on jobqueue.job for each row when (old.id = '{ninth}')"
            " execute function jobqueue.refuse()"
        )
    bulk = await app.jobs.bulk("move", queue="default", to="bulk")
    async with app.worker(["none"]):
        done = await ended(app, bulk)
    assert (BulkState.FAILED, 500, 500, {}) == numbers(done)
    assert done.error is not None
    assert "secret" not in done.error
    assert 500 == await rows(database, "select count(*) from jobqueue.job where queue = 'bulk'")


async def test_one_that_others_hold_up_lets_the_next_go_first(app: App, database: str) -> None:
    """A lock, or a statement that takes too long, may be there for hours: the oldest bulk does not stop all others."""
    await defer(app, 3)
    async with connect(database) as connection:
        await connection.execute(
            "create function jobqueue.refuse() returns trigger language plpgsql as $$"
            " begin raise exception 'not now' using errcode = 'lock_not_available'; end $$;"
            "create trigger refuse before update on jobqueue.job for each row when (new.priority = 7)"
            " execute function jobqueue.refuse()"
        )
    held_up = await app.jobs.bulk("set_priority", queue="default", priority=7)
    good = await app.jobs.bulk("move", queue="default", to="bulk")
    async with app.worker(["none"]):
        assert 3 == (await ended(app, good)).changed
    assert (await app.bulks.get(held_up.id)).finished_at is None


WRONG = (
    "action = 'x'", "filter = '3'", "filter = '{}'", "filter = '{\"new\": 1}'", "filter = '{\"bundle\": 5}'",
    "place = '[1]'", "place = '{\"after\": 5}'",
    "place = '{\"after\": \"01890000-0000-7000-8000-000000000000\", \"piece\": []}'",
    "action = 'reschedule', target = '{\"delay\": 1e300}'",
)  # fmt: skip


async def test_odd_rows_fail_and_harm_no_other(app: App, database: str) -> None:
    """What plain SQL may have written ends that one: above all it does not mean all jobs."""
    await defer(app, 3)
    odd = {wrong: await app.jobs.bulk("delete", queue="default") for wrong in WRONG}
    async with connect(database) as connection:
        for wrong, bulk in odd.items():
            await connection.execute(f"update jobqueue.bulk set {wrong} where id = $1", bulk.id)
    good = await app.jobs.bulk("move", queue="default", to="bulk")
    async with app.worker(["none"]):
        assert 3 == (await ended(app, good)).changed
        became = {wrong: (await ended(app, bulk)).state for wrong, bulk in odd.items()}
    assert dict.fromkeys(WRONG, BulkState.FAILED) == became


async def test_in_the_callers_transaction(app: App, database: str) -> None:
    """With a connection it is begun when that commits, or never."""
    async with connect(database) as connection:
        undone = connection.transaction()
        await undone.start()
        bulk = await app.jobs.bulk("cancel", queue="mail", by="ada", connection=connection)
        await undone.rollback()
    with pytest.raises(BulkNotFound):
        await app.bulks.get(bulk.id)
    assert [] == await app.audit.list()


async def test_of_a_bundle(app: App) -> None:
    """Its members, and no other job."""
    task = next(iter(app.registry))
    async with app.bundle("b") as bundle:
        for n in range(3):
            bundle.add(task.job(n))
    await defer(app, 2)
    bulk = await app.jobs.bulk("cancel", bundle=bundle.id)
    rest = await app.jobs.bulk("move", bundled=False, state="ready", to="bulk")
    async with app.worker(["none"]):
        assert (BulkState.FINISHED, 3, 3, {}) == numbers(await ended(app, bulk))
        assert (BulkState.FINISHED, 2, 2, {}) == numbers(await ended(app, rest))


async def test_what_is_asked_for_is_checked(app: App) -> None:
    """One clear error for each."""
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("action", {"action": "explode", "queue": "mail"}),
        ("ids", {"action": "cancel"}),
        ("to", {"action": "cancel", "queue": "mail", "to": "bulk"}),
        ("to", {"action": "move", "queue": "mail"}),
        ("priority", {"action": "set_priority", "queue": "mail"}),
        ("delay", {"action": "reschedule", "queue": "mail"}),
        ("state", {"action": "cancel", "state": "odd"}),
        ("key", {"action": "cancel", "key": "k", "task": "note"}),
        ("by", {"action": "cancel", "queue": "mail", "by": ""}),
    ]
    for option, call in wrong:
        with pytest.raises(InvalidOption) as raised:
            await app.jobs.bulk(**call)
        assert option == raised.value.option, call
    assert [] == await app.bulks.list()
