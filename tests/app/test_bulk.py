"""Many jobs at once: one transaction in few statements, all or none, whatever happens in the middle."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import replace
from typing import Annotated, Any, cast
from uuid import UUID

import asyncpg
import pytest
from pydantic import AfterValidator
from uuid_utils.compat import uuid7

from jobqueue.app import App
from jobqueue.base import new_jobs
from jobqueue.base.errors import DatabaseError, DeferUnknown, InvalidOption, InvalidPayload
from jobqueue.base.job import NewJob, Sent
from jobqueue.store import intake
from jobqueue.tasks.sending import surely
from tests.support.jobs.store import connect
from tests.support.jobs.stories import whole_story
from tests.support.jobs.working import archived, asked, counted
from tests.support.patience import PATIENCE, scaled
from tests.support.postgres.backends import backends, becomes, change, stored, terminate
from tests.support.postgres.proxy import proxied
from tests.support.waiting import wait_until

SECRET = "marker-7f3a"
REFUSE_BAD = "alter table jobqueue.job add constraint no_bad_jobs check (args ->> 'text' not like '%bad%')"


async def note(text: str) -> None: ...


async def test_fifty_thousand_jobs_are_one_transaction(database: str) -> None:
    """S0-24: defer_many(50 000) succeeds within seconds; others see none of them, then all."""
    app = App(database)
    task = app.task(note)
    seen: set[int] = set()
    started = time.monotonic()
    sending = asyncio.create_task(task.defer_many(str(number) for number in range(50_000)))
    async with connect(database) as observer:
        while not sending.done():
            seen.add(await observer.fetchval("select count(*) from jobqueue.job"))
            await asyncio.wait([sending], timeout=0.05)  # each look reads all that is there, committed or not
    handles = await sending
    took = time.monotonic() - started

    assert seen <= {0, 50_000}
    assert (50_000, 50_000) == (await counted(database), len(set(handles)))
    assert took < scaled(30), f"{took:.1f} s"  # a row at a time it would be minutes
    await app.close()


async def test_jobs_keep_the_order_they_were_given_in(database: str) -> None:
    """The handles stand in the order of the payloads, and the jobs become ready in that order, chunk after chunk."""
    app = App(database)
    handles = await app.task(note).defer_many(str(number) for number in range(12_000))

    stored = await asked(database, "select array_agg(id order by seq) from jobqueue.job")
    assert stored == [handle.id for handle in handles]
    assert [str(number) for number in range(12_000)] == await asked(
        database, "select array_agg(args ->> 'text' order by seq) from jobqueue.job"
    )
    await app.close()


@pytest.mark.parametrize("count", [100, 12_000], ids=["one statement", "chunks"])
async def test_a_job_that_the_database_refuses_lets_none_in(count: int, database: str) -> None:
    """S0-20: of many jobs the 57th violates a constraint: zero rows, and an InvalidPayload that shows no row."""
    app = App(database)
    await change(database, REFUSE_BAD)
    payloads = [f"{SECRET} {'bad' if number == 56 else 'good'}" for number in range(count)]

    with pytest.raises(InvalidPayload, match=r"in a batch, one job: the database refused it \(no_bad_jobs\)") as told:
        await app.task(note).defer_many(payloads)

    assert 0 == await counted(database)
    assert SECRET not in whole_story(told.value)
    await app.close()


async def test_arguments_that_middleware_has_spoiled_are_refused_alone(database: str) -> None:
    """What goes to the database as one text comes apart again: a separator inside a job's JSON is that job's fault."""
    app = App(database, middleware=[spoiled])
    task = app.task(note)
    told = await asyncio.gather(*(task.defer(text) for text in ("one", "spoil", "two")), return_exceptions=True)

    assert [False, True, False] == [isinstance(answer, InvalidPayload) for answer in told]
    with pytest.raises(InvalidPayload):
        await task.defer_many(["three", "spoil"])
    assert ["one", "two"] == await asked(
        database, "select array_agg(args ->> 'text' order by args ->> 'text') from jobqueue.job"
    )
    await app.close()


async def spoiled(job: NewJob[Any], call_next: Callable[[NewJob[Any]], Awaitable[Sent]]) -> Sent:
    return await call_next(replace(job, args='{"text": "\x1f"}') if "spoil" in job.args else job)


async def test_a_job_that_is_no_job_at_all_lets_none_in(database: str) -> None:
    """S0-20: values that only the driver or the server refuses are told in the same way."""
    app = App(database)
    good = app.task(note).job("good")
    hopeless: list[NewJob[Any]] = [
        NewJob(uuid7(), "note", f'{{"text": "{SECRET}"'),
        NewJob(uuid7(), "note", f'["{SECRET}"]'),
        NewJob(uuid7(), "note", f'{{"text": "{SECRET}\x00"}}'),
        NewJob(uuid7(), "note", f'{{"text": "{SECRET}\ud800"}}'),
        NewJob(uuid7(), "n" * 101, f'{{"text": "{SECRET}"}}'),
        NewJob(uuid7(), "note", "{}", origin=""),
        NewJob(uuid7(), "note", "{}", priority=2**15),
        NewJob(uuid7(), "note", "{}", priority=2**31),
    ]

    for job in hopeless:
        with pytest.raises(InvalidPayload, match="the database refused it") as told:
            await app.defer_many([good, job])
        assert SECRET not in whole_story(told.value)

    assert 0 == await counted(database)
    await app.close()


async def test_what_is_no_job_is_named() -> None:
    """A payload, a coroutine or a single job is refused before anything is sent, in words."""
    app = App("postgresql://nowhere.invalid/shop")
    task = app.task(note)
    defer = task.defer("a")
    for given, words in (
        ([task.job("a"), 5], "must be jobs, as .* not int"),
        ([defer], "not coroutine"),
        ("text", "not str"),
        (task.job("a"), "must be several, as .* not one NewJob"),
        (None, "not one NoneType"),
    ):
        with pytest.raises(InvalidOption, match=f"^jobs: .*{words}"):
            await app.defer_many(cast("Any", given))
    defer.close()
    await app.close()


async def test_a_thousand_jobs_take_one_statement(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S0-23: defer_many(1 000) issues at most two statements, on a machine that makes 500 jobs in a slice."""
    monkeypatch.setattr(new_jobs, "_SLICE_SECONDS", PATIENCE)
    issued: list[str] = []

    async def listen(connection: Any) -> None:
        connection.add_query_logger(lambda record: issued.append(record.query))

    async with asyncpg.create_pool(database, min_size=0, max_size=2, init=listen) as pool:
        app = App(pool=pool)
        task = app.task(note)
        await app.jobs.counts()
        issued.clear()
        await task.defer_many(str(number) for number in range(1_000))
        ours = [query for query in issued if "jobqueue" in query]
        await app.close()

    assert 1 == len(ours), ours
    assert 1_000 == await counted(database)


@pytest.mark.parametrize("count", [400, 12_000], ids=["one statement", "chunks"])
async def test_a_killed_backend_leaves_all_or_none(count: int, database: str) -> None:
    """S0-21: the backend terminated in the middle: the call is repeated once; all are in, or none and an error."""
    app = App(database)
    await change(database, SLOW_INSERTS)
    sending = asyncio.create_task(app.task(note).defer_many(str(number) for number in range(count)))
    await wait_until(lambda: terminate(database, "wait_event = 'PgSleep'"), "it is ended while it writes")
    await becomes(database, 1, "wait_event = 'PgSleep'")  # the same again
    await sending

    assert count == await counted(database)
    await app.close()


async def test_backends_killed_again_and_again_leave_none(database: str) -> None:
    """S0-21: killed in the repeat as well, the call fails with none of its jobs in."""
    app = App(database)
    await change(database, SLOW_INSERTS.replace("0.3", "5"))  # none of them is to end before it is killed
    sending = asyncio.create_task(app.task(note).defer_many(str(number) for number in range(400)))
    killed: set[int] = set()

    async def two_are_killed() -> bool:
        for pid in set(await backends(database, "wait_event = 'PgSleep'")) - killed:
            await terminate(database, "pid = $1", pid)
            killed.add(pid)
        return len(killed) == 2

    await wait_until(two_are_killed, "the first try and the repeat are killed")
    with pytest.raises((DatabaseError, DeferUnknown)):
        await sending

    assert 0 == await counted(database)
    await app.close()


SLOW_INSERTS = """
create function slowly() returns trigger language plpgsql as $$ begin perform pg_sleep(0.3); return null; end $$;
create trigger slowly after insert on jobqueue.job for each statement execute function slowly();
"""


async def test_an_answer_that_is_lost_costs_no_second_job(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows are in and the network breaks before the answer: the same ids are sent again, and no job is doubled."""
    monkeypatch.setattr(new_jobs, "_SLICE_SECONDS", PATIENCE)  # one statement, however slow it is to make them
    async with proxied(database) as proxy:
        app = App(proxy.dsn)
        task = app.task(note)
        await task.defer_many(["before", "them"])  # the statement for several is known from now on
        proxy.lose_answers()
        sending = asyncio.create_task(task.defer_many(str(number) for number in range(300)))
        await stored(database, 302)
        proxy.cut()
        proxy.let_pass()
        handles = await sending

        assert not any(handle.duplicate for handle in handles)
        assert 302 == await counted(database)
        await app.close()


async def test_a_lost_answer_about_jobs_that_have_run(database: str) -> None:
    """A batch that was stored, run and finished before its answer was lost does not run again."""
    runs: list[str] = []

    async def remember(text: str) -> None:
        runs.append(text)

    worker = App(database)
    worker.task(name="note")(remember)
    async with proxied(database) as proxy:
        app = App(proxy.dsn)
        task = app.task(note)
        await task.defer_many(["before", "them"])  # the statement for several is known from now on
        proxy.lose_answers()
        sending = asyncio.create_task(task.defer_many(["a", "b", "c"]))
        await stored(database, 5)
        await worker.run_until_idle()
        proxy.cut()
        proxy.let_pass()
        handles = await sending
        await worker.run_until_idle()

        assert (["a", "b", "before", "c", "them"], 5) == (sorted(runs), await archived(database))
        assert 3 == len(set(handles))
        await app.close()
    await worker.close()


async def test_one_key_three_times_is_one_job(database: str) -> None:
    """S0-25: with one unique key three times in a batch there is one job; the handles say who holds it."""
    app = App(database)
    task = app.task(note)

    first, second, third = await task.options(unique="k").defer_many(["a", "b", "c"])
    held = (await app.task(name="holder")(note).options(unique="h").defer("d")).id
    mixed = await app.defer_many(
        [
            task.job("e"),
            task.options(unique="k").job("f"),
            app.registry.find("holder").options(unique="h").job("g"),  # type: ignore[union-attr]  # declared above
            task.options(unique="new").job("i"),
        ]
    )

    assert [False, True, True] == [handle.duplicate for handle in (first, second, third)]
    assert first == second == third
    assert [False, True, True, False] == [handle.duplicate for handle in mixed]
    assert [first.id, held] == [mixed[1].id, mixed[2].id]
    assert 4 == await counted(database)
    await app.close()


async def test_ids_of_the_callers_in_a_batch(database: str) -> None:
    """A batch of new jobs with ids of the caller's may be sent again: what is known comes back as duplicate."""
    app = App(database)
    task = app.task(note)
    ids = [uuid7() for _ in range(4)]
    jobs = [task.options(id=id).job(str(id)) for id in ids]

    first = await app.defer_many(jobs[:3])
    second = await app.defer_many(jobs)
    await app.run_until_idle()
    third = await app.defer_many(jobs)

    assert [[False] * 3, [True] * 3 + [False], [True] * 4] == [
        [handle.duplicate for handle in handles] for handles in (first, second, third)
    ]
    assert ids == [handle.id for handle in third]
    assert (0, 4) == (await counted(database), await archived(database))
    await app.close()


async def test_jobs_of_several_tasks_in_one_batch(database: str) -> None:
    """app.defer_many takes new jobs of any tasks, from any iterable, and gives typed handles in their order."""
    app = App(database)

    @app.task
    async def double(number: int) -> int:
        return 2 * number

    @app.task
    def shout(text: str, *, mark: str = "!") -> str:
        return text.upper() + mark

    handles = await app.defer_many(iter([double.job(4), shout.job("a", mark="?"), double.job(5)]))
    await app.run_until_idle()

    assert [8, "A?", 10] == [await handle.result(timeout=PATIENCE) for handle in handles]
    assert [] == await app.defer_many([])
    await app.close()


async def test_options_hold_for_every_job_of_a_batch(database: str) -> None:
    """Options of the task hold for each payload; an id can name only one job and is refused."""
    app = App(database)
    task = app.task(note).options(queue="mail", priority=4, delay=60, meta={"batch": 1})

    ids: list[UUID] = [handle.id for handle in await task.defer_many(["a", "b"])]
    jobs = [await app.jobs.get(id) for id in ids]

    assert [("mail", 4, "scheduled", {"batch": 1})] * 2 == [
        (job.queue, job.priority, job.state, job.meta) for job in jobs
    ]
    with pytest.raises(InvalidOption, match="id"):
        await task.options(id=uuid7()).defer_many(["a"])
    await app.close()


async def test_a_payload_that_does_not_fit_stops_the_batch_before_it_is_sent(database: str) -> None:
    """S0-20: one bad payload among many, known before anything is sent: nothing is."""
    app = App(database)
    payloads: list[Any] = ["good"] * 57 + [[SECRET], "good"]

    with pytest.raises(InvalidPayload) as told:
        await app.task(note).defer_many(payloads)

    assert 0 == await counted(database)
    assert SECRET not in whole_story(told.value)
    await app.close()


async def test_large_payloads_go_in_several_statements(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch larger than one statement may be is cut by its bytes as well, and is still one transaction."""
    monkeypatch.setattr(intake, "CHUNK_BYTES", 100_000)
    app = App(database)
    await change(database, REFUSE_BAD)
    task = app.task(note)

    with pytest.raises(InvalidPayload):
        await task.defer_many(["x" * 30_000] * 20 + ["bad"])
    assert 0 == await counted(database)
    await task.defer_many(["x" * 30_000] * 20)

    assert 20 == await counted(database)
    await app.close()


async def test_a_payload_late_in_the_batch_that_does_not_fit_undoes_what_was_sent(database: str) -> None:
    """Jobs are stored while later ones are still made: one that cannot be made undoes all of them, and names itself."""
    app = App(database)
    payloads: list[Any] = ["fits"] * 7_000
    with pytest.raises(InvalidPayload, match="text"):
        await app.task(note).defer_many([*payloads, 7])  # type: ignore[list-item]
    assert 0 == await counted(database)
    assert 1 == len(await app.task(note).defer_many(["fits"])), "the connection was given back clean"
    await app.close()


async def test_validators_see_the_callers_context(database: str) -> None:
    """Whatever task makes the later jobs of a batch: a validator reads the caller's context variables."""
    tenant: ContextVar[str] = ContextVar("tenant", default="nobody")
    seen: set[str] = set()

    def look(text: str) -> str:
        seen.add(tenant.get())
        return text

    async def tagged(text: Annotated[str, AfterValidator(look)]) -> None: ...

    app = App(database)
    tenant.set("one")
    await app.task(tagged).defer_many(["x"] * 3_000)
    assert {"one"} == seen
    await app.close()


async def test_a_batch_that_is_cancelled_while_it_is_made_leaves_nothing(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancelled call has either stored all or none, also if some were on their way and others not made yet."""
    monkeypatch.setattr(surely, "CANCEL_LIMIT", PATIENCE)  # else it may be unknown, on a machine that is slow
    app = App(database)
    sending = asyncio.create_task(app.task(note).defer_many(["text"] * 60_000))
    await becomes(database, 1, "state <> 'idle' and query like '%with clock as%'")
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert await counted(database) in (0, 60_000)
    await app.close()
