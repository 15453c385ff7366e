"""`app.jobs` and `app.queues`: which jobs are meant, in whose transaction, and one clear error for what cannot be."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import anyio
import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool
from uuid_utils.compat import uuid7

from jobqueue.app import App
from jobqueue.base.errors import AppClosed, ConfigurationError, InvalidOption
from jobqueue.base.job import JobState
from jobqueue.base.steering import Action, Change
from jobqueue.tasks.handle import JobHandle
from jobqueue.tasks.task import Task
from tests.app.test_sqlalchemy import on
from tests.support.jobs.store import connect
from tests.support.jobs.working import asleep, counted, new_app, reached, seen
from tests.support.patience import scaled
from tests.support.postgres.backends import backends

LATER = datetime(2100, 1, 1, tzinfo=UTC)
WORDS: dict[Action, dict[str, Any]] = {
    Action.CANCEL: {},
    Action.RETRY: {},
    Action.RESCHEDULE: {"at": LATER},
    Action.MOVE: {"to": "elsewhere"},
    Action.SET_PRIORITY: {"priority": 7},
    Action.DELETE: {},
}


async def note(text: str) -> str:
    return text


async def other(text: str) -> str:
    return text


@pytest_asyncio.fixture
async def app(database: str) -> AsyncIterator[App]:
    async with new_app(database) as app:
        yield app


def steer(app: App, action: Action, *ids: UUID, **said: Any) -> Awaitable[Any]:
    call: Callable[..., Awaitable[Any]] = getattr(app.jobs, action)
    return call(*ids, **WORDS[action] | said)


def use(action: Action) -> Callable[[App], Awaitable[Any]]:
    return lambda app: steer(app, action, SOME)


async def everything(dsn: str) -> list[Any]:
    """All rows, finished and not, and the keys."""
    tables = ("job", "job_archive", "job_key", "queue")
    async with connect(dsn) as connection:
        return [await connection.fetch(f"select t::text from jobqueue.{table} t order by 1") for table in tables]


async def ended(dsn: str, handle: JobHandle[Any], state: str = "dead") -> None:
    """Put a job on record as ended."""
    async with connect(dsn) as connection:
        await connection.execute(
            "with gone as (delete from jobqueue.job where id = $1 returning *)"
            " insert into jobqueue.job_archive"
            " (id, queue, task, args, priority, state, due_at, attempt, max_attempts, crashes, lost, fence, via,"
            " follow, created_at, finished_at, origin, result) select id, queue, task, args, priority, $2, due_at, 1,"
            " max_attempts, 0, 0, 1, via, follow, created_at, now(), origin,"
            " case when $2 = 'completed' then 'null'::json end from gone",
            handle.id, state,
        )  # fmt: skip


# Which jobs are meant.


async def test_each_filter_means_exactly_its_jobs(app: App, database: str) -> None:
    """S4-98, S4-99: by state, queue, task and origin; all that is given must hold; nothing else is touched."""
    first, second = app.task(note), app.task(other)
    plain = await first.defer("plain")
    queued = await first.options(queue="mail").defer("queued")
    delayed = await first.options(delay=60.0).defer("delayed")
    of_other = await second.defer("of other")
    of_origin = await second.options(origin="shop", queue="mail").defer("of origin")
    everyone = [each.id for each in (plain, queued, delayed, of_other, of_origin)]
    meant: list[tuple[dict[str, Any], set[JobHandle[Any]]]] = [
        ({"state": "scheduled"}, {delayed}),
        ({"state": JobState.READY}, {plain, queued, of_other, of_origin}),
        ({"state": ["scheduled", JobState.READY]}, {plain, queued, delayed, of_other, of_origin}),
        ({"state": "running"}, set()),
        ({"queue": "mail"}, {queued, of_origin}),
        ({"queue": "none"}, set()),
        ({"task": second.name}, {of_other, of_origin}),
        ({"task": "absent"}, set()),
        ({"origin": "shop"}, {of_origin}),
        ({"queue": "mail", "task": first.name}, {queued}),
        ({"queue": "mail", "origin": "shop", "state": "scheduled"}, set()),
        ({"queue": None, "origin": "shop"}, {of_origin}),
    ]
    for which, expected in meant:
        for action in Action:
            changes = await steer(app, action, dry_run=True, **which)
            found = set() if action is Action.RETRY and "state" not in which else expected  # that means dead jobs only
            assert {each.id for each in found} == set(changes.changed), f"{action} {which}"
            assert list(changes.each) == sorted(changes.each), "the oldest first"

    changes = await app.jobs.delete(queue="mail", state="ready")
    assert (2, {}) == (len(changes), changes.refused)
    assert set(everyone) - {queued.id, of_origin.id} == {job.id for job in await app.jobs.list()}


@pytest.mark.parametrize("action", list(Action))
async def test_a_filter_leaves_history_alone(app: App, database: str, action: Action) -> None:
    """S4-57, S4-99: finished jobs are meant only by their state's name, or where something can be done with them."""
    task = app.task(note)
    over = [await task.defer("a") for _ in range(3)]
    for handle, state in zip(over, ("completed", "cancelled", "dead"), strict=True):
        await ended(database, handle, state)
    waiting = await task.defer("b")

    by_queue = await steer(app, action, queue="default", dry_run=True)
    by_state = await steer(app, action, state="dead", dry_run=True)

    again = action in {Action.RETRY, Action.DELETE}
    everybody = {waiting.id, *(handle.id for handle in over)}
    meant = {Action.RETRY: {over[2].id}, Action.DELETE: everybody}.get(action, {waiting.id})
    assert meant == set(by_queue.each)
    assert {over[2].id: Change.DONE if again else Change.TOO_LATE} == by_state.each


async def test_a_key_means_its_holder(app: App, database: str) -> None:
    """S4-98: by a task's unique key: the job that holds it now; a key that nobody holds means none."""
    task = app.task(note)
    held = await task.options(unique="k").defer("a")
    await task.defer("b")

    assert {} == (await app.jobs.cancel(task=task.name, key="nobody's")).each
    assert {} == (await app.jobs.cancel(task="another", key="k")).each
    assert {held.id: Change.DONE} == (await app.jobs.cancel(task=task.name, key="k")).each
    assert {} == (await app.jobs.cancel(task=task.name, key="k")).each
    assert 1 == await counted(database)


@pytest.mark.parametrize("action", list(Action))
@pytest.mark.parametrize("name", ["key", "queue", "task", "origin", "state"])
async def test_an_empty_filter_means_nobody(app: App, database: str, action: Action, name: str) -> None:
    """S4-99: a filter that came out empty, from a form perhaps, must never mean every job there is."""
    await app.task(note).defer_many(["a", "b"])
    before = await everything(database)
    try:
        changes = await steer(app, action, **{name: ""})
    except InvalidOption as error:
        assert str(error).startswith(f"{name}:")
    else:
        assert {} == changes.each
    if name == "state":
        assert {} == (await steer(app, action, state=[])).each
    assert before == await everything(database)


async def test_more_than_a_page_is_changed(app: App, database: str) -> None:
    """S4-99: 1 200 jobs, by filter and by id, all of them; also when what has been done leaves the filter."""
    task = app.task(note)
    handles = await task.defer_many([str(number) for number in range(1_200)])
    ids = [handle.id for handle in handles]
    assert 1_200 == len(await app.jobs.move(queue="default", to="mail"))
    assert 1_200 == len(await app.jobs.set_priority(*ids, priority=3))
    assert 1_200 == await counted(database, "queue = 'mail' and priority = 3")
    changes = await app.jobs.cancel(queue="mail", state="ready")
    assert sorted(ids) == changes.changed
    assert set(ids) == set((await app.jobs.retry(state="cancelled")).changed)
    assert 1_200 == len(await app.jobs.delete(queue="mail"))
    assert 0 == await counted(database)


async def test_changes_tell_what_became_of_each(app: App, database: str) -> None:
    """S2-44: changed and refused ids apart; the length counts what has changed."""
    task = app.task(note)
    over, waiting, unknown = await task.defer("a"), await task.defer("b"), uuid7()
    await ended(database, over)
    changes = await app.jobs.cancel(over.id, waiting.id, unknown)

    assert [waiting.id] == changes.changed
    assert {over.id: Change.TOO_LATE, unknown: Change.NOT_FOUND} == changes.refused
    assert 1 == len(changes)
    assert Change.TOO_LATE is await waiting.cancel()
    assert Change.NOT_FOUND is await task.handle(unknown).cancel()


@pytest.mark.parametrize("action", list(Action))
async def test_a_dry_run_changes_nothing(app: App, database: str, action: Action) -> None:
    """S2-43: it says what would become of each, and leaves every row as it is, in the caller's transaction too."""
    task = app.task(note)
    waiting, over = await task.options(unique="k").defer("a"), await task.defer("b")
    await ended(database, over)
    before = await everything(database)
    expected = await steer(app, action, waiting.id, over.id, dry_run=True)
    async with connect(database) as connection, connection.transaction():
        assert expected == await steer(app, action, waiting.id, over.id, dry_run=True, connection=connection)
    assert before == await everything(database)
    assert expected == await steer(app, action, waiting.id, over.id)


# In the caller's transaction.


@pytest.mark.parametrize("commits", [True, False], ids=["commit", "rollback"])
@pytest.mark.parametrize("action", list(Action))
@pytest.mark.parametrize("kind", ["asyncpg", "sqlalchemy"])
async def test_in_the_callers_transaction(app: App, database: str, kind: str, action: Action, commits: bool) -> None:
    """S1-05, S2-43: with `connection=` nothing shows before the commit, and nothing at all after a rollback."""
    task = app.task(note)
    waiting, over = await task.options(unique="k").defer("a"), await task.defer("b")
    await ended(database, over)
    before = await everything(database)
    expected = await steer(app, action, waiting.id, over.id, dry_run=True)

    async def act(connection: object) -> None:
        by_id = await steer(app, action, waiting.id, over.id, connection=connection)
        assert expected == by_id
        assert before == await everything(database), "nobody else sees it yet"
        await steer(app, action, queue="nothing", connection=connection)

    if kind == "asyncpg":
        async with connect(database) as connection:
            transaction = connection.transaction()
            await transaction.start()
            await act(connection)
            await (transaction.commit() if commits else transaction.rollback())
    else:
        engine = create_async_engine(on("asyncpg", database), poolclass=NullPool)
        async with AsyncSession(engine) as session:
            await act(session)
            await (session.commit() if commits else session.rollback())
        await engine.dispose()
    assert commits == (before != await everything(database))


async def test_what_was_deferred_in_it_can_be_steered_in_it(app: App, database: str) -> None:
    """S1-05: a filter sees the transaction's own jobs, and one without a commit leaves no trace."""
    task = app.task(note)
    async with connect(database) as connection:
        async with connection.transaction():
            handle = await task.options(connection=connection, queue="mail").defer("a")
            assert {} == (await app.jobs.cancel(queue="mail")).each
            assert [handle.id] == (await app.jobs.cancel(queue="mail", connection=connection)).changed
        assert JobState.CANCELLED is await handle.status()


@pytest.mark.parametrize("action", list(Action))
async def test_the_callers_connection_is_all_it_takes(app: App, database: str, action: Action) -> None:
    """C11: on a pool that has no other connection left, a second one would be waited for by whoever holds the first."""
    handle = await app.task(note).defer("a")
    nowhere = App("postgresql://127.0.0.1:1/nothing")
    async with connect(database) as connection, connection.transaction():
        assert {handle.id} == set((await steer(nowhere, action, handle.id, connection=connection)).each)
        await nowhere.close()
        with pytest.raises(AppClosed):
            await steer(nowhere, action, handle.id, connection=connection)


@pytest.mark.parametrize("action", [Action.RESCHEDULE, Action.RETRY])
async def test_an_open_transaction_keeps_no_worker_awake(app: App, database: str, action: Action) -> None:
    """E1: what a caller has steered in a transaction that stays open must not keep workers from going to sleep."""
    task = app.task(note)
    handle = await task.options(queue="nobody's").defer("a")
    said = {"at": None, "delay": 0.0} if action is Action.RESCHEDULE else {}
    async with connect(database) as connection, connection.transaction():
        await steer(app, action, handle.id, connection=connection, **said)
        locks = await connection.fetchval(
            "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"
        )
        assert 0 == locks
        async with app.worker(queues=["default"]):
            await asleep(database)


async def test_a_retried_job_starts_at_once(app: App, database: str) -> None:
    """S4-31, S1-15: with all workers asleep a dead job that is retried runs again within moments, with its past."""
    runs: list[int] = []

    @app.task(max_attempts=1)
    async def work() -> int:
        runs.append(1)
        if len(runs) == 1:
            raise OSError("first")
        return 5

    async with app.worker():
        handle = await work.defer()
        await reached(app, handle, JobState.DEAD)
        await asleep(database)
        assert [handle.id] == (await app.jobs.retry(handle.id)).changed
        assert 5 == await seen(handle)
    job = await app.jobs.get(handle.id)
    assert (1, ["OSError"]) == (job.attempt, [error.error_class for error in job.errors])
    assert job.finished_at is not None
    assert job.claimed_at is not None


SOME = uuid7()
USES: dict[str, Callable[[App], Awaitable[Any]]] = {
    **{str(action): use(action) for action in Action},
    "by filter": lambda app: app.jobs.cancel(queue="mail"),
    "by key": lambda app: app.jobs.cancel(task="t", key="k"),
    "dry": lambda app: app.jobs.cancel(SOME, dry_run=True),
    "stats": lambda app: app.queues.stats(),
    "pause": lambda app: app.queues.pause("mail"),
    "resume": lambda app: app.queues.resume("mail"),
}


@pytest.mark.parametrize("opened", [True, False], ids=["opened", "never opened"])
async def test_after_close_it_says_so(database: str, opened: bool) -> None:
    """S4-100: a closed App steers nothing, and says so."""
    app = new_app(database)
    handle = app.task(note).handle(SOME)
    if opened:
        await app.open()
    await app.close()
    for name, attempt in USES.items():
        with pytest.raises(AppClosed):
            await attempt(app)
            pytest.fail(f"{name} on a closed App")
    with pytest.raises(AppClosed):
        await handle.cancel()
    assert [] == await backends(database)


async def test_the_null_app_has_nothing_to_steer() -> None:
    """S4-100: a handle of `App.null()` answers that there is no such job; what needs a database says so."""
    app = App.null()
    task: Task[..., Any] = app.task(note)
    assert Change.NOT_FOUND is await (await task.defer("a")).cancel()
    for attempt in USES.values():
        with pytest.raises(ConfigurationError, match=r"App\.null"):
            await attempt(app)
    await app.close()
    with pytest.raises(AppClosed):
        await task.handle(SOME).cancel()


async def test_a_timedelta_is_a_delay(app: App) -> None:
    """S2-43: as everywhere else where a length of time is given."""
    handle = await app.task(note).defer("a")
    assert [handle.id] == (await app.jobs.reschedule(handle.id, delay=timedelta(hours=1))).changed
    job = await app.jobs.get(str(handle.id))
    assert JobState.SCHEDULED is job.state
    assert 3_600 - scaled(10) < (job.due_at - datetime.now(UTC)).total_seconds() < 3_600 + scaled(10)


async def test_a_second_cancel_asks_again(app: App) -> None:
    """S2-44: as long as the job runs it is told `asked`, which counts as done; `too_late` once it has ended."""
    began = asyncio.Event()

    @app.task
    async def work() -> None:
        try:
            began.set()
            await asyncio.Event().wait()
        finally:
            with anyio.CancelScope(shield=True):
                await let_go.wait()

    let_go = asyncio.Event()
    async with app.worker():
        handle = await work.defer()
        await began.wait()
        for _ in range(2):
            changes = await app.jobs.cancel(handle.id)
            assert ({handle.id: Change.ASKED}, [handle.id]) == (changes.each, changes.changed)
        let_go.set()
        await reached(app, handle, JobState.CANCELLED)
    assert {handle.id: Change.TOO_LATE} == (await app.jobs.cancel(handle.id)).refused
