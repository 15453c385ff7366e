"""One job is deferred: what is stored, which option wins, and which job answers for an id or a key."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from uuid_utils.compat import uuid4, uuid7

from jobqueue.app import App
from jobqueue.base.errors import InvalidOption
from jobqueue.base.job import Job, JobState
from jobqueue.base.outcome import Fatal
from jobqueue.base.settings import Settings
from jobqueue.tasks.options import Unique
from jobqueue.tasks.router import Router
from tests.support.jobs.working import archived, asked, counted
from tests.support.patience import PATIENCE
from tests.support.postgres.backends import backends, becomes
from tests.support.postgres.locks import jobs_held


async def said(text: str) -> str:
    return f"said {text}"


async def test_a_deferred_job_is_in_the_table(database: str) -> None:
    """S1-01, S1-04: defer gives a handle whose id is in the table; the job read back is typed, its state an enum."""
    app = App(database)
    handle = await app.task(said).defer("a")

    assert handle.id == await asked(database, "select id from jobqueue.job")
    job = await app.jobs.get(handle.id)
    assert (Job, JobState.READY, JobState.READY) == (type(job), job.state, await handle.status())
    assert (7, False, "said") == (handle.id.version, handle.duplicate, handle.task)
    await app.close()


async def test_what_is_not_said_has_its_documented_default(database: str) -> None:
    """A plain defer stores the defaults of the manual; the origin is the app's name. (S4-04)"""
    app = App(database, name="shop")
    job = await app.jobs.get((await app.task(said).defer("a")).id)

    assert ("said", "default", 0, 0, 20, 0, 0) == (
        job.task, job.queue, job.priority, job.attempt, job.max_attempts, job.crashes, job.lost,
    )  # fmt: skip
    assert ("shop", {"text": "a"}) == (job.origin, job.args)
    assert [None] * 8 == [
        job.timeout, job.deadline, job.expires_at, job.key, job.meta, job.result, job.error, job.finished_at,
    ]  # fmt: skip
    assert timedelta(0) <= datetime.now(UTC) - job.created_at < timedelta(minutes=1)
    assert job.due_at == job.created_at
    await app.close()


async def test_every_field_of_a_finished_job_can_be_read(database: str) -> None:
    """S4-01: a job that failed once and ended keeps all that was said of it and all that happened to it."""
    app = App(database)

    @app.task(name="flaky", retry=lambda job, error: 0)
    async def flaky(text: str) -> dict[str, str]:
        if len(app_errors) == 0:
            app_errors.append("first")
            raise Fatal("no", data={"code": 7}) if text == "dead" else ValueError("try again")
        return {"text": text}

    app_errors: list[str] = []
    id = uuid7()
    options: dict[str, Any] = {
        "queue": "mail", "priority": 3, "max_attempts": 5, "timeout": 30, "budget": 300, "expires": 60,
        "unique": "key", "origin": "tests", "meta": {"tenant": 1}, "id": id,
    }  # fmt: skip
    await flaky.options(**options).defer("a")
    await app.run_until_idle()
    job = await app.jobs.get(id)

    assert (id, "flaky", "mail", JobState.COMPLETED) == (job.id, job.task, job.queue, job.state)
    assert (3, 2, 5, 30.0, "tests") == (job.priority, job.attempt, job.max_attempts, job.timeout, job.origin)
    assert ({"text": "a"}, {"text": "a"}, {"tenant": 1}) == (job.args, job.result, job.meta)
    assert job.key is not None and "key" in job.key
    assert job.deadline == job.created_at + timedelta(seconds=300)
    assert job.expires_at == job.created_at + timedelta(seconds=60)
    assert job.claimed_at is not None and job.finished_at is not None and job.worker_id is not None
    assert job.created_at <= job.claimed_at <= job.finished_at
    (error,) = job.errors
    assert ("ValueError", "try again", 1) == (error.error_class, error.message, error.attempt)
    assert error.at is not None and "flaky" in error.traceback

    app_errors.clear()
    dead = await app.jobs.get((await flaky.defer("dead")).id)
    await app.run_until_idle()
    dead = await app.jobs.get(dead.id)
    assert (JobState.DEAD, "fatal", {"code": 7}) == (dead.state, dead.reason, dead.error and dead.error.data)
    await app.close()


async def test_call_beats_task_beats_router_beats_settings(database: str) -> None:
    """S1-03: for every option that may be said in several places the nearest to the call wins."""
    app = App(database, name="shop", settings=Settings(max_attempts=3))
    router = Router(queue="router")
    app.include(router)
    plain = router.task(name="plain")(said)
    chosen = router.task(
        name="chosen", queue="task", priority=1, max_attempts=4, timeout=10, budget=100, expires=50, unique="task"
    )(said)
    call: dict[str, Any] = {
        "queue": "call", "priority": 0, "max_attempts": 5, "timeout": 11, "budget": 101, "expires": 51,
        "origin": "call",
    }  # fmt: skip

    def facts(job: Job) -> tuple[object, ...]:
        seconds = [
            None if end is None else (end - job.due_at).total_seconds() for end in (job.deadline, job.expires_at)
        ]
        return job.queue, job.priority, job.max_attempts, job.timeout, *seconds, job.key, job.origin

    async def stored(task: Any) -> tuple[object, ...]:
        return facts(await app.jobs.get((await task.defer("a")).id))

    assert ("router", 0, 3, None, None, None, None, "shop") == await stored(plain)
    assert ("task", 1, 4, 10.0, 100.0, 50.0, "chosen\ntask", "shop") == await stored(chosen)
    assert ("call", 0, 5, 11.0, 101.0, 51.0, "chosen\ncall", "call") == await stored(
        chosen.options(**call, unique="call")
    )
    assert ("last", 0, 5, 12.0, 101.0, 51.0, None, "call") == await stored(
        plain.options(**call).options(queue="last", timeout=12)
    )
    await app.close()


VIENNA = timezone(timedelta(hours=1))
KATHMANDU = timezone(timedelta(hours=5, minutes=45))


@pytest.mark.parametrize("zone", [UTC, VIENNA, KATHMANDU], ids=str)
async def test_a_time_in_any_zone_is_the_same_moment(zone: timezone, database: str) -> None:
    """S4-08: at= is stored as the moment it means, whatever its zone and the server's; until then the job waits."""
    app = App(database)
    moment = datetime(2031, 3, 4, 5, 6, 7, 890123, tzinfo=UTC)

    job = await app.jobs.get((await app.task(said).options(at=moment.astimezone(zone)).defer("a")).id)

    assert (JobState.SCHEDULED, moment) == (job.state, job.due_at)
    await app.close()


async def test_a_delay_counts_on_the_databases_clock(database: str) -> None:
    """S4-08, S4-12: a delay is added by the server to its own time; what is due at once or was due is ready."""
    app = App(database)
    task = app.task(said)

    later = await app.jobs.get((await task.options(delay=90).defer("a")).id)
    same = await app.jobs.get((await task.options(delay=timedelta(minutes=1, seconds=30)).defer("a")).id)
    now = await app.jobs.get((await task.options(delay=0).defer("a")).id)
    past = await app.jobs.get((await task.options(at=datetime(2020, 1, 1, tzinfo=UTC)).defer("a")).id)

    assert {timedelta(seconds=90)} == {job.due_at - job.created_at for job in (later, same)}
    states = [job.state for job in (later, same, now, past)]
    assert [JobState.SCHEDULED, JobState.SCHEDULED, JobState.READY, JobState.READY] == states
    await app.close()


@pytest.mark.parametrize("priority", [-(2**15), 2**15 - 1])
async def test_the_whole_range_of_priorities_is_stored(priority: int, database: str) -> None:
    """The outermost priorities fit the column; one more is refused before anything is sent."""
    app = App(database)
    task = app.task(said)

    assert priority == (await app.jobs.get((await task.options(priority=priority).defer("a")).id)).priority
    with pytest.raises(InvalidOption, match="priority"):
        task.options(priority=priority + (1 if priority > 0 else -1))
    await app.close()


async def test_meta_travels_with_the_job(database: str) -> None:
    """meta= is stored as JSON beside the arguments and stays when the job has ended."""
    app = App(database)
    handle = await app.task(said).options(meta={"tenant": "ä", "tags": [1, None, {"x": 0.5}]}).defer("a")
    before = (await app.jobs.get(handle.id)).meta
    await app.run_until_idle()

    assert {"tenant": "ä", "tags": [1, None, {"x": 0.5}]} == before == (await app.jobs.get(handle.id)).meta
    await app.close()


# The same id again.


@pytest.mark.parametrize("id", [uuid7(), uuid4(), str(uuid7())], ids=["uuid7", "uuid4", "text"])
async def test_the_same_id_twice_is_one_job(id: UUID | str, database: str) -> None:
    """S4-02: a second defer with an id reports the existing job, before that has run, and after."""
    app = App(database)
    runs: list[str] = []

    @app.task
    async def note(text: str) -> str:
        runs.append(text)
        return text

    first = await note.options(id=id).defer("first")
    second = await note.options(id=id).defer("second")
    await app.run_until_idle()
    third = await note.options(id=id).defer("third")
    await app.run_until_idle()

    assert [False, True, True] == [handle.duplicate for handle in (first, second, third)]
    assert 1 == len({first, second, third})
    assert (["first"], "first") == (runs, await third.result(timeout=PATIENCE))
    assert (0, 1) == (await counted(database), await archived(database))
    await app.close()


async def test_a_resend_that_meets_the_run_is_no_second_job(database: str) -> None:
    """S4-02: resends of one id from many callers while it runs and finishes: it runs once. (the race of resends)"""
    app = App(database)
    runs: list[UUID] = []
    ids = [uuid7() for _ in range(40)]

    @app.task
    async def note(id: UUID) -> None:
        runs.append(id)
        await asyncio.sleep(0)

    async def insist(id: UUID) -> None:
        for _ in range(4):
            await note.options(id=id).defer(id)

    async with app.worker():
        await asyncio.gather(*(insist(id) for id in ids))
    await app.run_until_idle()

    assert sorted(ids) == sorted(runs)
    await app.close()


# Unique keys.


async def test_a_key_answers_with_the_job_that_holds_it(database: str) -> None:
    """S0-25: while a job with a key is unfinished, further defers get its handle; afterwards the key is free."""
    app = App(database)
    task = app.task(said)
    keyed = task.options(unique="key")

    first, second = await keyed.defer("first"), await keyed.defer("second")
    other = await app.task(name="other")(said).options(unique="key").defer("keys belong to their task")
    await app.run_until_idle()
    third = await keyed.defer("third")

    assert [False, True, False, False] == [handle.duplicate for handle in (first, second, other, third)]
    assert first == second != third
    assert "said first" == await second.result(timeout=PATIENCE)
    await app.close()


@pytest.mark.parametrize(
    ("unique", "while_waiting", "while_running", "when_ended"),
    [
        (Unique("k", scope="waiting"), True, False, False),
        (Unique("k"), True, True, False),
        (Unique("k", scope="period", period=3600), True, True, True),
        (Unique("k", scope="period", period=timedelta(hours=1)), True, True, True),
    ],
)
async def test_how_long_a_key_is_held(
    unique: Unique, while_waiting: bool, while_running: bool, when_ended: bool, database: str
) -> None:
    """S0-25: the scope says how long a key is held: until the start, until the end, or for a time."""
    app = App(database)
    started, gate = asyncio.Event(), asyncio.Event()

    @app.task(unique=unique)
    async def note(text: str) -> None:
        started.set()
        await gate.wait()

    await note.defer("a")
    answers = [await note.defer("waiting")]
    async with app.worker():
        await started.wait()
        answers.append(await note.defer("running"))
        gate.set()
    await app.run_until_idle()
    answers.append(await note.defer("ended"))

    assert [while_waiting, while_running, when_ended] == [handle.duplicate for handle in answers]
    await app.close()


async def test_without_a_key_the_arguments_are_the_key(database: str) -> None:
    """Unique() compares what the calls were given; the order of keys inside does not matter."""
    app = App(database)

    @app.task(unique=Unique())
    async def note(facts: dict[str, int]) -> None: ...

    handles = [await note.defer(facts) for facts in ({"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1, "b": 3})]

    assert [False, True, False] == [handle.duplicate for handle in handles]
    await app.close()


async def test_racing_producers_of_one_key_make_one_job(database: str) -> None:
    """S0-25: 32 producers on 4 apps defer one key at once: one job, and every one of them gets its id."""
    apps = [App(database) for _ in range(4)]
    tasks = [app.task(name="said")(said) for app in apps]
    await asyncio.gather(*(app.jobs.counts() for app in apps))

    handles = await asyncio.gather(*(tasks[number % 4].options(unique="k").defer(str(number)) for number in range(32)))

    assert (1, 1) == (len(set(handles)), await counted(database))
    assert [False] + [True] * 31 == sorted(handle.duplicate for handle in handles)
    for app in apps:
        await app.close()


async def test_a_key_whose_job_is_refused_stays_free(database: str) -> None:
    """A defer that the database refuses gives its key back with it."""
    app = App(database)
    keyed = app.task(said).options(unique="k")
    await asked(database, "alter table jobqueue.job add constraint tests check (args ->> 'text' <> 'bad')")
    with pytest.raises(ValueError, match="tests"):
        await keyed.defer("bad")

    assert not (await keyed.defer("good")).duplicate
    await app.close()


# Cancelled callers.


@pytest.mark.parametrize("unique", [None, "k"], ids=["coalesced", "unique"])
async def test_cancelled_while_no_connection_is_free(unique: str | None, database: str) -> None:
    """S0-11: cancelled while the pool is exhausted, a defer has stored nothing and never will."""
    app = App(database)
    task = app.task(said).options(unique=unique)
    held = (await app._opening.database()).pool
    taken = [await held.acquire() for _ in range(held.get_max_size())]
    tasks_before = asyncio.all_tasks()
    defers = [asyncio.create_task(task.defer(str(number))) for number in range(5)]
    for _ in range(3):
        await asyncio.sleep(0)
    for defer in defers:
        defer.cancel()
    answers = await asyncio.gather(*defers, return_exceptions=True)

    assert [asyncio.CancelledError] * 5 == [type(answer) for answer in answers]
    for connection in taken:
        await held.release(connection)
    await app.task(name="other")(said).defer("after them")
    assert 1 == await counted(database)
    await app.close()
    assert asyncio.all_tasks() <= tasks_before


@pytest.mark.parametrize("way", ["defer", "unique", "id", "defer_many"])
async def test_cancelled_while_sent(way: str, database: str) -> None:
    """S0-11: a call that is cancelled while its rows are under way waits for the answer: they are in when it ends."""
    app = App(database)
    task = app.task(said)
    await app.jobs.counts()
    calls: dict[str, Callable[[str], Coroutine[Any, Any, object]]] = {
        "defer": task.defer,
        "unique": task.options(unique="k").defer,
        "id": task.options(id=uuid7()).defer,
        "defer_many": lambda text: task.defer_many([text]),
    }
    async with jobs_held(database) as hold:
        call = asyncio.create_task(calls[way]("a"))
        await hold.waited_for_by(1)
        for _ in range(3):
            call.cancel()
            for _ in range(5):
                await asyncio.sleep(0)
        assert not call.done(), "it does not know yet, and gives up"
        await hold.release()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert 1 == await counted(database)
    await app.close()


async def test_a_cancelled_call_leaves_no_backend_at_work(database: str) -> None:
    """S0-11: after a cancelled defer_many nothing of it runs on, in the process or in the server."""
    app = App(database)
    task = app.task(said)
    await app.jobs.counts()
    tasks_before = asyncio.all_tasks()
    call = asyncio.create_task(task.defer_many(str(number) for number in range(20_000)))
    await becomes(database, 1, "query like '%with clock as%' and state <> 'idle'")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    assert [] == await backends(database, "state <> 'idle'")
    assert await counted(database) in (0, 20_000)
    assert tasks_before == asyncio.all_tasks()
    await app.close()
