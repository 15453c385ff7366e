"""Scheduled jobs start when they are due: not before, and without waiting for a poll."""

import asyncio
import itertools
import random
import time
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any, TypeAlias

import pytest

from jobqueue.app import App
from jobqueue.base.job import JobState, WorkerId
from jobqueue.base.outcome import Retry, Snooze
from jobqueue.base.retry import steps
from jobqueue.base.service import Wakeup
from jobqueue.store import claims
from jobqueue.store.connection.session import Session
from jobqueue.tasks.context import JobContext
from jobqueue.tasks.task import Task
from jobqueue.worker.keeping.windows import Rest
from tests.support.jobs.racing import race_for_due_times
from tests.support.jobs.store import connect
from tests.support.jobs.working import asked, asleep, counted, end_of, new_app, reached, seen
from tests.support.patience import scaled
from tests.support.rounds import rounds
from tests.support.waiting import wait_until

Note: TypeAlias = Task[[JobContext], Coroutine[Any, Any, None]]

PROMPT = scaled(0.3)
"""Seconds after its due time within which a job starts; a single one may be later when the machine is busy."""
LATEST = scaled(5.0)


def stamp(app: App) -> tuple[Note, list[float]]:
    """A task that notes how late it starts, in seconds."""
    late: list[float] = []

    @app.task
    async def note(ctx: JobContext) -> None:
        late.append((datetime.now(UTC) - ctx.job.due_at).total_seconds())

    return note, late


async def test_many_delays_are_kept(database: str) -> None:
    """S2-07, S4-08: 200 jobs with random delays deferred at once each start when due, none before, by timers alone."""
    app = new_app(database)
    note, late = stamp(app)
    chosen = random.Random(5)  # noqa: S311 - a seed to repeat it by

    async with app, app.worker():
        await asleep(database)
        await app.defer_many([note.options(delay=chosen.uniform(0.1, 1.5)).job() for _ in range(200)])
        await wait_until(lambda: len(late) == 200, "all have run")

    assert 0 <= min(late)
    assert max(late) < LATEST
    assert median(late) < PROMPT


async def test_a_sleeping_worker_keeps_a_known_due_time(database: str) -> None:
    """S2-07: with a poll of a minute a job due in 0.7 s starts then."""
    app = new_app(database)
    note, late = stamp(app)

    async with app:
        await note.options(delay=0.7).defer()
        async with app.worker():
            await wait_until(lambda: late, "the job has run")

    assert 0 <= late[0] < LATEST


async def by_defer(app: App, task: Note, dsn: str) -> None:
    await task.options(delay=0.15).defer()


async def by_time(app: App, task: Note, dsn: str) -> None:
    await task.options(at=datetime.now(UTC) + timedelta(seconds=0.15)).defer()


async def in_a_transaction(app: App, task: Note, dsn: str) -> None:
    async with connect(dsn) as connection, connection.transaction():
        await task.options(delay=0.15, connection=connection).defer()


async def by_function(app: App, task: Note, dsn: str) -> None:
    await asked(dsn, "select jobqueue.defer('note', delay => 0.15)")


async def by_bare_insert(app: App, task: Note, dsn: str) -> None:
    insert = (
        "insert into jobqueue.job (task, state, due_at) values ('note', 'scheduled', now() + interval '0.15 s')"
        " returning 1"
    )
    await asked(dsn, insert)


async def test_a_nearer_due_time_wakes_a_sleeper(database: str) -> None:
    """S4-32: a worker asleep, with and without a later due time in mind, starts a job that is due earlier on time."""
    app = new_app(database)
    note, late = stamp(app)
    ways = [by_defer, by_time, in_a_transaction, by_function, by_bare_insert]

    async with app, app.worker():
        for in_mind in (False, True):
            if in_mind:
                await note.options(delay=500).defer()
            for defer in ways:
                ran = len(late)
                await asleep(database)
                await defer(app, note, database)
                await wait_until(lambda: len(late) > ran, f"{defer.__name__} has run")  # noqa: B023 - used at once

    assert 2 * len(ways) == len(late)
    assert 0 <= min(late) <= max(late) < LATEST


async def test_a_nearer_due_time_is_never_missed(database: str) -> None:
    """S4-32: jobs deferred just while the stager goes to sleep again start when due; none waits for the poll."""
    moments = rounds(40)
    late = await race_for_due_times(database, moments)

    assert max(late) < LATEST
    assert moments == len(late)


async def test_what_commits_long_after_its_due_time_is_not_missed(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that is due for long when its transaction ends, just before the stager publishes, waits for no poll."""
    app = new_app(database)
    note, late = stamp(app)
    publish = claims.publish_sleep
    async with connect(database) as connection, app:
        await note.options(delay=timedelta(days=1)).defer()
        holding = connection.transaction()
        await holding.start()  # as whoever gives a job back, and is long about it
        await connection.execute("update jobqueue.job set due_at = now() - interval '1 minute'")
        await connection.execute("select jobqueue.wake('default', now(), false)")

        async def once_committed(session: Session, worker: WorkerId, queues: Sequence[str], seconds: float) -> None:
            if queues == [""] and connection.is_in_transaction():
                await holding.commit()
            await publish(session, worker, queues, seconds)

        monkeypatch.setattr("jobqueue.store.claims.publish_sleep", once_committed)
        async with app.worker():
            await wait_until(lambda: late, "the job has run")


async def test_a_stager_whose_looks_take_long_sleeps_all_the_same(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind an old snapshot, where a look at everything is followed by a rest, the rest is not followed by another."""
    waits: list[float] = []

    class Watched(Wakeup):
        async def wait(self, seconds: float) -> bool:
            waits.append(seconds)
            return await super().wait(seconds)

    class Tired(Rest):
        def begin(self, seconds: float, times: float = 1.0) -> None:
            self.over_at = time.monotonic() + 0.2

    monkeypatch.setattr("jobqueue.worker.claiming.staging.Wakeup", Watched)
    monkeypatch.setattr("jobqueue.worker.claiming.staging.Rest", Tired)
    async with new_app(database) as app, app.worker():
        await wait_until(lambda: waits and waits[-1] > LATEST, "it sleeps until its poll")


async def test_delays_of_outcomes_are_kept(database: str) -> None:
    """S4-32: with no other traffic a retry's and a snooze's delay end when they should, at a poll of a minute."""
    app = new_app(database)
    late: dict[str, list[float]] = {"fails": [], "retries": [], "snoozes": []}

    @app.task(retry=steps(0.3))
    async def work(ctx: JobContext, how: str) -> None:
        late[how].append((datetime.now(UTC) - ctx.job.due_at).total_seconds())
        if len(late[how]) < 3:
            raise {"fails": OSError(), "retries": Retry(delay=0.3), "snoozes": Snooze(0.3)}[how]

    async with app, app.worker():
        for handle in [await work.defer(how) for how in late]:
            await end_of(app, handle)

    assert [3, 3, 3] == [len(runs) for runs in late.values()]
    assert all(0 <= min(runs) <= max(runs) < LATEST for runs in late.values())


async def test_a_retry_without_delay_runs_at_once(database: str) -> None:
    """S4-31: a failed job that is ready again at once is started at once, whoever sleeps."""
    app = new_app(database)
    starts: list[float] = []

    @app.task(retry=steps(0))
    async def fail() -> None:
        starts.append(time.monotonic())
        if len(starts) < 10:
            raise OSError

    async with app, app.worker():
        await asleep(database)
        await end_of(app, await fail.defer())

    pauses = [later - earlier for earlier, later in itertools.pairwise(starts)]
    assert median(pauses) < PROMPT
    assert max(pauses) < LATEST


async def test_a_released_job_wakes_another_worker(database: str) -> None:
    """S4-31: a job given back by a stopping worker is taken at once by one that sleeps."""
    app = new_app(database)
    began: list[float] = []

    @app.task
    async def work() -> str:
        began.append(time.monotonic())
        if len(began) == 1:
            await asyncio.Event().wait()
        return "ran"

    async with app, app.worker() as first:
        handle = await work.defer()
        await wait_until(lambda: began, "the job runs")
        async with app.worker():
            await asleep(database, workers=2)
            first.stop(0)
            await first.ended()
            released = time.monotonic()
            assert "ran" == await seen(handle)

    assert began[1] - released < LATEST


async def test_a_promotion_wakes_the_worker_that_serves_the_queue(database: str) -> None:
    """S4-32: whichever worker promotes a due job, one that serves its queue and sleeps starts it at once."""
    app = new_app(database)
    note, late = stamp(app)

    async with app, app.worker(queues=["other"]), app.worker(queues=["mail"]):
        await asleep(database, workers=2)
        for _ in range(5):
            await note.options(queue="mail", delay=0.15).defer()
            ran = len(late)
            await wait_until(lambda: len(late) > ran, "the job has run")  # noqa: B023 - used at once

    assert 0 <= min(late) <= max(late) < LATEST


async def test_the_workers_clock_does_not_matter(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3-06: with the process's clock an hour ahead nothing starts early, with it behind nothing is late."""
    app = new_app(database)
    real = time.time
    started: list[float] = []

    @app.task
    async def work() -> None:
        started.append(real())

    async with app, app.worker():
        for shift in (3600, -3600):
            monkeypatch.setattr(time, "time", lambda: real() + shift)  # noqa: B023 - used at once
            started.clear()
            handle = await work.options(delay=0.4).defer()
            due = (await app.jobs.get(handle.id)).due_at.timestamp()
            await wait_until(lambda: started, "the job has run")
            assert 0 <= started[0] - due < LATEST


async def test_a_due_time_in_the_past_is_now(database: str) -> None:
    """S4-08: `at=` in any time zone means that moment; one that has passed means at once."""
    app = new_app(database)
    note, late = stamp(app)

    async with app, app.worker():
        past = datetime.now(UTC).astimezone() - timedelta(hours=1)
        await end_of(app, await note.options(at=past).defer())
        later = await note.options(at=datetime.now(UTC) + timedelta(days=1)).defer()
        job = await reached(app, later, JobState.SCHEDULED)

    assert timedelta(hours=23) < job.due_at - datetime.now(UTC) < timedelta(hours=25)
    assert 1 == len(late)


async def test_a_backlog_of_due_jobs_is_promoted_at_once(database: str) -> None:
    """More jobs than one batch that come due at the same moment all start."""
    app = new_app(database)
    note, late = stamp(app)
    at = datetime.now(UTC) + timedelta(seconds=0.5)

    async with app:
        await app.defer_many([note.options(at=at).job() for _ in range(1700)])
        async with app.worker():
            await wait_until(lambda: len(late) == 1700, "all have run")

    assert 0 <= min(late)
    assert 0 == await counted(database)


async def test_a_burst_runs_what_is_promoted_as_it_would_end(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that is promoted between a burst's last looks, at what is ready and at what is due, is not left behind."""
    app = new_app(database, poll=0.1)
    note, late = stamp(app)
    await note.options(delay=0.001).defer()
    async with connect(database) as connection:
        holding, next_due = connection.transaction(), claims.next_due
        await holding.start()
        await connection.execute("select from jobqueue.job for update")

        async def once_promoted(session: Session, *after: datetime | None) -> claims.Promoted | None:
            if connection.is_in_transaction() and not after:  # the burst asks; a stager says from where on
                await holding.commit()
                await wait_until(lambda: nothing_scheduled(database), "it is promoted")
            return await next_due(session, *after)

        monkeypatch.setattr("jobqueue.store.claims.next_due", once_promoted)
        await app.run_until_idle()
    assert 1 == len(late)
    await app.close()


async def nothing_scheduled(dsn: str) -> bool:
    return await counted(dsn, "state = 'scheduled'") == 0


async def test_a_burst_waits_for_what_is_due(database: str) -> None:
    """A burst does not end between a job's due time and its promotion, however long a stager takes for that."""
    app = new_app(database, poll=0.1)
    note, late = stamp(app)
    await note.options(delay=0.001).defer()
    async with connect(database) as connection, connection.transaction():
        await connection.execute("select from jobqueue.job for update")  # whoever promotes steps over it
        burst = asyncio.create_task(app.run_until_idle())
        for ready in range(1, 4):
            await note.defer()
            await wait_until(lambda ready=ready: burst.done() or len(late) == ready, "the burst goes on")

    await burst
    assert 4 == len(late)
    await app.close()
