"""Calls that are wrong: each line names what mypy and pyright must find there, and they must find nothing else.

One wrong call is found by neither: a caller who passes the context. It looks like an ordinary first argument, and fails
at run time.
"""

from datetime import timedelta
from typing import Any

from pydantic import BaseModel

from jobqueue import App, JobContext, JobHandle, Limit, Rate, Router, Unique, bounded_map

router = Router()
app = App("postgresql://nowhere/none")


class Mail(BaseModel):
    to: str


@router.task
async def send(mail: Mail) -> str:
    return mail.to


@app.task(queue="images")
async def resize(ctx: JobContext, path: str, *, width: int = 800) -> int:
    return width


@router.task
def count(words: list[str]) -> int:
    return len(words)


@router.task
def store(ctx: JobContext, path: str) -> None: ...


@router.task
async def free(ctx: JobContext, payload: dict[str, Any]) -> dict[str, Any]:
    return payload


@router.task
async def free_without(payload: dict[str, Any]) -> dict[str, Any]:
    return payload


@router.task
def free_plain(ctx: JobContext, payload: dict[str, Any]) -> Any:
    return payload


@router.task
def free_plain_without(payload: dict[str, Any]) -> Any:
    return payload


@router.task
async def tick() -> None: ...


@router.task
def tock(ctx: JobContext) -> None: ...


@router.batch_task()
async def index(mails: list[Mail]) -> list[str | Exception]:
    return [mail.to for mail in mails]


@router.batch_task()
def index_plain(payloads: list[dict[str, Any]]) -> None: ...


async def batches() -> None:
    await index.defer("a")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await index.defer([Mail(to="a")])  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await index.defer()  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await index.defer(Mail(to="a"), Mail(to="b"))  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await index.defer_many(Mail(to="a"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await index.defer_many([[Mail(to="a")]])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await index.run(5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    index.job("a")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await index_plain.defer(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await index_plain.defer_many([5])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    a: JobHandle[int] = await index.defer(Mail(to="a"))  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    b: list[str] = await index.run(Mail(to="a"))  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    c: str = await (await index_plain.defer({})).result()  # type: ignore[assignment, func-returns-value]  # pyright: ignore[reportAssignmentType]
    _ = (a, b, c)


async def defers() -> None:
    await send.defer("a")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await send.defer()  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await send.defer(Mail(to="a"), 2)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await send.defer(letter=Mail(to="a"))  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await resize.defer(5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await resize.defer("a", 5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await resize.defer("a", width="5")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await resize.defer("a", height=5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await count.defer([1])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    await store.defer(5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    await store.defer()  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await free.defer(5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await free.defer([1])  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await free.defer({1: 2})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await free_without.defer(5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await free_plain.defer(5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await free_plain_without.defer(5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await tick.defer(5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await tock.defer(5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


async def defers_many() -> None:
    await send.defer_many(["a"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await send.defer_many(Mail(to="a"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await resize.defer_many([5])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await count.defer_many(["a", 5])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    await store.defer_many([5])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await free.defer_many([5])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await free_without.defer_many([5])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await free_plain.defer_many([5])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await free_plain_without.defer_many([5])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await tick.defer_many([5])  # type: ignore[arg-type, misc]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


async def other_ways() -> None:
    send.job("a")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    resize.job("a", width="5")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    free.job([1])  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    app.defer_many_sync(["a"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    await app.defer_many_sync([])  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
    App(require_connection="yes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    count.defer_sync([1])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    await resize.run(5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await free_plain.run(5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await send("a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    count([1])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    resize("a")  # type: ignore[arg-type, call-arg, unused-coroutine]  # pyright: ignore[reportCallIssue]
    send.handle(5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]


async def options() -> None:
    await send.options(delay="5").defer(Mail(to="a"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await send.options(dely=5).defer(Mail(to="a"))  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue, reportUnknownMemberType]
    await send.options(at=timedelta(1)).defer(Mail(to="a"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await send.options(unique=5).defer(Mail(to="a"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    send.options(unique=Unique("a", on_conflict="override"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await send.options(delay=5).defer("a")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]


async def results() -> None:
    a: int = await (await send.defer(Mail(to="a"))).result()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    b: str = await resize.run("a")  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    c: JobHandle[str] = await count.defer(["a"])  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    send.defer(Mail(to="a"))  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]
    _ = (a, b, c)


async def length(word: str) -> int:
    return len(word)


async def bounded() -> None:
    await bounded_map(length, [5])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await bounded_map(length, 5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await bounded_map(length, ["a"], limit="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await bounded_map(len, ["a"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    a: list[str] = await bounded_map(length, ["a"])  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]
    bounded_map(length, ["a"])  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]
    _ = a


@router.task(timeout="5")  # type: ignore[call-overload, untyped-decorator]  # pyright: ignore[reportArgumentType]
async def bad_timeout(n: int) -> None: ...


@router.task(limits=5)  # type: ignore[call-overload, untyped-decorator]  # pyright: ignore[reportCallIssue, reportUntypedFunctionDecorator]
async def bad_option(n: int) -> None: ...


@router.task(retry=5)  # type: ignore[call-overload, untyped-decorator]  # pyright: ignore[reportArgumentType]
async def bad_retry(n: int) -> None: ...


@router.batch_task(size="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
async def bad_size(words: list[str]) -> None: ...


@router.batch_task(wait="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
async def bad_wait(words: list[str]) -> None: ...


@router.batch_task()  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def one_item(word: str) -> None: ...


@router.batch_task()  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def no_list(words: list[str]) -> dict[str, str]:
    return {}


@router.batch_task()  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def with_context(ctx: JobContext, words: list[str]) -> None: ...


@router.batch_task()  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def too_many(words: list[str], more: int) -> None: ...


@router.batch_task  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue, reportUntypedFunctionDecorator]
async def without_parentheses(words: list[str]) -> None: ...


def hears_nothing() -> None: ...


app.events(types="job.deed")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
app.events(after=48213)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
app.on("job.dead", hears_nothing)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
app.on("deed", print)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]


async def what_comes_after() -> None:
    async with app.bundle("import") as b:
        first = b.add(resize.job("a"))
        b.add(resize.job("b"), after=first)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        b.add(resize.job("b"), after=[1])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
        b.add(resize.job("b"), after=[first], when="failed")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def charge(mail: Mail, *, cents: int = 100) -> int:
    return cents


def ship(path: str) -> int:
    return len(path)


async def reserve(connection: Any, mail: Mail) -> list[int]:
    return [1]


async def phases(ctx: JobContext, mail: Mail) -> None:
    ctx.transaction(session=5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    ctx.transaction(conn=5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await ctx.phase("charge", charge, "a")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await ctx.phase("charge", charge)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await ctx.phase("charge", charge, mail, cents="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await ctx.phase("charge", charge, mail, dollars=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await ctx.phase("charge", charge(mail))  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await ctx.phase(charge, mail)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await ctx.phase("ship", ship, 5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await ctx.phase("ship", ship, "a", "b")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    a: str = await ctx.phase("charge", charge, mail)  # type: ignore[call-overload]  # pyright: ignore[reportAssignmentType]
    b: str = await ctx.phase("ship", ship, "a")  # type: ignore[call-overload]  # pyright: ignore[reportAssignmentType]
    ctx.phase("ship", ship, "a")  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]
    await ctx.options(timeout="5").phase("ship", ship, "a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await ctx.options(retries=5).phase("ship", ship, "a")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue, reportUnknownMemberType]
    await ctx.options(max_attempts=3).phase("ship", ship, 5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    c: str = await ctx.options(max_attempts=3).phase("ship", ship, "a")  # type: ignore[call-overload]  # pyright: ignore[reportAssignmentType]
    await ctx.phase_in_transaction("reserve", reserve)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await ctx.phase_in_transaction("reserve", reserve, "a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await ctx.phase_in_transaction("ship", ship, "a")  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await ctx.phase_in_transaction("nothing", tick)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    d: int = await ctx.phase_in_transaction("reserve", reserve, mail)  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]
    await ctx.sleep("cool down", "1 day")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await ctx.sleep("cool down", weeks=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await ctx.sleep("cool down", until=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await ctx.wait_for("approved")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await ctx.wait_for("approved", mail)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    e: int = await ctx.wait_for("approved", Mail)  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]
    f: int = await ctx.phase_result("charge", Mail)  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]
    _ = (a, b, c, d, e, f)


async def signals(handle: JobHandle[str]) -> None:
    await handle.signal()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await handle.signal(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await app.jobs.signal(5, "approved")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await app.jobs.signal(handle.id)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    handle.signal("approved")  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]


def tenant_of(mail: Mail) -> float:
    return 1.5


async def limits() -> None:
    Limit("5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Limit(5, Rate(1, 1))  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Limit(5, key=tenant_of)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Limit(5, key=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Rate(100)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Rate(100, "1m")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.task(limit=5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    app.batch_task(fair=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.limit_queue("mail", 5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await app.limits.set("smtp", rate=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await app.limits.set("smtp", 5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    app.limits.reset("smtp")  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]


@app.cron("0 7 * * *")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def needs_a_number(n: int) -> None: ...


@app.cron("0 7 * * *")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
@app.task
async def needs_more(n: int) -> None: ...


@app.cron("0 7 * * *")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
def needs_more_than_its_context(ctx: JobContext, n: int) -> None: ...


@app.cron("0 7 * * *", missed="never")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
def digest() -> None: ...


@app.cron  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
def forgotten() -> None: ...


async def schedules(mail: Mail) -> None:
    await app.schedules.put("remind", send.job("a"), "0 8 * * *")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUnknownArgumentType]
    await app.schedules.put("remind", send, "0 8 * * *")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await app.schedules.put("remind", send.job(mail))  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await app.schedules.put("remind", send.job(mail), "0 8 * * *", overlap="never")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await app.schedules.backfill("remind", "2026-01-01", "2026-02-01")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await app.schedules.list(source="sql")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def tests_of_an_application() -> None:
    app.testing("dry")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.testing("ignore", jobs="send")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.testing("ignore", bundles=resize)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    async with app.testing() as t:
        t.assert_deferred("send")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        t.assert_deferred(resize, times="once")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        t.drain()  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]
        t.clock.advance("1 day")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        t.deferred("send")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
