"""Calls that are right: mypy and pyright, both strict, find nothing here and see the exact types."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type
from uuid import UUID

from psycopg import AsyncConnection
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from jobqueue import (
    App,
    Backfilled,
    Bundle,
    Change,
    Conflict,
    Event,
    Job,
    JobContext,
    JobHandle,
    Limit,
    LimitLine,
    LimitStats,
    Listener,
    NewJob,
    Phase,
    Rate,
    Router,
    Schedule,
    Task,
    Timing,
    Unique,
    bounded_map,
    exponential,
)
from jobqueue.testing import Kit

router = Router("shop.")
app = App("postgresql://nowhere/none")


class Mail(BaseModel):
    to: str


class Report(BaseModel):
    lines: list[str] = []


@router.task
async def send(mail: Mail) -> str:
    return mail.to


@app.task(queue="images", timeout=30, retry=exponential(first=1), unique=Unique("a"), aliases=["scale"])
async def resize(ctx: JobContext, path: str, *, width: int = 800) -> Report:
    return Report(lines=[path, str(width), str(ctx.attempt)])


@router.task(name="shop.count", timeout=timedelta(minutes=1), max_attempts=3)
def count(words: list[str]) -> int:
    return len(words)


@router.task()
def store(ctx: JobContext, path: str, /, more: int = 0) -> None:
    ctx.raise_if_cancelled()


@router.task
async def free(ctx: JobContext, payload: dict[str, Any]) -> dict[str, Any]:
    return payload


@router.task
async def free_without(payload: dict[str, Any]) -> Any:
    return payload


@router.task
def free_plain(ctx: JobContext, payload: dict[str, Any]) -> Any:
    return payload


@router.task
def free_plain_without(payload: dict[str, Any]) -> list[Any]:
    return [payload]


@router.task
async def anything(payload: Any) -> int:
    return len(str(payload))


@router.task
async def tick() -> None: ...


@router.task
def tock(ctx: JobContext) -> None: ...


@router.batch_task(size=100, wait=0.05)
async def index(mails: list[Mail]) -> list[str | Exception]:
    return [mail.to for mail in mails]


@app.batch_task(size=10, wait=timedelta(seconds=1), queue="index", timeout=30, retry=exponential(first=1))
async def index_all(mails: list[Mail]) -> None: ...


@router.batch_task()
async def index_gathered(words: list[str]) -> list[int | BaseException]:
    return await asyncio.gather(*map(length, words), return_exceptions=True)


@router.batch_task()
async def index_perhaps(words: list[str]) -> Sequence[str | None]:
    return words


@router.batch_task()
async def index_or_fail(words: list[str]) -> list[Exception | None]:
    return [None for _ in words]


@router.batch_task()
def index_plain(payloads: list[dict[str, Any]]) -> list[Report | Exception]:
    return [Report() for _ in payloads]


@router.batch_task()
def index_plain_all(payloads: list[Any]) -> None: ...


@router.batch_task()
async def index_free(payloads: list[dict[str, Any]]) -> list[Any]:
    return payloads


def by_hand(job: object, error: BaseException) -> float | None:
    return None


@router.task(retry=by_hand)
async def retried(n: int) -> None: ...


async def defers() -> None:
    assert_type(await send.defer(Mail(to="a")), JobHandle[str])
    assert_type(await send.defer(mail=Mail(to="a")), JobHandle[str])
    assert_type(await resize.defer("a"), JobHandle[Report])
    assert_type(await resize.defer("a", width=1), JobHandle[Report])
    assert_type(await resize.defer(path="a"), JobHandle[Report])
    assert_type(await count.defer(["a"]), JobHandle[int])
    assert_type(await store.defer("a", more=2), JobHandle[None])
    assert_type(await free.defer({"a": 1}), JobHandle[dict[str, Any]])
    assert_type(await free_without.defer({"a": 1}), JobHandle[Any])
    assert_type(await free_plain.defer({"a": 1}), JobHandle[Any])
    assert_type(await free_plain_without.defer({"a": 1}), JobHandle[list[Any]])
    assert_type(await anything.defer({1, 2}), JobHandle[int])
    assert_type(await tick.defer(), JobHandle[None])
    assert_type(await tock.defer(), JobHandle[None])
    assert_type(await retried.defer(1), JobHandle[None])


async def defers_many() -> None:
    assert_type(await send.defer_many([Mail(to="a")]), list[JobHandle[str]])
    assert_type(await resize.defer_many(["a", "b"]), list[JobHandle[Report]])
    assert_type(await count.defer_many(words for words in (["a"], ["b"])), list[JobHandle[int]])
    assert_type(await store.defer_many({"a"}), list[JobHandle[None]])
    assert_type(await free.defer_many([{"a": 1}]), list[JobHandle[dict[str, Any]]])
    assert_type(await free_plain.defer_many([{"a": 1}]), list[JobHandle[Any]])
    assert_type(await anything.defer_many([1, "a"]), list[JobHandle[int]])


@app.task
async def transactions(ctx: JobContext, sessions: str) -> None:
    engine = create_async_engine("postgresql+psycopg://nowhere/none")
    async with ctx.transaction() as plain:
        assert_type(plain, Any)
    async with ctx.transaction(session=async_sessionmaker(engine)) as made:
        assert_type(made, AsyncSession)
    async with ctx.transaction(session=AsyncSession(engine)) as session:
        assert_type(session, AsyncSession)
    async with ctx.transaction(connection=await AsyncConnection.connect("")) as connection:
        assert_type(connection, AsyncConnection[tuple[Any, ...]])


async def other_ways() -> None:
    assert_type(send.job(Mail(to="a")), NewJob[str])
    assert_type(resize.job("a", width=1), NewJob[Report])
    assert_type(count.job(["a"]), NewJob[int])
    assert_type(store.job("a"), NewJob[None])
    assert_type(await send.run(Mail(to="a")), str)
    assert_type(await resize.run("a"), Report)
    assert_type(await count.run(["a"]), int)
    assert_type(await free_plain.run({}), Any)
    assert_type(resize.options(connection=object()).defer_sync("a"), JobHandle[Report])
    assert_type(count.defer_sync(["a"]), JobHandle[int])
    assert_type(app.defer_many_sync([send.job(Mail(to="a")), count.job([])], connection=object()), list[JobHandle[Any]])
    assert_type(send.handle(UUID(int=1)), JobHandle[str])
    assert_type(store.handle("00000000-0000-0000-0000-000000000001"), JobHandle[None])
    assert_type(await (await resize.defer("a")).result(timeout=1), Report)
    await app.defer_many([send.job(Mail(to="a")), count.job([])])


async def options() -> None:
    slow = send.options(delay=timedelta(hours=1), queue="slow", priority=-1, meta={"a": [1]}, unique="a")
    assert_type(await slow.options(at=datetime.now(UTC), id=UUID(int=1)).defer(Mail(to="a")), JobHandle[str])
    assert_type(await slow.defer_many([Mail(to="a")]), list[JobHandle[str]])
    debounced = send.options(unique=Unique("a", scope="waiting", on_conflict="replace+move"))
    assert_type((await debounced.defer(Mail(to="a"))).conflict, Conflict | None)


async def batches() -> None:
    assert_type(await index.defer(Mail(to="a")), JobHandle[str])
    assert_type(await index.options(delay=5).defer(Mail(to="a")), JobHandle[str])
    assert_type(await index.defer_many([Mail(to="a")]), list[JobHandle[str]])
    assert_type(await index.run(Mail(to="a")), str)
    assert_type(index.job(Mail(to="a")), NewJob[str])
    assert_type(index.handle(UUID(int=1)), JobHandle[str])
    assert_type(await index_all.defer(Mail(to="a")), JobHandle[None])
    assert_type(await index_all.defer_many([Mail(to="a")]), list[JobHandle[None]])
    assert_type(await index_gathered.defer("a"), JobHandle[int])
    assert_type(await index_perhaps.defer("a"), JobHandle[str | None])
    assert_type(await index_or_fail.defer("a"), JobHandle[None])
    assert_type(await index_plain.defer({"a": 1}), JobHandle[Report])
    assert_type(await index_plain.defer_many([{"a": 1}]), list[JobHandle[Report]])
    assert_type(await index_plain.run({"a": 1}), Report)
    assert_type(await index_plain_all.defer(1), JobHandle[None])
    assert_type(await index_free.defer({"a": 1}), JobHandle[Any])
    await app.defer_many([index.job(Mail(to="a")), index_plain.job({})])


async def still_functions(ctx: JobContext) -> None:
    assert_type(await send(Mail(to="a")), str)
    assert_type(await resize(ctx, "a", width=3), Report)
    assert_type(count(["a"]), int)
    assert_type(store(ctx, "a"), None)


async def pages() -> AsyncIterator[str]:
    yield "a"


async def length(word: str) -> int:
    return len(word)


async def bounded(words: list[str]) -> None:
    assert_type(await bounded_map(length, words), list[int])
    assert_type(await bounded_map(length, (word for word in words), limit=5), list[int])
    assert_type(await bounded_map(length, pages(), 5), list[int])
    assert_type(await bounded_map(send, [Mail(to="a")]), list[str])
    assert_type(await bounded_map(lambda word: tick.defer(), words), list[JobHandle[None]])


def hear(event: Event) -> None: ...


@app.on("job.completed", queue="mail")
async def hear_later(event: Event) -> None: ...


async def what_became_of_jobs() -> None:
    async for event in app.events(types=["job.dead", "job.retried"], task="send"):
        assert_type(event, Event)
        assert_type(event.bundle_id, UUID | None)
        assert_type(await hear_later(event), None)
    assert_type(app.on("job.dead", hear), Listener)
    async with app.events("48213.7") as stream:
        assert_type(stream.position, str | None)
    await app.webhooks.create("https://example.org", {"job.dead"}, task="send")


def covariant(handle: JobHandle[bool], job: NewJob[bool]) -> tuple[JobHandle[int], NewJob[object]]:
    return handle, job


def anyone(task: Task[..., Any]) -> str:
    return task.name


anyone(send)
anyone(store)
anyone(index)


@app.task
async def finish_import(ctx: JobContext) -> None:
    assert ctx.bundle is not None
    assert_type(await ctx.bundle.add(send.job(Mail(to="a"))), JobHandle[str])
    assert_type(await ctx.bundle.results(send), dict[UUID, str])
    assert_type(await ctx.bundle.results(count), dict[UUID, int])
    assert_type(await ctx.bundle.add(send.job(Mail(to="a")), after=[ctx.job], when="ended"), JobHandle[str])
    assert_type(await ctx.results(send), list[str])
    assert_type(await ctx.results(count), list[int])


async def what_ends_together(ctx_job: Job) -> None:
    async with app.bundle("import", on_success=finish_import.job(), empty="finish") as b:
        first = b.add(resize.job("a.png"))
        assert_type(first, JobHandle[Report])
        assert_type(b.add(send.job(Mail(to="a")), after=[first, ctx_job, str(first.id)]), JobHandle[str])
        assert_type(b.add_many([send.job(Mail(to="a"))]), list[JobHandle[str]])
        await b.flush()
    assert_type(await app.bundles.wait(b.id, timeout=5), Bundle)
    assert_type(await app.bundles.results(b.id, resize), dict[UUID, Report])


async def charge(mail: Mail, *, cents: int = 100) -> Report:
    return Report(lines=[mail.to, str(cents)])


def ship(path: str) -> int:
    return len(path)


async def reserve(connection: Any, mail: Mail, number: int = 1) -> list[int]:
    return [number]


class Warehouse:
    async def pack(self, mail: Mail) -> Mail:
        return mail


@app.task
async def order(ctx: JobContext, mail: Mail) -> str:
    assert_type(await ctx.phase("charge", charge, mail), Report)
    assert_type(await ctx.phase("charge more", charge, mail, cents=500), Report)
    assert_type(await ctx.phase("ship", ship, "a"), int)
    assert_type(await ctx.phase("ship again", ship, path="a"), int)
    assert_type(await ctx.phase("pack", Warehouse().pack, mail), Mail)
    assert_type(await ctx.phase("send", send, mail), str)
    assert_type(await ctx.phase("count", count, ["a"]), int)
    assert_type(await ctx.phase("nothing", tick), None)
    assert_type(await ctx.phase("quick", lambda: 5), int)
    assert_type(await ctx.options(timeout=timedelta(minutes=1)).phase("slow", charge, mail), Report)
    tried = ctx.options(timeout=5, retry=exponential(first=1), max_attempts=3)
    assert_type(await tried.phase("ship thrice", ship, "a"), int)
    assert_type(await ctx.phase_in_transaction("reserve", reserve, mail, number=2), list[int])
    assert_type(await tried.phase_in_transaction("reserve more", reserve, mail), list[int])
    both = await asyncio.gather(ctx.phase("a", charge, mail), ctx.phase("b", ship, "b"))
    assert_type(both, tuple[Report, int])
    assert_type(await ctx.sleep("cool down", days=1, hours=2), None)
    assert_type(await ctx.sleep("until", until=datetime.now(UTC)), None)
    assert_type(await ctx.wait_for("approved", Mail, timeout=timedelta(days=2)), Mail)
    assert_type(await ctx.wait_for("number", int, signal="item"), int)
    assert_type(await ctx.phase_result("charge", Report), Report)
    assert_type(await ctx.phase_result("charge"), Any)
    return mail.to


async def what_is_sent_to_jobs(handle: JobHandle[str]) -> None:
    assert_type(await handle.signal("approved", Mail(to="a")), Change)
    assert_type(await handle.signal("go"), Change)
    assert_type(await app.jobs.signal(str(handle.id), "approved", {"to": "a"}, connection=object()), Change)
    assert_type(await app.jobs.phases(handle.id), Sequence[Phase])
    await app.jobs.retry(handle.id, from_start=True)
    assert_type(await order.options(signals={"approved": [Mail(to="a")]}).run(Mail(to="a")), str)


smtp = Limit(50, rate=Rate(100, per=timedelta(minutes=1), burst=5), name="smtp")
router_of_mail = Router("mail.", limit=smtp, fair="mail.tenant")
app.limit_queue("mail", Limit(20))


def tenant_of(mail: Mail) -> str | None:
    return mail.to or None


@app.task(limit=[Limit(3, key="mail.to"), Limit(5, key=tenant_of, name="other"), smtp], fair=tenant_of)
async def limited(ctx: JobContext, mail: Mail) -> str:
    return mail.to


@app.batch_task(limit=Limit(1, key="mails.to", ordered=True), fair="mails.to")
async def limited_batch(mails: list[Mail]) -> list[int]:
    return [1 for _ in mails]


async def what_is_limited() -> None:
    assert_type(await limited.defer(Mail(to="a")), JobHandle[str])
    assert_type(await limited_batch.defer(Mail(to="a")), JobHandle[int])
    assert_type(limited.job(Mail(to="a")).gates, tuple[str, ...])
    assert_type(await app.limits.list(), Sequence[LimitStats])
    assert_type(await app.limits.get("smtp"), LimitStats)
    assert_type(await app.limits.set("smtp", concurrency=5, rate=Rate(1, 2.5), connection=object()), LimitStats)
    assert_type(await app.limits.reset("smtp"), LimitStats)
    assert_type(await app.limits.lines("smtp", 5, key="acme"), Sequence[LimitLine])
    assert_type(await app.limits.recount("smtp"), int)
    assert_type((await app.jobs.get("x")).waits_for, str | None)


@app.cron("0 7 * * *", tz="Europe/Vienna", missed="once", overlap="skip", jitter=timedelta(seconds=30))
async def digest() -> str:
    return ""


@router.cron("0 7 * * *", name="morning")
@router.cron("*/10 0 7 * * *", name="every ten seconds")
@router.task(queue="mail")
def tidy(ctx: JobContext) -> int:
    return 1


@app.cron("0 0 * * *")
async def sweep(days: int = 30) -> None: ...


async def what_is_planned(connection: Any) -> None:
    assert_type(await digest.defer(), JobHandle[str])
    assert_type(await tidy.defer(), JobHandle[int])
    assert_type(await app.schedules.put("remind", send.job(Mail(to="a")), "0 8 * * *", tz="Europe/Vienna"), Schedule)
    await app.schedules.put("remind", digest.job(), "0 8 * * *", starts_at=datetime.now(UTC), connection=connection)
    assert_type((await app.schedules.get("remind")).timing, Timing)
    assert_type(await app.schedules.list(source="stored", limit=5), Sequence[Schedule])
    assert_type(await app.schedules.next("remind", 3), Sequence[datetime])
    assert_type(await app.schedules.pause("remind", until=datetime.now(UTC)), Schedule)
    assert_type(await app.schedules.resume("remind"), Schedule)
    assert_type(await app.schedules.trigger("remind"), UUID)
    assert_type(await app.schedules.backfill("remind", datetime.now(UTC), datetime.now(UTC)), Backfilled)
    assert_type(await app.schedules.delete("remind"), None)


def is_urgent(job: NewJob[Any]) -> bool:
    return job.priority > 5


async def tests_of_an_application() -> None:
    async with app.testing("inline", resources=(1, "a")) as t:
        assert_type(t, Kit)
        assert_type(t.deferred(send), list[Job])
        assert_type(t.assert_deferred(order, times=2, mail=Mail(to="a")), list[Job])
        assert_type(await t.drain(queue="mail"), list[Job])
        assert_type(t.clock.advance(timedelta(days=1)), None)
        handle = await order.options(connection=object()).defer(Mail(to="a"))
        assert_type(handle.ignored, bool)
        assert_type(await handle.result(), str)
    with app.testing("ignore", jobs=send, bundles=lambda bundle: bundle.name == "import"):
        pass
    with app.testing("ignore", jobs=[send, order]), app.testing("ignore", jobs=is_urgent):
        pass
    async with app.testing(connection=object()) as lent:
        assert_type(lent.deferred(), list[Job])
