"""`app.testing()`: jobs in memory, recorded or run at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobqueue import (
    App,
    Cancel,
    ConfigurationError,
    DuplicateJob,
    FailedAttempt,
    Fatal,
    InvalidOption,
    InvalidPayload,
    JobCancelled,
    JobContext,
    JobFailed,
    JobNotFound,
    JobState,
    NewJob,
    ResultTimeout,
    Retry,
    Router,
    Sent,
    Snooze,
    Unique,
    current_job,
    steps,
)


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> App:
    """An app whose database cannot be reached: whatever works here needs none."""
    monkeypatch.setenv("JOBQUEUE_DSN", "postgresql://postgres@127.0.0.1:1/none")
    return App(name="shop")


@dataclass
class Mail:
    to: str
    copies: int = 0


async def test_record_keeps_and_drain_runs(nowhere: App) -> None:
    """S4-113: recorded jobs are listed with arguments and options; drain runs them by priority, then by age."""
    ran: list[str] = []

    @nowhere.task
    async def send(mail: Mail, *, note: str = "") -> str:
        ran.append(mail.to)
        return mail.to

    async with nowhere.testing() as t:
        first = await send.defer(Mail("ada"), note="x")
        await send.options(queue="bulk").defer_many([Mail("bob")])
        await nowhere.defer_many([send.options(priority=5, meta={"a": 1}).job(Mail("eve"))], connection=object())
        assert [] == ran
        assert [("ada", "default"), ("bob", "bulk"), ("eve", "default")] == [
            (job.args["mail"]["to"], job.queue) for job in t.deferred()
        ]
        assert JobState.READY is await first.status()
        assert {"a": 1} == t.deferred(send)[2].meta
        assert ["eve", "ada"] == [job.args["mail"]["to"] for job in await t.drain(queue="default")]
        assert ["bob"] == [job.result for job in await t.drain()]
        assert "ada" == await first.result()
        assert ["completed"] * 3 == [job.state for job in t.deferred()]


async def test_inline_runs_at_once_and_as_in_production(nowhere: App) -> None:
    """S4-110: the job has run when its defer returns, through JSON and both kinds of middleware."""
    told: list[str] = []

    async def tagged(job: NewJob[Any], call_next: Any) -> Sent:
        told.append("defer")
        sent: Sent = await call_next(job)
        return sent

    async def timed(ctx: JobContext, call_next: Any) -> Any:
        told.append(f"run {ctx.attempt} {ctx.job.queue}")
        return await call_next(ctx)

    app = App("postgresql://postgres@127.0.0.1:1/none", middleware=[tagged, timed])

    @app.task(queue="mail")
    async def send(ctx: JobContext, mail: Mail) -> Mail:
        assert ctx is current_job()
        return Mail(mail.to, mail.copies + 1)

    async with app.testing("inline") as t:
        handle = await send.defer(Mail("ada"))
        assert (JobState.COMPLETED, Mail("ada", 1)) == (await handle.status(), await handle.result())
        assert ["defer", "run 1 mail"] == told
        with pytest.raises(InvalidPayload):
            await send.defer(Mail(1))  # type: ignore[arg-type]
        assert [handle.id] == [job.id for job in t.deferred()]


async def test_failures_follow_the_policy_by_the_clock(nowhere: App) -> None:
    """S4-40: retries wait for the clock, on_error is told of each attempt, and the handle says how it ended."""
    told: list[tuple[int, bool]] = []

    @nowhere.on_error
    async def hear(failed: FailedAttempt) -> None:
        told.append((failed.attempt, failed.will_retry))

    @nowhere.task(retry=steps(60, 3600), max_attempts=3)
    async def charge(cents: int) -> None:
        raise RuntimeError("no")

    async with nowhere.testing("inline") as t:
        handle = await charge.defer(3)
        assert (JobState.SCHEDULED, [(1, True)]) == (await handle.status(), told)
        with pytest.raises(ResultTimeout, match=r"due within 60 s: t\.clock\.advance\(60\).*RuntimeError: no"):
            await handle.result()
        t.clock.advance(59)
        assert [] == await t.drain()
        t.clock.advance(timedelta(seconds=1))
        assert [2] == [job.attempt for job in await t.drain()]
        t.clock.advance(3600)
        assert ["RuntimeError"] == [job.error.error_class for job in await t.drain() if job.error]
        assert [(1, True), (2, True), (3, False)] == told
        with pytest.raises(JobFailed, match="RuntimeError"):
            await handle.result()


async def test_every_way_to_end_an_attempt(nowhere: App) -> None:
    """Retry elsewhere, Snooze, Cancel, Fatal, a timeout and a sync task end as in a worker."""

    @nowhere.task(max_attempts=3)
    async def odd(ctx: JobContext, how: str) -> str:
        match how:
            case "retry" if ctx.attempt == 1:
                raise Retry(delay=0, queue="other", priority=7)
            case "snooze" if ctx.job.errors == () and ctx.job.due_at == ctx.job.created_at:
                raise Snooze(30)
            case "cancel":
                raise Cancel("unwanted")
            case "fatal":
                raise Fatal("never")
            case "late":
                await asyncio.Event().wait()
        return f"{how} {ctx.attempt} {ctx.job.queue}"

    @nowhere.task
    def plain(number: int) -> int:
        return number + 1

    async with nowhere.testing() as t:
        handles = {how: await odd.defer(how) for how in ("retry", "snooze", "cancel", "fatal")}
        late = await odd.options(timeout=0.01, max_attempts=1).defer("late")
        added = await plain.defer(1)
        await t.drain()
        assert ("retry 2 other", 2) == (await handles["retry"].result(), await added.result())
        assert JobState.SCHEDULED is await handles["snooze"].status()
        with pytest.raises(JobCancelled, match="unwanted"):
            await handles["cancel"].result()
        for handle, why in ((handles["fatal"], "never"), (late, "timeout")):
            with pytest.raises(JobFailed, match=why):
                await handle.result()
        t.clock.advance(30)
        await t.drain()
        assert "snooze 1 default" == await handles["snooze"].result()


async def test_delays_expiry_and_budget_go_by_the_clock(nowhere: App) -> None:
    """A delayed job waits for the clock also inline; one that comes too late is dead."""

    @nowhere.task
    async def note(text: str) -> None: ...

    async with nowhere.testing("inline") as t:
        now = datetime.now(UTC)
        waits = [await note.options(delay=60).defer("a"), await note.options(at=now + timedelta(hours=1)).defer("b")]
        assert JobState.COMPLETED is await (await note.options(at=now).defer("c")).status()
        assert ["scheduled"] * 2 == [await handle.status() for handle in waits]
        t.clock.advance(7200)
        await t.drain()
        assert ["completed"] * 2 == [await handle.status() for handle in waits]
    async with nowhere.testing() as t:
        expired = await note.options(expires=10).defer("d")
        spent = await note.options(budget=10).defer("e")
        t.clock.advance(10)
        assert ["expired", "budget"] == [job.reason for job in await t.drain()]
        assert ["dead", "dead"] == [await expired.status(), await spent.status()]


async def test_phases_sleeps_and_signals(nowhere: App) -> None:
    """A step runs once for all runs of its job; a sleep ends by the clock, a wait by its signal."""
    steps_run: list[str] = []

    async def step(name: str) -> str:
        steps_run.append(name)
        return name.upper()

    @nowhere.task
    async def order(ctx: JobContext, number: int) -> str:
        charged = await ctx.phase("charge", step, "charged")
        await ctx.sleep("cool-down", days=1)
        sent = await ctx.phase("send", step, "sent")
        word = await ctx.wait_for("approval", str, timeout=3600)
        return f"{charged} {sent} {word} {await ctx.phase_result('charge', str)}"

    async with nowhere.testing("inline") as t:
        handle = await order.defer(1)
        assert (["charged"], JobState.SCHEDULED) == (steps_run, await handle.status())
        t.clock.advance(timedelta(days=1))
        await t.drain()
        assert (["charged", "sent"], JobState.SCHEDULED) == (steps_run, await handle.status())
        await handle.signal("approval", "yes")
        assert "CHARGED SENT yes CHARGED" == await handle.result()
        assert ["charged", "sent"] == steps_run

        late = await order.options(max_attempts=1).defer(2)
        t.clock.advance(timedelta(days=1))
        await t.drain()
        t.clock.advance(3600)
        await t.drain()
        with pytest.raises(JobFailed, match="TimeoutError"):
            await late.result()


async def test_sleeps_side_by_side_last_as_long_as_was_said_first(nowhere: App) -> None:
    """A run that the shorter one wakes does not begin the longer one anew."""

    @nowhere.task
    async def both(ctx: JobContext) -> None:
        await asyncio.gather(ctx.sleep("short", hours=1), ctx.sleep("long", hours=2))

    async with nowhere.testing("inline") as t:
        handle = await both.defer()
        for state in ("scheduled", "completed"):
            t.clock.advance(timedelta(hours=1))
            await t.drain()
            assert state == await handle.status()


async def test_a_job_may_defer_others_and_wait_for_them(nowhere: App) -> None:
    """In both modes a handler finds the result of a job that it has deferred."""

    @nowhere.task
    async def half(number: int) -> int:
        return number // 2

    @nowhere.task
    async def whole(number: int) -> int:
        return 2 * await (await half.defer(number)).result()

    for mode in ("record", "inline"):
        async with nowhere.testing(mode) as t:
            handle = await whole.defer(6)
            await t.drain()
            assert 6 == await handle.result()
            assert ["whole", "half"] == [job.task for job in t.deferred()]


async def test_unique_keys_and_ids(nowhere: App) -> None:
    """Keys are held, met and freed as in the database; nothing of a refused call is kept."""

    @nowhere.task
    async def index(text: str) -> str:
        return text

    async with nowhere.testing() as t:
        one = await index.options(unique="k").defer("a")
        other = await index.options(unique=Unique("k", on_conflict="replace+move"), delay=60).defer("b")
        assert (one, True, "replaced+moved") == (other, other.duplicate, other.conflict)
        with pytest.raises(DuplicateJob):
            await nowhere.defer_many([index.job("c"), index.options(unique=Unique("k", on_conflict="raise")).job("d")])
        assert ["b"] == [job.args["text"] for job in t.deferred()]
        assert [] == await t.drain()
        t.clock.advance(60)
        await t.drain()
        again = await index.options(unique="k").defer("e")
        assert not again.duplicate
        assert "b" == await one.result()
        sent = [
            await index.options(id=again.id).defer("f"),
            await index.options(unique=Unique(scope="waiting")).defer("g"),
        ]
        assert [True, False] == [handle.duplicate for handle in sent]


async def test_cancelling(nowhere: App) -> None:
    """A job that waits is cancelled at once, one that runs is cut off; a cancelled drain gives its job back."""
    begun = asyncio.Event()

    @nowhere.task
    async def long() -> None:
        begun.set()
        await asyncio.Event().wait()

    async with nowhere.testing() as t:
        waits = await long.defer()
        assert ("done", "too_late") == (await waits.cancel(), await waits.cancel())
        runs = await long.defer()
        draining = asyncio.create_task(t.drain())
        await begun.wait()
        assert "asked" == await runs.cancel()
        await draining
        assert ["cancelled"] * 2 == [job.state for job in t.deferred()]
        begun.clear()
        back = await long.defer()
        draining = asyncio.create_task(t.drain())
        await begun.wait()
        draining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await draining
        job = t.deferred()[-1]
        assert (back.id, "ready", 0) == (job.id, job.state, job.attempt)


async def test_schedules_fire_as_the_clock_moves(nowhere: App) -> None:
    """What the code declares and what is put fires once for each planned time, and overlaps as it says."""

    @nowhere.cron("0 * * * *")
    async def hourly(ctx: JobContext) -> None:
        assert ctx.job.planned_at is not None

    @nowhere.task
    async def remind(user: str) -> None: ...

    async with nowhere.testing() as t:
        await nowhere.schedules.put("remind-ada", remind.job("ada"), "30 * * * *", overlap="skip")
        t.clock.advance(timedelta(hours=3))
        t.assert_deferred(hourly, times=3)
        t.assert_deferred(remind, times=1, user="ada")
        await t.drain()
        t.clock.advance(timedelta(hours=1))
        t.assert_deferred(remind, times=2)
        assert "stored" == (await nowhere.schedules.get("remind-ada")).source
        with pytest.raises(ConfigurationError, match=r"app\.testing\(\) has no database"):
            await nowhere.schedules.list()


async def test_a_schedule_that_queues(nowhere: App) -> None:
    """Its next job begins when the one before has ended, however that was."""
    begun: list[datetime | None] = []

    @nowhere.cron("0 * * * *", overlap="queue")
    @nowhere.task(max_attempts=1)
    async def hourly(ctx: JobContext) -> None:
        begun.append(ctx.job.planned_at)
        raise RuntimeError

    async with nowhere.testing() as t:
        t.clock.advance(timedelta(hours=2))
        assert ["ready", "blocked"] == [job.state for job in t.deferred(hourly)]
        assert ["dead", "dead"] == [job.state for job in await t.drain()]
        assert begun == sorted(begun, key=str)


async def test_synchronous_defers(nowhere: App) -> None:
    """defer_sync is recorded from any thread; inline its job runs at once on a loop of its own."""

    @nowhere.task
    async def note(text: str) -> str:
        await asyncio.sleep(0)
        return text

    async with nowhere.testing() as t:
        await asyncio.to_thread(note.options(connection=object()).defer_sync, "a")
        t.assert_deferred(note, text="a")
    async with nowhere.testing("inline"):
        handle = await asyncio.to_thread(note.options(connection=object()).defer_sync, "b")
        assert "b" == await handle.result()


def test_without_a_loop(nowhere: App) -> None:
    """A synchronous test takes `with`; drain runs where it likes."""

    @nowhere.task
    async def note(text: str) -> str:
        return text

    with nowhere.testing() as t:
        note.options(connection=object()).defer_sync("a")
        assert ["a"] == [job.result for job in asyncio.run(t.drain())]


async def test_blocks_nest_and_leave_all_as_found(nowhere: App) -> None:
    """The inner block has what is deferred inside it; afterwards, also after an error, all is as it was."""
    router = Router()

    @router.task
    async def note(text: str) -> None: ...

    nowhere.include(router)
    found = nowhere.sender, nowhere.jobs, nowhere.bundles, nowhere.schedules, router.link.sender
    async with nowhere.testing() as outer:
        await note.defer("a")
        with pytest.raises(RuntimeError), breaking():
            async with nowhere.testing("inline") as inner:
                await note.defer("b")
                raise RuntimeError
        await note.defer("c")
        assert [["a", "c"], ["b"]] == [[job.args["text"] for job in t.deferred()] for t in (outer, inner)]
        with pytest.raises(ConfigurationError, match="entered once"):
            async with outer:
                pass
    assert found == (nowhere.sender, nowhere.jobs, nowhere.bundles, nowhere.schedules, router.link.sender)


@contextmanager
def breaking() -> Iterator[None]:
    yield


async def test_resources_and_what_needs_a_database(nowhere: App) -> None:
    """`ctx.get` finds what the test gives; a transaction, a worker and a list say what to do instead."""

    @nowhere.task(max_attempts=1)
    async def store(ctx: JobContext, number: int) -> int:
        if number:
            async with ctx.transaction():
                return 0
        return ctx.get(dict)["answer"]  # type: ignore[no-any-return]

    async with nowhere.testing("inline", resources={"answer": 42}) as t:
        assert 42 == await (await store.defer(0)).result()
        with pytest.raises(JobFailed, match=r"app\.testing\(connection="):
            await (await store.defer(1)).result()
        for refused in (nowhere.run_until_idle, nowhere.jobs.counts, nowhere.migrate):
            with pytest.raises(ConfigurationError, match="has no database"):
                await refused()
        with pytest.raises(JobNotFound):
            await store.handle("0192f0c0-0000-7000-8000-000000000001").status()
        assert t.deferred()[0] == await nowhere.jobs.get(t.deferred()[0].id)


def test_what_the_block_refuses(nowhere: App) -> None:
    """A wrong mode, or one with options of another."""
    for wrong in (
        {"mode": "dry"},
        {"mode": "inline", "jobs": True},
        {"bundles": True},
        {"mode": "ignore", "jobs": ["note"]},
        {"mode": "ignore", "jobs": 5},
    ):
        with pytest.raises(InvalidOption):
            nowhere.testing(**wrong)
