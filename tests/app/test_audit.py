"""`app.audit`: who did what, in the transaction that does it; without `by` nothing at all."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio

from jobqueue import App, AuditEntry, By, DatabaseError, InvalidOption, JobState, Limit, QueueLocked
from tests.support.jobs.store import connect
from tests.support.jobs.working import new_app, reached

LATER = datetime(2100, 1, 1, tzinfo=UTC)
SECRET = "4711-0815"
BROKEN = """
create function jobqueue.refuse() returns trigger language plpgsql as $$ begin raise exception 'refused'; end $$;
create trigger refuse before {event} on jobqueue.{table} for each row {when} execute function jobqueue.refuse()
"""


async def note(text: str) -> str:
    return text


@pytest_asyncio.fixture
async def app(database: str) -> AsyncIterator[App]:
    async with new_app(database) as app:
        app.task(note)
        yield app


async def defer(app: App, many: int = 1, **options: Any) -> list[UUID]:
    task = app.registry.find("note") or next(iter(app.registry))
    handles = await app.defer_many([task.options(**options).job(SECRET) for _ in range(many)])
    return [handle.id for handle in handles]


async def only(app: App) -> AuditEntry:
    (entry,) = await app.audit.list()
    return entry


def told(entry: AuditEntry) -> tuple[str, dict[str, Any], int, int, dict[str, int]]:
    return entry.action, dict(entry.what), entry.matched, entry.changed, dict(entry.refused)


async def breaks(dsn: str, table: str, event: str = "insert", when: str = "") -> None:
    async with connect(dsn) as connection:
        await connection.execute(BROKEN.format(table=table, event=event, when=when))


async def test_each_verb_says_who_and_what(app: App) -> None:
    """One row for each call: by whom, the ids, the target; never a payload."""
    (one,) = await defer(app, delay=60.0)
    named = {"ids": [str(one)]}
    await app.jobs.reschedule(one, at=LATER, by="ada")
    await app.jobs.reschedule(one, delay=90, by="ada")
    await app.jobs.move(one, to="bulk", by=By("ada", via="web"))
    await app.jobs.set_priority(one, priority=7, by="ada")
    await app.jobs.cancel(one, by="ada")
    await app.jobs.cancel(one, by="ada")
    await app.jobs.retry(one, from_start=True, by="ada")
    await app.jobs.signal(one, "go", {"card": SECRET}, by="ada")
    await app.jobs.delete(one, by="ada")

    page = await app.audit.list()

    assert [
        ("job.reschedule", named | {"at": "2100-01-01T00:00:00+00:00"}, 1, 1, {}),
        ("job.reschedule", named | {"delay": 90.0}, 1, 1, {}),
        ("job.move", named | {"to": "bulk"}, 1, 1, {}),
        ("job.set_priority", named | {"priority": 7}, 1, 1, {}),
        ("job.cancel", named, 1, 1, {}),
        ("job.cancel", named, 1, 0, {"too_late": 1}),
        ("job.retry", named | {"from_start": True}, 1, 1, {}),
        ("job.signal", named | {"signal": "go"}, 1, 1, {}),
        ("job.delete", named, 1, 1, {}),
    ] == [told(entry) for entry in reversed(page)]
    assert {("ada", None), ("ada", "web")} == {(entry.who, entry.via) for entry in page}
    assert SECRET not in repr(page)
    assert page == await app.audit.list(job=one), "all of them name the job"


async def test_without_by_nothing_is_written(app: App) -> None:
    """What no one says by whom, and what only looks, leaves no row."""
    (one, other) = await defer(app, 2)
    await app.jobs.cancel(one)
    await app.jobs.cancel(other, dry_run=True, by="ada")
    await app.jobs.cancel(queue="absent", by="ada")
    await app.queues.pause("mail")
    await app.queues.resume("mail")

    assert [] == await app.audit.list()


async def test_a_filter_of_many_pages_has_one_row(app: App) -> None:
    """Its numbers are those of all pages; the first thousand jobs lead to it, and no other does."""
    ids = sorted(await defer(app, 1_200, queue="mail"))
    (stranger,) = await defer(app)
    changes = await app.jobs.move(queue="mail", state="ready", to="bulk", by="ada")

    entry = await only(app)

    assert ("job.move", {"filter": {"queue": "mail", "state": "ready"}, "to": "bulk"}, 1_200, 1_200, {}) == told(entry)
    assert 1_200 == len(changes)
    assert [entry] == await app.audit.list(job=ids[0]) == await app.audit.list(job=ids[999])
    assert [] == await app.audit.list(job=ids[1_000]) == await app.audit.list(job=stranger)


async def test_many_ids_are_named_up_to_a_hundred(app: App) -> None:
    """The row shows a hundred, says how many there were, and all of them lead to it, refused ones too."""
    ids = await defer(app, 101)
    await app.jobs.cancel(ids[100])
    await app.jobs.cancel(*ids, by="ada")

    entry = await only(app)

    shown = {"ids": [str(id) for id in ids[:100]], "jobs": 101}
    assert ("job.cancel", shown, 101, 100, {"too_late": 1}) == told(entry)
    assert [entry] == await app.audit.list(job=ids[100])


async def test_a_failure_in_the_middle_leaves_what_was_done(app: App, database: str) -> None:
    """The second page fails: the row says of the first, which stands, and nothing of the second, which does not."""
    ids = sorted(await defer(app, 1_100))
    await breaks(database, "job", "update", f"when (old.id = '{ids[700]}')")

    with pytest.raises(DatabaseError):
        await app.jobs.move(queue="default", state="ready", to="bulk", by="ada")

    async with connect(database) as connection:
        moved = await connection.fetchval("select count(*) from jobqueue.job where queue = 'bulk'")
    entry = await only(app)
    assert (500, 500, 500) == (moved, entry.matched, entry.changed)


async def test_what_cannot_be_told_is_not_done(app: App, database: str) -> None:
    """If the row cannot be written, nothing is changed: it is one transaction."""
    (one,) = await defer(app)
    await app.queues.pause("mail")
    await breaks(database, "audit")
    for call in (
        app.jobs.cancel(one, by="ada"),
        app.jobs.delete(one, by="ada"),
        app.queues.resume("mail", by="ada"),
        app.jobs.signal(one, "go", by="ada"),
    ):
        with pytest.raises(DatabaseError):
            await call

    assert JobState.READY is (await app.jobs.get(one)).state
    assert {} == await app.jobs.unread_signals(one)
    assert await app.queues.resume("mail"), "it still was paused"


async def test_it_is_part_of_the_callers_transaction(app: App, database: str) -> None:
    """With a connection the row is there when the change is, and gone with it."""
    (one,) = await defer(app)
    async with connect(database) as connection:
        undone = connection.transaction()
        await undone.start()
        await app.jobs.cancel(one, by="ada", connection=connection)
        assert 1 == len(await app.audit.list(connection=connection))
        assert [] == await app.audit.list()
        await undone.rollback()
        assert [] == await app.audit.list()
        async with connection.transaction():
            await app.jobs.cancel(one, by="ada", connection=connection)
    assert 1 == (await only(app)).changed


async def test_a_running_job_and_a_locked_one(app: App, database: str) -> None:
    """One that is asked to end counts as changed, one that somebody has locked is told as busy."""
    started = asyncio.Event()

    @app.task(name="hold")
    async def hold() -> None:
        started.set()
        await asyncio.Event().wait()

    running = await hold.defer()
    async with app.worker():
        await reached(app, running, JobState.RUNNING)
        await app.queues.pause("mail")
        (locked,) = await defer(app, queue="mail")
        async with connect(database) as connection, connection.transaction():
            await connection.execute("select from jobqueue.job where id = $1 for update", locked)
            await app.jobs.cancel(running.id, locked, by="ada")
        entry = await only(app)
        assert (2, 1, {"busy": 1}) == (entry.matched, entry.changed, entry.refused)


async def test_queues(app: App, database: str) -> None:
    """Pause, resume and keep; a queue whose row is locked says so as ever, and leaves no row."""
    end = await app.queues.pause("mail", seconds=60, by="ada")
    async with connect(database) as connection, connection.transaction():
        await connection.execute("select from jobqueue.queue for update")
        with pytest.raises(QueueLocked):
            await app.queues.resume("mail", by="ada")
    assert end is not None
    assert await app.queues.resume("mail", by="ada")
    assert not await app.queues.resume("mail", by="ada")
    await app.queues.keep("mail", completed=60, most_other=5, by="ada")

    page = await app.audit.list()

    assert [
        ("queue.pause", {"queue": "mail", "until": end.isoformat()}, 1, 1, {}),
        ("queue.resume", {"queue": "mail"}, 1, 1, {}),
        ("queue.resume", {"queue": "mail"}, 1, 0, {}),
        ("queue.keep", {"queue": "mail", "completed": 60.0, "most_other": 5}, 1, 1, {}),
    ] == [told(entry) for entry in reversed(page)]


async def test_limits_and_schedules(app: App) -> None:
    """What is set, put, triggered, backfilled: by name, with numbers, without arguments."""
    app.task(name="limited", limit=Limit(3, name="smtp"))(note)
    task = next(task for task in app.registry if task.name == "limited")
    await app.run_until_idle()  # a worker declares what there is
    await app.limits.set("smtp", concurrency=2, by="ada")
    await app.limits.reset("smtp", by="ada")
    await app.schedules.put("daily", task.job(SECRET), "0 8 * * *", by="ada")
    await app.schedules.pause("daily", LATER, by="ada")
    await app.schedules.resume("daily", by="ada")
    job = await app.schedules.trigger("daily", by="ada")
    since = datetime(2026, 1, 1, tzinfo=UTC)
    until = datetime(2026, 1, 4, tzinfo=UTC)
    await app.schedules.backfill("daily", since, until, by="ada")
    await app.schedules.backfill("daily", since, until, by="ada")
    await app.schedules.delete("daily", by="ada")

    page = await app.audit.list()

    daily = {"schedule": "daily"}
    span = {"since": since.isoformat(), "until": until.isoformat()}
    put = {"task": "limited", "queue": "default", "cron": "0 8 * * *", "tz": "UTC"}
    assert [
        ("limit.set", {"limit": "smtp", "concurrency": 2}, 1, 1, {}),
        ("limit.reset", {"limit": "smtp"}, 1, 1, {}),
        ("schedule.put", daily | put, 1, 1, {}),
        ("schedule.pause", daily | {"until": LATER.isoformat()}, 1, 1, {}),
        ("schedule.resume", daily, 1, 1, {}),
        ("schedule.trigger", daily | {"ids": [str(job)]}, 1, 1, {}),
        ("schedule.backfill", daily | span, 3, 3, {}),
        ("schedule.backfill", daily | span, 3, 0, {}),
        ("schedule.delete", daily, 1, 1, {}),
    ] == [told(entry) for entry in reversed(page)]
    assert SECRET not in repr(page)
    assert ["schedule.trigger"] == [entry.action for entry in await app.audit.list(job=job)]


async def test_a_bundle_with_one_in_it_has_one_row(app: App) -> None:
    """Its members, and those of bundles in it, are counted together, and lead to the row."""
    task = next(iter(app.registry))
    async with app.bundle("outer") as outer:
        first = outer.add(task.job(SECRET))
        await outer.flush()
        async with app.bundle("inner", parent=outer) as inner:
            second = inner.add(task.job(SECRET))
    await app.bundles.cancel(outer.id, by="ada")
    await app.bundles.retry(outer.id, by="ada")
    await app.bundles.delete(outer.id, by="ada")

    page = await app.audit.list()

    named = {"bundle": str(outer.id), "name": "outer"}
    assert [
        ("bundle.cancel", named, 2, 2, {}),
        ("bundle.delete", named, 2, 2, {}),
    ] == [told(entry) for entry in reversed(page)]
    assert page == await app.audit.list(job=first.id) == await app.audit.list(job=second.id)


async def test_webhooks(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is made, changed and sent again; neither the URL nor a secret is told."""
    monkeypatch.setenv("JOBQUEUE_WEBHOOK_KEY", "k" * 32)
    hook = await app.webhooks.create(f"https://example.com/{SECRET}", "job.dead", by="ada")
    secret = await app.webhooks.rotate(hook.id, by="ada")
    await app.webhooks.pause(hook.id, by="ada")
    await app.webhooks.resume(hook.id, by="ada")
    delivery = await app.webhooks.test(hook.id, by="ada")
    await app.webhooks.delete(hook.id, by="ada")

    page = await app.audit.list()

    named = {"webhook": str(hook.id)}
    assert [
        ("webhook.create", named | {"events": ["job.dead"]}, 1, 1, {}),
        ("webhook.rotate", named, 1, 1, {}),
        ("webhook.pause", named, 1, 1, {}),
        ("webhook.resume", named, 0, 0, {}),
        ("webhook.test", named | {"ids": [str(delivery)]}, 1, 1, {}),
        ("webhook.delete", named, 1, 1, {}),
    ] == [told(entry) for entry in reversed(page)]
    assert SECRET not in repr(page)
    assert secret not in repr(page)


async def test_pages_and_choices(app: App, database: str) -> None:
    """The newest first, page by page; by who, with or without the means, and by action."""
    for who in ("ada", "bob", By("ada", via="cli")):
        await app.queues.pause("mail", by=who)
        await app.queues.resume("mail", by=who)
    first = await app.audit.list(limit=4)
    assert first.next is not None
    rest = await app.audit.list(before=first.next, limit=4)

    assert (4, 2, None) == (len(first), len(rest), rest.next)
    assert [*first, *rest] == await app.audit.list()
    assert 4 == len(await app.audit.list(who="ada"))
    assert 2 == len(await app.audit.list(who=By("ada", via="cli")))
    assert 3 == len(await app.audit.list(action="queue.pause"))
    assert 1 == len(await app.audit.list(action="queue.pause", who="bob"))
    async with connect(database) as connection:
        await connection.execute(
            "insert into jobqueue.audit (who, action, what, refused) values ('x', 'y', '3', '[1]')"
        )
    assert ({}, {}) == ((await app.audit.list(limit=1))[0].what, (await app.audit.list(limit=1))[0].refused)


@pytest.mark.parametrize("by", ["", "x" * 201, "a\nb", "a\0", 7, b"ada"])
async def test_who_acts_is_a_short_text(app: App, by: Any) -> None:
    """One clear error, before anything is done."""
    (one,) = await defer(app)
    for call in (
        app.jobs.cancel(one, by=by),
        app.queues.pause("mail", by=by),
        app.schedules.pause("daily", by=by),
        app.bundles.close(one, by=by),
        app.webhooks.pause(one, by=by),
        app.audit.list(who=by),
    ):
        with pytest.raises(InvalidOption) as raised:
            await call
        assert "by" == raised.value.option
    assert JobState.READY is (await app.jobs.get(one)).state


async def test_what_is_asked_for_is_checked(app: App) -> None:
    """Bad limits, numbers and ids are refused by name."""
    for name, call in {
        "limit": app.audit.list(limit=0),
        "before": app.audit.list(before=0),
        "job": app.audit.list(job="x"),
        "action": app.audit.list(action=""),
    }.items():
        with pytest.raises(InvalidOption) as raised:
            await call
        assert name == raised.value.option
    with pytest.raises(InvalidOption):
        By("ada", via="a:b")


async def test_the_row_says_no_more_than_it_may(app: App, database: str) -> None:
    """The table itself refuses what nobody could read."""
    async with connect(database) as connection:
        for wrong in (
            "(who, action, what) values ('', 'a', '{}')",
            "(who, action, what, at) values ('a', 'a', '{}', 'infinity')",
        ):
            with pytest.raises(asyncpg.CheckViolationError):
                await connection.execute(f"insert into jobqueue.audit {wrong}")
