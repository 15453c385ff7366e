"""What the log tells of phases, sleeps and waits of jobs that are followed, in which order, and to whom."""

import asyncio
import json
from collections import defaultdict
from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest

from jobqueue import JobContext
from jobqueue.base.flows.event import Event
from jobqueue.web import events
from jobqueue.webhooks import relay
from tests.support.jobs.store import connect
from tests.support.jobs.told import taken
from tests.support.jobs.working import new_app, one_waits
from tests.support.receiver import KEY, delivered, hooked_app, receiving
from tests.web.streams import everybody, site, streaming


def brief(event: Event) -> str:
    """`phase charge completed`, `started`."""
    words = [event.type.removeprefix("job."), *(() if event.data is None else event.data.values())]
    return " ".join(map(str, words))


async def test_what_a_followed_job_does_is_told_in_order(database: str) -> None:
    """Its start first, then each phase as it ends, then its end; of many jobs at once, also of a phase that commits
    with a transaction. A job that nobody follows is told of at its end only."""
    app = new_app(database)

    async def step(n: int) -> int:
        return n

    async def insert(connection: Any) -> int:
        return int(await connection.fetchval("select 1"))

    @app.task
    async def work(ctx: JobContext, n: int) -> None:
        if n % 2:
            await ctx.phase_in_transaction("rows", insert)
        else:
            await ctx.phase("rows", step, n)
        await ctx.phase("last", step, n)

    async with app, app.events() as stream:
        followed = await app.defer_many(work.options(follow=True).job(n) for n in range(40))
        (plain,) = await app.defer_many([work.job(0)])
        async with app.worker(concurrency=4):
            told = await taken(stream, 4 * 40 + 1)

    by_job = defaultdict[UUID, list[str]](list)
    for event in told:
        by_job[event.job_id].append(brief(event))
    whole = ["started", "phase rows completed", "phase last completed", "completed"]
    assert {job.id: whole for job in followed} | {plain.id: ["completed"]} == by_job


async def test_sleeps_and_waits_are_told(database: str) -> None:
    """A sleep and a wait tell that they began and ended, and the job that it waits: no slot is taken. What is found
    again by a later run is not told again."""
    app = new_app(database)

    async def step() -> None: ...

    @app.task(follow=True)
    async def work(ctx: JobContext) -> None:
        await ctx.phase("first", step)
        await ctx.sleep("breath", 0.2)
        await ctx.wait_for("approved", bool)

    async with app, app.events() as stream, app.worker(concurrency=1):
        job = await work.defer()
        told = await taken(stream, 8)
        await job.signal("approved", True)
        told += await taken(stream, 3)

    assert [
        "started", "phase first completed", "phase breath sleeping", "waiting",
        "started", "phase breath completed", "phase approved waiting", "waiting",
        "started", "phase approved completed", "completed",
    ] == [brief(event) for event in told]  # fmt: skip
    assert {1} == {event.attempt for event in told if event.type in ("job.started", "job.phase", "job.waiting")}
    assert {None} == {event.data for event in told if event.type != "job.phase"}


async def test_what_was_before_a_wait_is_told_before_it(database: str) -> None:
    """A job has noted how a phase ended, and has come to a wait, all while phases of another were being written."""
    app, go, has_come = new_app(database), asyncio.Event(), asyncio.Event()

    async def step() -> None: ...

    async def fail() -> None:
        raise ValueError

    @app.task(follow=True)
    async def work(ctx: JobContext) -> None:
        await ctx.phase("first", step)
        await go.wait()
        with suppress(ValueError):
            await ctx.phase("charge", fail)
        has_come.set()
        await ctx.wait_for("approved", bool)

    @app.task
    async def other(ctx: JobContext) -> None:
        await ctx.phase("first", step)

    async with app, app.events(types=["job.phase"]) as stream, app.worker(concurrency=2):
        await work.defer()
        await taken(stream, 1)
        async with connect(database) as connection, connection.transaction():
            await connection.execute("lock table jobqueue.phase in exclusive mode")
            await other.defer()
            await one_waits(database)
            go.set()
            await has_come.wait()
        told = await taken(stream, 2)

    assert ["phase charge failed", "phase approved waiting"] == [brief(event) for event in told]


async def test_how_a_phase_ends_is_told(database: str) -> None:
    """A phase that takes a moment is told to run, one that raises to have failed, a wait in vain as well; never what a
    phase gave, nor the text of an error."""
    app, let_go = new_app(database), asyncio.Event()

    async def fail() -> None:
        await let_go.wait()
        raise ValueError("secret")

    @app.task(follow=True, max_attempts=1)
    async def work(ctx: JobContext) -> None:
        try:
            await ctx.phase("charge", fail)
        finally:
            await ctx.wait_for("approved", bool, 0.001)

    async with app, app.events(types=["job.phase"]) as stream, app.worker(concurrency=1):
        await work.defer()
        told = await taken(stream, 1)
        let_go.set()
        while told[-1].data != {"phase": "approved", "state": "failed"}:
            told += await taken(stream, 1)

    assert ["phase charge running", "phase charge failed"] == [brief(event) for event in told[:2]]
    assert "secret" not in str(told)


async def test_browsers_and_receivers_hear_of_phases(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event of a phase is the same in a stream of server-sent events and in a webhook's body: its name and state."""
    monkeypatch.setenv("JOBQUEUE_WEBHOOK_KEY", KEY)
    monkeypatch.setattr(relay, "_NONE", 0.1)  # a worker that knew of no webhook finds the first one soon
    app = hooked_app(database)

    async def step() -> str:
        return "marker-93ad"

    @app.task(follow=True)
    async def work(ctx: JobContext) -> None:
        await ctx.phase("charge", step)

    async with receiving() as receiver, app, site(events(app, authorize=everybody)) as url, app.worker():
        hook = await app.webhooks.create(receiver.url, {"job.phase"})
        job = await work.defer()
        await delivered(app, hook)
        (post,) = receiver.posts
        async with streaming(url, "types=job.phase", after="0") as client:
            (message,) = await client.take(1)

    body = json.loads(post.body)
    assert ("job.phase", "job.phase") == (body["type"], message.event)
    assert {"phase": "charge", "state": "completed"} == body["data"]["data"] == message.data["data"]
    assert str(job.id) == body["data"]["job_id"]
    assert "marker-93ad" not in post.body.decode() + str(message)
