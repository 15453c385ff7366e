"""The relay: what the log says becomes deliveries, each once, whoever dies."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import datetime
from itertools import count
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from jobqueue.app import App
from jobqueue.base.flows.schedule import planned_id
from jobqueue.base.flows.webhook import QUEUE, Webhook
from jobqueue.base.job import JobState
from jobqueue.cron.firing import Firer
from jobqueue.store.connection.pool import Database
from jobqueue.store.connection.session import Session
from jobqueue.store.flows import webhooks as store
from jobqueue.webhooks import relay as room
from jobqueue.webhooks.relay import Relay
from tests.support.jobs.store import backend_of, connect, open_database
from tests.support.jobs.working import asked
from tests.support.patience import PATIENCE
from tests.support.receiver import defer, delivered, hooked_app, receiving
from tests.support.rounds import rounds
from tests.support.secrets import WATCH
from tests.support.waiting import wait_until

URL = "https://receiver.example/"


async def made(dsn: str, hook: Webhook) -> list[tuple[UUID, str]]:
    """The job and the type of each delivery that was made for a webhook, in the order in which they were made."""
    async with connect(dsn) as connection:
        rows = await connection.fetch(
            "select args ->> 'body' as body from jobqueue.job where origin = $1 order by seq", f"webhook:{hook.id}"
        )
    bodies = [json.loads(row["body"]) for row in rows]
    places = [tuple(map(int, body["data"]["id"].split("."))) for body in bodies]
    assert places == sorted(places), "not in the order of the log"
    return [(UUID(body["data"]["job_id"]), body["type"]) for body in bodies]


@contextlib.asynccontextmanager
async def relays(dsn: str, number: int) -> AsyncIterator[list[Database]]:
    """So many relays beside each other, each on a database of its own."""
    async with contextlib.AsyncExitStack() as stack:
        databases = [await stack.enter_async_context(open_database(dsn, max_size=3)) for _ in range(number)]
        tasks = [asyncio.create_task(Relay(database).run()) for database in databases]
        try:
            yield databases
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def dies_before_the_commit(dsn: str, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """From now on every second transaction of a relay loses its backend once all is written; who was killed."""
    killed: list[int] = []
    move, turns = store.move, count()

    async def dying(session: Session, id: UUID, cursor: int) -> None:
        await move(session, id, cursor)
        if next(turns) % 2 == 0:
            killed.append(await backend_of(session))
            await asked(dsn, "select pg_terminate_backend($1)", killed[-1])

    monkeypatch.setattr(store, "move", dying)
    return killed


async def test_each_event_is_made_once_whoever_dies(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S2-39, S2-44: three relays, killed in mid-transaction: each event of each webhook is made once, in log order."""
    app, killed, turns = hooked_app(database), dies_before_the_commit(database, monkeypatch), 0
    async with app, relays(database, 3), app.worker(["default", "mail"]):
        all_of_it = await app.webhooks.create(URL)
        dead = await app.webhooks.create(URL, "job.dead")
        wanted: set[tuple[UUID, str]] = set()
        while turns < rounds(15) or len(killed) < 3:
            turns += 1
            done = [(await defer(app, "note")).id for _ in range(15)]
            failed = await defer(app, "fail", str(turns))
            wanted |= {(id, "job.completed") for id in done} | {(failed.id, "job.dead")}
            await app.sender.wait_final(failed.id, PATIENCE)

        async def all_made() -> bool:
            return len(await made(database, all_of_it)) + len(await made(database, dead)) >= len(wanted) + turns

        await wait_until(all_made, "all deliveries are made")
        first, second = await made(database, all_of_it), await made(database, dead)

    assert sorted(wanted) == sorted(first)
    assert sorted(each for each in wanted if each[1] == "job.dead") == sorted(second)


async def test_a_relay_that_dies_has_done_all_or_nothing(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S2-39: between the jobs and the moved place there is nothing: cut off there, neither is left."""
    app = hooked_app(database)

    async def cut_off(session: Session, *_: object) -> None:
        raise ConnectionResetError("cut off")

    async with app, open_database(database) as there:
        hook = await app.webhooks.create(URL, "job.cancelled")
        before = await asked(database, "select cursor from jobqueue.webhook")
        handle = await defer(app, "note")
        await app.jobs.cancel(handle.id)
        with monkeypatch.context() as patched, pytest.raises(ConnectionResetError):
            patched.setattr(store, "move", cut_off)
            await Relay(there).look()
        nothing = await made(database, hook), await asked(database, "select cursor from jobqueue.webhook")
        await Relay(there).look()
        await Relay(there).look()

        assert ([], before) == nothing
        assert [(handle.id, "job.cancelled")] == await made(database, hook)


async def test_planned_times_that_were_left_out_are_posted(database: str) -> None:
    """A webhook hears of `schedule.missed`: one delivery for an outage, with the first time, the last, and how many."""
    app = hooked_app(database)
    async with app, open_database(database) as there:
        hook = await app.webhooks.create(URL, "schedule.missed")
        note = app.registry.find("note")
        assert note is not None
        await app.schedules.put("daily", note.job("x"), "0 7 * * *")
        back = "update jobqueue.schedule set next_at = date_trunc('day', now()) - interval '10 days' + interval '7 h'"
        await asked(database, f"{back} returning 1")
        await Firer(there, list).look()
        for _ in range(2):
            await Relay(there).look()
        ((id, kind),) = await made(database, hook)
        body = json.loads(
            await asked(database, "select args ->> 'body' from jobqueue.job where origin like 'webhook:%'")
        )

    first, last, count = (body["data"]["data"][name] for name in ("first", "last", "count"))
    assert ("schedule.missed", "schedule:daily", "missed") == (kind, body["data"]["origin"], body["data"]["reason"])
    assert id == planned_id("daily", datetime.fromisoformat(first))
    assert count == (datetime.fromisoformat(last) - datetime.fromisoformat(first)).days + 1


async def test_the_log_is_the_backlog(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While many deliveries of a webhook wait no more are made, and another's go on; then the rest follows."""
    monkeypatch.setattr(room, "MOST_WAITING", 10)
    app = hooked_app(database)
    async with app, receiving() as receiver, open_database(database) as there:
        slow = await app.webhooks.create(receiver.url, "job.cancelled")
        other = await app.webhooks.create(receiver.url, "job.cancelled", queue="mail")
        ids = [(await defer(app, "note")).id for _ in range(25)]
        for id in ids:
            await app.jobs.cancel(id)
        relay = Relay(there)
        for _ in range(5):
            await relay.look()
        held = len(await made(database, slow))
        mail = await defer(app, "fail")
        await app.jobs.cancel(mail.id)
        for _ in range(5):
            await relay.look()
        still, theirs = len(await made(database, slow)), await made(database, other)
        async with app.worker([QUEUE]):
            await delivered(app, slow, 26)

    assert (10, 10) == (held, still)
    assert [(mail.id, "job.cancelled")] == theirs
    assert 27 == len({post.id for post in receiver.posts})


async def test_without_a_webhook_it_only_looks_for_one(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody has a webhook a relay says one cheap statement each few seconds, and reads nothing of the log."""
    said: list[str] = []
    fetch = Database.fetch

    async def heard(self: Database, name: str, *values: object) -> Any:
        said.append(name)
        return await fetch(self, name, *values)

    monkeypatch.setattr(Database, "fetch", heard)
    monkeypatch.setattr(room, "_NONE", 5.0)
    async with open_database(database) as there:
        relay = Relay(there)
        pauses = [await relay.look() for _ in range(3)]

    assert ["active_webhooks"] * 3 == said
    assert {5.0} == set(pauses)


async def test_what_retention_dropped_is_passed_over(database: str) -> None:
    """A webhook that was paused for longer than the log is kept goes on with what is left, and the log says so."""
    app = hooked_app(database)
    async with app, open_database(database) as there:
        hook = await app.webhooks.create(URL, "job.cancelled")
        first, second = await defer(app, "note"), await defer(app, "note")
        await app.jobs.cancel(first.id)
        await asked(database, "update jobqueue.event_floor set seq = (select last_value from jobqueue.event_seq)")
        await app.jobs.cancel(second.id)
        relay = Relay(there)
        for _ in range(3):
            await relay.look()

        assert [(second.id, "job.cancelled")] == await made(database, hook)
    assert ["webhook.lost_events"] == [event for _, _, event, _ in WATCH.lines if event.startswith("webhook.")]


async def test_the_subject_may_be_gone(database: str) -> None:
    """S2-35: the job that a slow delivery is about is deleted meanwhile: the delivery is recorded all the same."""
    hold, held = asyncio.Event(), asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.set()
        await hold.wait()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    app = hooked_app(database)
    async with app, receiving(slow) as receiver, app.worker():
        hook = await app.webhooks.create(receiver.url, "job.completed")
        job = await defer(app, "note")
        await held.wait()
        await app.jobs.delete(job.id)
        hold.set()
        (delivery,) = await delivered(app, hook)

    assert (1, 200) == (delivery.tries, delivery.status)


async def test_a_job_that_looks_like_a_delivery_is_none(database: str) -> None:
    """What plain SQL has stored under a webhook's origin, of another task, breaks no look at its deliveries."""
    app = hooked_app(database)
    async with app:
        hook = await app.webhooks.create(URL, "job.dead")
        await asked(database, f"select jobqueue.defer('note', '{{}}', 'webhooks', origin => 'webhook:{hook.id}')")

        assert [] == await app.webhooks.deliveries(hook.id)


async def test_a_delivery_that_plain_sql_has_made_is_shown(database: str) -> None:
    """Whatever its payload is, it costs only its own type, and no look at the others."""
    app = hooked_app(database)
    async with app:
        hook = await app.webhooks.create(URL, "job.dead")
        for args in ("{}", '{"body": "x"}', '{"body": "[]"}', '{"body": {}}', '{"body": "{\\"type\\": 5}"}'):
            await asked(
                database,
                f"insert into jobqueue.job (task, queue, origin, args) values ('jobqueue.webhook', 'webhooks', "
                f"'webhook:{hook.id}', '{args}') returning 1",
            )

        assert [""] * 5 == [each.event for each in await app.webhooks.deliveries(hook.id)]


async def test_the_webhook_may_be_gone(database: str) -> None:
    """A webhook that is deleted during a delivery: it is recorded, and nothing breaks."""
    hold, held = asyncio.Event(), asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.set()
        await hold.wait()
        writer.write(b"HTTP/1.1 500 Error\r\ncontent-length: 0\r\n\r\n")

    app = hooked_app(database)
    async with app, receiving(slow) as receiver, app.worker():
        hook = await app.webhooks.create(receiver.url, "job.completed")
        test = await app.webhooks.test(hook.id)
        await held.wait()
        await asked(database, "delete from jobqueue.webhook")
        hold.set()
        await wait_until(lambda: _is_put_off(app, test), "the try has failed")
        await app.jobs.reschedule(test, delay=0)
        job = await app.sender.wait_final(test, PATIENCE)

    assert (JobState.CANCELLED, "the webhook was deleted") == (job.state, job.reason)


async def _is_put_off(app: App, id: UUID) -> bool:
    return (await app.jobs.get(id)).state is JobState.SCHEDULED


@pytest.mark.parametrize("broken", ["types = '{{a,b}}'", "types = '{job.cancelled}', url = 'https://[::1/'"])
async def test_a_webhook_that_cannot_be_read_hurts_no_other(database: str, broken: str) -> None:
    """What plain SQL has written into one row ends no worker, and another webhook is told as ever."""
    app = hooked_app(database)
    async with app, receiving() as receiver, app.worker():
        odd = await app.webhooks.create(URL, "job.cancelled")
        hook = await app.webhooks.create(receiver.url, "job.completed")
        await asked(database, f"update jobqueue.webhook set {broken} where id = $1", odd.id)
        note = app.registry.find("note")
        assert note is not None
        late = await note.options(delay=3600).defer("text")
        await app.jobs.cancel(late.id)
        for number in range(3):
            await defer(app, "note")
            await delivered(app, hook, number + 1)
        hosts = {each.id: each.host for each in await app.webhooks.list()}

    assert 3 == len(receiver.posts)
    assert {odd.id, hook.id} == set(hosts)


async def test_relays_survive_the_database(database: str) -> None:
    """A relay whose connections are cut goes on by itself."""
    app = hooked_app(database)
    async with app, relays(database, 1) as (there,):
        hook = await app.webhooks.create(URL, "job.cancelled")
        with contextlib.suppress(asyncpg.PostgresError, OSError):
            await asked(
                database,
                "select count(pg_terminate_backend(pid)) from pg_stat_activity"
                " where datname = current_database() and application_name = 'tests' and pid <> pg_backend_pid()",
            )
        handle = await defer(app, "note")
        await app.jobs.cancel(handle.id)

        async def is_made() -> bool:
            return bool(await made(database, hook))

        await wait_until(is_made, "the delivery is made")
    assert there.schema == "jobqueue"
