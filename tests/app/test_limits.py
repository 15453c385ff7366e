"""`app.limits`: what workers declare, how it is changed, and what is seen of it."""

import asyncio
from collections.abc import AsyncIterator, Iterator, MutableMapping
from typing import Any

import pytest
import pytest_asyncio
import structlog

from jobqueue import App, InvalidOption, JobState, Limit, LimitLine, Rate, Rule, UnknownLimit
from tests.support.jobs.store import connect
from tests.support.jobs.working import asked, new_app, reached
from tests.support.patience import PATIENCE
from tests.support.postgres.database import Databases
from tests.support.waiting import wait_until


@pytest_asyncio.fixture
async def app(database: str) -> AsyncIterator[App]:
    async with new_app(database, name="shop") as app:
        yield app


@pytest.fixture
def lines() -> Iterator[list[MutableMapping[str, Any]]]:
    """What a user who has configured structlog reads."""
    with structlog.testing.capture_logs() as captured:
        yield captured


async def send(tenant: str) -> None: ...


async def declared(app: App, *limits: Limit, **said: Any) -> None:
    """A worker has come and gone."""
    app.task(limit=limits, **said)(send)
    await app.run_until_idle()


async def test_workers_declare_what_their_code_says(app: App, database: str) -> None:
    """All limits of an app, its queues' too, are known once a worker has started; the last one to start counts."""
    rate = Rate(100, per=60, burst=5)
    app.limit_queue("mail", Limit(20))
    await declared(app, Limit(3, key="tenant"), Limit(1, ordered=True, name="line"), Limit(2, rate=rate, name="smtp"))
    found = {limit.name: (limit.concurrency, limit.rate, limit.ordered) for limit in await app.limits.list()}
    assert {
        "line": (1, None, True), "queue/mail": (20, None, False), "send": (3, None, False), "smtp": (2, rate, False),
    } == found  # fmt: skip
    async with new_app(database, name="other") as other:
        await declared(other, Limit(7, name="line"))
    line = await app.limits.get("line")
    assert (7, None, False, "other") == (line.concurrency, line.rate, line.ordered, line.declared_by)


async def test_what_is_declared_and_changed_is_logged(app: App, lines: list[MutableMapping[str, Any]]) -> None:
    """A line for each limit that is news, none at the next start; and for each change by hand what holds from then."""
    for _ in range(2):
        await declared(app, Limit(5, rate=Rate(1, 2), name="smtp"))
    await app.limits.set("smtp", concurrency=2)
    await app.limits.reset("smtp")
    told = [line for line in lines if line["event"].startswith("limit.")]
    assert [
        {"event": "limit.declared", "limit": "smtp", "app": "shop"},
        {"event": "limit.changed", "limit": "smtp", "concurrency": 2, "rate": "1 in 2 s", "by_hand": True},
        {"event": "limit.changed", "limit": "smtp", "concurrency": 5, "rate": "1 in 2 s", "by_hand": False},
    ] == [{name: value for name, value in line.items() if name != "log_level"} for line in told]


async def test_what_is_declared_later_is_known_to_a_worker_that_runs(app: App) -> None:
    """A cell of a notebook may add a limit, and a queue's, while a worker runs in it."""
    async with app.worker():
        task = app.task(limit=Limit(1))(send)
        app.limit_queue("mail", Limit(20))
        await (await task.options(queue="mail").defer("x")).result(timeout=PATIENCE)
        assert ["queue/mail", "send"] == [limit.name for limit in await app.limits.list()]


async def test_a_change_holds_until_it_is_taken_back(app: App) -> None:
    """What is set by hand counts for all, whatever code says at the next start, until `reset`."""
    rate, slow = Rate(100, per=60), Rate(1, per=2.5, burst=1)
    await declared(app, Limit(5, rate=rate, name="smtp"))
    changed = await app.limits.set("smtp", concurrency=0, rate=slow)
    assert (0, slow, Rule(5, rate), Rule(0, slow)) == (
        changed.concurrency, changed.rate, changed.declared, changed.changed
    )  # fmt: skip
    await app.limits.set("smtp", concurrency=7)
    await declared(app, Limit(6, rate=rate, name="smtp"))
    again = await app.limits.get("smtp")
    assert (7, slow, Rule(6, rate), Rule(7, slow)) == (again.concurrency, again.rate, again.declared, again.changed)
    reset = await app.limits.reset("smtp")
    assert (6, rate, Rule(6, rate), None) == (reset.concurrency, reset.rate, reset.declared, reset.changed)


async def test_a_change_joins_the_caller_s_transaction(app: App, database: str) -> None:
    """S1-08: what is set, or reset, on a connection is seen there at once, and by others after the commit."""
    await declared(app, Limit(5))
    async with connect(database) as connection:
        transaction = connection.transaction()
        await transaction.start()
        set_there = await app.limits.set("send", concurrency=1, connection=connection)
        listed = await app.limits.list(connection=connection)
        assert [1, 1, 5] == [set_there.concurrency, listed[0].concurrency, (await app.limits.get("send")).concurrency]
        assert 5 == (await app.limits.reset("send", connection=connection)).concurrency
        assert [] == await app.limits.lines("send", connection=connection)
        assert 0 == await app.limits.recount("send", connection=connection)
        await app.limits.set("send", concurrency=2, connection=connection)
        await transaction.commit()
    assert 2 == (await app.limits.get("send")).concurrency


async def test_nobody_knows_a_limit_that_no_worker_has_declared(app: App) -> None:
    """Every call about a name that is not known says so, and where those are that are."""
    for call in (app.limits.get, app.limits.reset, app.limits.lines, app.limits.recount):
        with pytest.raises(UnknownLimit, match="'smtp'") as caught:
            await call("smtp")
        assert "smtp" == caught.value.name
    with pytest.raises(UnknownLimit):
        await app.limits.set("smtp", concurrency=1)
    assert [] == await app.limits.list()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def two_limits(databases: Databases, template: str) -> AsyncIterator[App]:
    """An app that has declared a line and a rate, for all who change nothing. Its tests run in their module's loop."""
    with databases.temporary(template) as dsn:
        async with new_app(dsn, name="shop") as app:
            await declared(app, Limit(1, ordered=True, name="line"), Limit(rate=Rate(1, 1), name="slow"))
            yield app


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("concurrency", {}),
        ("concurrency", {"concurrency": -1}),
        ("concurrency", {"concurrency": True}),
        ("concurrency", {"concurrency": 1_000_001}),
        ("rate", {"rate": 5}),
        ("concurrency", {"name": "slow", "concurrency": 5}),
        ("rate", {"name": "line", "rate": Rate(1, 1)}),
        ("concurrency", {"name": "line", "concurrency": 2}),
        ("name", {"name": "", "concurrency": 1}),
    ],
)
async def test_a_limit_cannot_become_another_kind(two_limits: App, option: str, said: dict[str, Any]) -> None:
    """Only what was declared can be changed: jobs that wait have gates of that kind. Nothing is changed then."""
    before = await two_limits.limits.list()
    with pytest.raises(InvalidOption) as caught:
        await two_limits.limits.set(**{"name": "line", **said})
    assert option == caught.value.option
    assert ["line", "slow"] == [limit.name for limit in before]
    assert before == await two_limits.limits.list()


async def test_what_holds_and_what_waits_is_seen(app: App) -> None:
    """Places, lines and the longest of them by key, while jobs run; what waits says at which gate."""
    let_go = asyncio.Event()

    @app.task(limit=[Limit(1, key="tenant"), Limit(10, name="smtp")])
    async def hold(tenant: str) -> None:
        await let_go.wait()

    async with app.worker():
        handles = await hold.defer_many(["a", "a", "a", "b", "b", "c"])

        async def all_hold() -> bool:
            return [("hold", 3, 3), ("smtp", 3, 0)] == [
                (limit.name, limit.held, limit.waiting) for limit in await app.limits.list()
            ]

        await wait_until(all_hold, "one job of each tenant holds a place at both limits", PATIENCE)
        limit, _ = await app.limits.list()
        assert [("a", 1, 2), ("b", 1, 1), ("c", 1, 0)] == [seen(line) for line in limit.busiest]
        assert limit.oldest_wait is not None
        assert [("a", 1, 2)] == [seen(line) for line in await app.limits.lines("hold", 1)]
        assert [("b", 1, 1)] == [seen(line) for line in await app.limits.lines("hold", key="b")]
        assert [(None, 3, 0)] == [seen(line) for line in await app.limits.lines("smtp")]
        job = await app.jobs.get(handles[1].id)
        assert ("hold\na", ("hold\na", "smtp")) == (job.waits_for, job.gates)
        let_go.set()
        for handle in handles:
            await handle.result(timeout=PATIENCE)
    assert [0, 0] == [each.held for each in await app.limits.list()]


def seen(line: LimitLine) -> tuple[str | None, int, int]:
    return line.key, line.held, line.waiting


async def test_a_limit_is_changed_under_running_jobs(app: App) -> None:
    """Raised, those in line begin at once; lowered to 0, what runs goes on and nothing more begins."""
    let_go = asyncio.Event()

    @app.task(limit=Limit(1))
    async def hold(n: int) -> None:
        await let_go.wait()

    async def held(count: int) -> None:
        async def they_hold() -> bool:
            return count == (await app.limits.get("hold")).held

        await wait_until(they_hold, f"{count} hold a place", PATIENCE)

    async with app.worker():
        handles = await hold.defer_many(range(5))
        await held(1)
        await app.limits.set("hold", concurrency=3)
        await held(3)
        await app.limits.set("hold", concurrency=0)
        let_go.set()
        await held(0)
        assert 2 == (await app.limits.get("hold")).waiting
        await app.limits.reset("hold")
        for handle in handles:
            await handle.result(timeout=PATIENCE)


async def test_a_wrong_number_of_places_is_put_right(app: App, database: str) -> None:
    """`recount` says at how many keys the number was wrong, and whoever had to wait for that may begin."""
    await declared(app, Limit(1, key="tenant"))
    task = app.registry.find("send")
    assert task is not None
    await asked(
        database, """insert into jobqueue.gate (name, "limit", held) values (E'send\\na', 'send', 1) returning 1"""
    )
    assert [("a", 1, 0)] == [seen(line) for line in await app.limits.lines("send")]
    assert [1, 0] == [await app.limits.recount("send"), await app.limits.recount("send")]
    async with app.worker():
        await (await app.defer_many([task.job("a")]))[0].result(timeout=PATIENCE)


@pytest.mark.parametrize(("limit", "key"), [(0, None), (1_001, None), (True, None), (5, 1.5), (5, "x" * 201)])
async def test_what_cannot_be_looked_for_is_refused(app: App, limit: Any, key: Any) -> None:
    """A page out of its limits, and what is no key, is refused before the database is asked."""
    with pytest.raises(InvalidOption):
        await app.limits.lines("send", limit, key=key)


async def test_a_key_that_cannot_be_found_puts_a_job_aside(app: App, database: str) -> None:
    """Plain SQL may store what no defer would: the job waits as one with a wrong payload does, and nothing runs."""

    ran: list[Any] = []

    @app.task(limit=Limit(1, key="event.tenant"))
    async def note(event: Any) -> None:
        ran.append(event)

    def of(event: Any) -> str:
        raise LookupError(event)

    app.task(limit=Limit(1, key=of), name="other")(note.function)
    for name in ("note", "other"):
        id = await asked(database, "select jobqueue.defer($1, '{\"event\": {}}')", name)
        async with app.worker():
            job = await reached(app, note.handle(id), JobState.SCHEDULED)
        assert (0, []) == (job.attempt, ran)
