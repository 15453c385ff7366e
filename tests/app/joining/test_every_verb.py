"""Whatever takes `connection=` takes the same ones: each verb on each library, and none that would block the loop."""

import inspect
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import psycopg
import pytest

from jobqueue import App, ConfigurationError, InvalidOption, Limit
from jobqueue.base.steering import Action
from tests.support.jobs.joining import ASYNC
from tests.support.jobs.store import connect
from tests.support.jobs.working import asked

OWNERS = ("jobs", "bulks", "bundles", "schedules", "queues", "limits", "audit")
EVERYTHING = (
    "select (select count(*) from jobqueue.job) + (select count(*) from jobqueue.job_archive)"
    " + (select count(*) from jobqueue.bundle) + (select count(*) from jobqueue.schedule)"
    " + (select count(*) from jobqueue.bulk) + (select count(*) from jobqueue.audit)"
)
HOUR = timedelta(hours=1)
Call = Callable[[], Awaitable[object]]


async def note(text: str) -> str:
    return text


def verbs(app: App) -> set[str]:
    """All public methods that take a connection."""
    return {
        f"{owner}.{name}"
        for owner in OWNERS
        for name, method in inspect.getmembers(getattr(app, owner), inspect.iscoroutinefunction)
        if not name.startswith("_") and "connection" in inspect.signature(method).parameters
    }


def calls(app: App, job: UUID, bundle: UUID, on: Any) -> dict[str, Call]:
    """Each of them, in an order in which they succeed."""
    planned, until = app.task(name="planned")(note), datetime.now(UTC)
    new = planned.job("planned")
    begun = [UUID(int=3)]

    async def begin() -> None:
        begun.insert(0, (await app.jobs.bulk("cancel", queue="nowhere", by="ada", connection=on)).id)

    return {
        "jobs.get": lambda: app.jobs.get(job, connection=on),
        "jobs.list": lambda: app.jobs.list(connection=on),
        "jobs.counts": lambda: app.jobs.counts(connection=on),
        "jobs.resolve": lambda: app.jobs.resolve(str(job), connection=on),
        "jobs.errors": lambda: app.jobs.errors(connection=on),
        "jobs.waits_for": lambda: app.jobs.waits_for(job, connection=on),
        "jobs.phases": lambda: app.jobs.phases(job, connection=on),
        "jobs.signal": lambda: app.jobs.signal(job, "approved", connection=on),
        "jobs.unread_signals": lambda: app.jobs.unread_signals(job, connection=on),
        "jobs.reschedule": lambda: app.jobs.reschedule(job, delay=7200, connection=on),
        "jobs.move": lambda: app.jobs.move(job, to="other", connection=on),
        "jobs.set_priority": lambda: app.jobs.set_priority(job, priority=3, connection=on),
        "jobs.steer": lambda: app.jobs.steer(Action.MOVE, [job], {}, {"to": "third"}, connection=on),
        "jobs.retry": lambda: app.jobs.retry(job, connection=on),
        "jobs.cancel": lambda: app.jobs.cancel(job, connection=on),
        "jobs.delete": lambda: app.jobs.delete(job, connection=on),
        "jobs.bulk": begin,
        "bulks.get": lambda: app.bulks.get(begun[0], connection=on),
        "bulks.cancel": lambda: app.bulks.cancel(begun[0], by="ada", connection=on),
        "audit.list": lambda: app.audit.list(who="ada", connection=on),
        "bundles.get": lambda: app.bundles.get(bundle, connection=on),
        "bundles.list": lambda: app.bundles.list(connection=on),
        "bundles.counts": lambda: app.bundles.counts(connection=on),
        "bundles.members": lambda: app.bundles.members(bundle, connection=on),
        "bundles.results": lambda: app.bundles.results(bundle, planned, connection=on),
        "bundles.graph": lambda: app.bundles.graph(bundle, connection=on),
        "schedules.put": lambda: app.schedules.put("hourly", new, "0 * * * *", connection=on),
        "schedules.get": lambda: app.schedules.get("hourly", connection=on),
        "schedules.list": lambda: app.schedules.list(connection=on),
        "schedules.pause": lambda: app.schedules.pause("hourly", connection=on),
        "schedules.resume": lambda: app.schedules.resume("hourly", connection=on),
        "schedules.trigger": lambda: app.schedules.trigger("hourly", connection=on),
        "schedules.backfill": lambda: app.schedules.backfill("hourly", until - 3 * HOUR, until, connection=on),
        "schedules.delete": lambda: app.schedules.delete("hourly", connection=on),
        "queues.stats": lambda: app.queues.stats(connection=on),
        "limits.list": lambda: app.limits.list(connection=on),
        "limits.get": lambda: app.limits.get("note", connection=on),
        "limits.set": lambda: app.limits.set("note", concurrency=2, connection=on),
        "limits.lines": lambda: app.limits.lines("note", connection=on),
        "limits.reset": lambda: app.limits.reset("note", connection=on),
        "limits.recount": lambda: app.limits.recount("note", connection=on),
    }


@pytest.mark.parametrize("library", ASYNC)
async def test_every_verb_on_every_library(library: str, database: str) -> None:
    """S1-05: each is part of the caller's transaction, sees what came before it there, and is rolled back with it."""
    async with App(database) as app:
        task = app.task(limit=Limit(5))(note)
        await app.run_until_idle()  # declares the limit
        before = await asked(database, EVERYTHING)
        async with ASYNC[library](database) as joined:
            on = joined.connection
            job = await task.options(connection=on, delay=3600).defer("a")
            async with app.bundle("import", connection=on) as bundle:
                bundle.add(task.job("b"))
            each = calls(app, job.id, bundle.id, on)
            assert verbs(app) == each.keys()
            for call in each.values():
                await call()
            await joined.rollback()

        assert before == await asked(database, EVERYTHING)


async def test_the_drivers_errors_stay_on_the_callers_connection(database: str) -> None:
    """What retries a transaction looks for its driver's error, as of a statement of its own: none is made ours."""
    async with App(database) as app, connect(database) as conn:
        task = app.task(limit=Limit(5))(note)
        await app.run_until_idle()
        job = await task.options(delay=3600).defer("a")
        async with app.bundle("import") as bundle:
            bundle.add(task.job("b"))
        transaction = conn.transaction()
        await transaction.start()
        with pytest.raises(asyncpg.PostgresError):
            await conn.execute("select 1 / 0")
        on_conn = calls(app, job.id, bundle.id, conn)
        on_conn["defer"] = lambda: task.options(connection=conn).defer("b")
        for call in on_conn.values():
            with pytest.raises(asyncpg.InFailedSQLTransactionError):
                await call()
        await transaction.rollback()


async def test_every_verb_where_a_connection_is_lent(database: str) -> None:
    """Inside `app.testing(connection=...)` all are on that connection without being given it."""
    async with App(database) as app, connect(database) as conn:
        task = app.task(limit=Limit(5))(note)
        await app.run_until_idle()
        before = await asked(database, EVERYTHING)
        transaction = conn.transaction()
        await transaction.start()
        async with app.testing(connection=conn):
            job = await task.options(delay=3600).defer("a")
            async with app.bundle("import") as bundle:
                bundle.add(task.job("b"))
            for call in calls(app, job.id, bundle.id, None).values():
                await call()
            others = [
                app.bulks.list(),
                app.bundles.counts(),
                app.bundles.list(),
                app.bundles.members(bundle.id),
                app.webhooks.list(),
            ]
            for other in [*others, app.queues.pause("mail"), app.queues.resume("mail"), app.bundles.cancel(bundle.id)]:
                await other
            with pytest.raises(ConfigurationError, match=r"has that one connection.*take jobqueue_app"):
                await anext(aiter(app.events()))
        await transaction.rollback()

        assert before == await asked(database, EVERYTHING)


async def test_none_takes_what_would_block_the_loop(database: str) -> None:
    """A synchronous connection is refused by each in one sentence that says what to do instead; nothing is touched."""
    told = (
        r"^connection: is synchronous \(psycopg\.Connection\) and would block the event loop; to defer on it use "
        r"task\.defer_sync or app\.defer_many_sync, all else takes an asynchronous one, or none$"
    )
    with psycopg.connect(database) as on:
        async with App(database) as app:

            async def in_a_bundle() -> None:
                async with app.bundle("import", connection=on) as bundle:
                    bundle.add(app.task(note).job("b"))

            for call in [*calls(app, UUID(int=1), UUID(int=2), on).values(), in_a_bundle]:
                with pytest.raises(InvalidOption, match=told):
                    await call()
        assert psycopg.pq.TransactionStatus.IDLE == on.info.transaction_status
