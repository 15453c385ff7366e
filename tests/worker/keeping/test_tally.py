"""What a worker counts: it adds up at every moment, agrees with log and rows, and has a bounded number of labels."""

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Coroutine
from typing import Any

import pytest

from jobqueue import App, Cancel, Fatal, JobContext, Router, Snooze, Task, Work, steps
from jobqueue.base.looking.history import BOUNDS
from jobqueue.worker.keeping.tally import OUTCOMES, UNKNOWN, Counts
from tests.support.events import table
from tests.support.jobs.beating import QUICK, QUIET
from tests.support.jobs.deaths import take_away
from tests.support.jobs.store import connect
from tests.support.jobs.working import asked, counted, end_of, new_app
from tests.support.patience import PATIENCE, scaled
from tests.support.secrets import WATCH
from tests.support.waiting import wait_until

LOGGED = {f"job.{outcome}" for outcome in OUTCOMES} & set(table())


def counts_of(worker: Work, task: str = "work") -> Counts:
    return worker.supervisor.tally.tasks().get(task, Counts())


def outcomes_of(worker: Work, task: str = "work") -> dict[str, int]:
    """Return the outcomes that were counted at all."""
    return {outcome: number for outcome, number in counts_of(worker, task).outcomes.items() if number}


def in_flight(worker: Work) -> int:
    counts = counts_of(worker)
    return counts.claimed - counts.processed


def mixed(app: App) -> Task[[int], Coroutine[Any, Any, int]]:
    """A task whose runs end in every way that a handler can choose, by its number."""

    @app.task(retry=steps(0), max_attempts=2)
    async def work(n: int) -> int:
        match n % 10:
            case 1 | 2:
                raise OSError("no route")
            case 3:
                raise Fatal("refused")
            case 4:
                raise Cancel("not needed")
            case 5:
                raise Snooze(3600)
            case 6:
                await asyncio.sleep(0)
        return n

    return work


async def test_counts_log_and_rows_agree(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """S3-22, S3-33: after 2 000 mixed outcomes metric, log and row say the same; claimed = processed + in flight."""
    app = new_app(database)
    work = mixed(app)
    caplog.set_level(logging.CRITICAL, "jobqueue")  # 2 000 lines more would tell nobody anything
    seen: list[int] = []
    async with app:
        await app.defer_many([work.job(n) for n in range(2_000)])
        async with app.worker(concurrency=100) as worker:

            async def all_done() -> bool:
                seen.append(in_flight(worker))
                return in_flight(worker) == 0 and await counted(database, "state <> 'scheduled'") == 0

            await wait_until(all_done, "nothing is left but what snoozes")
            outcomes = outcomes_of(worker)
    events = Counter(event for _, _, event, _ in WATCH.lines)
    async with connect(database) as connection:
        stored = await connection.fetch("select state, count(*) from jobqueue.job_archive group by state")
        retried = await connection.fetchval(
            "select sum(jsonb_array_length(errors)) - count(*) from jobqueue.job_archive where reason = 'attempts'"
        )
    assert max(seen) > 0, "it was looked at while jobs were in flight"
    assert outcomes == {event.removeprefix("job."): events[event] for event in LOGGED if events[event]}
    outcomes.pop("released", 0)  # on a slow machine some that were claimed ahead are given back: no row tells
    assert outcomes == {**{row["state"]: row["count"] for row in stored}, "retried": retried, "snoozed": 200}
    assert (200, 400) == (await counted(database, "state = 'scheduled'"), outcomes["retried"])


async def test_names_from_elsewhere_share_one_label(database: str) -> None:
    """S3-23: a thousand task names that nobody registered, inserted by SQL, are one label."""
    app = new_app(database)
    work = mixed(app)
    async with connect(database) as connection:
        await connection.execute(
            "select jobqueue.defer('task ' || gen_random_uuid(), '{}') from generate_series(1, 1000)"
        )
    async with app, app.worker() as worker:
        await (await work.defer(0)).result(timeout=PATIENCE)
        await wait_until(lambda: outcomes_of(worker, UNKNOWN).get("put_aside", 0) >= 1_000, "all were met")
        assert {"work", UNKNOWN} == set(worker.supervisor.tally.tasks())
        assert 0 == sum(counts_of(worker, UNKNOWN).buckets), "none has run"


async def test_an_alias_counts_under_its_task(database: str) -> None:
    """S3-23: jobs under an old name count under the name that their task has now, also one of a router."""
    app, router = new_app(database), Router(prefix="shop")

    @router.task(aliases=("old.pay",))
    async def pay() -> None: ...

    app.include(router)
    async with app:
        await asked(database, "select jobqueue.defer('old.pay', '{}')")
        await pay.defer()
        async with app.worker() as worker:
            await wait_until(lambda: outcomes_of(worker, pay.name) == {"completed": 2}, "both are counted")
            assert [pay.name] == list(worker.supervisor.tally.tasks())


async def test_only_what_ran_has_a_duration(database: str) -> None:
    """S3-22: the histogram has one entry for each run of a handler, in its bucket; none for jobs that did not run."""
    app, pause = new_app(database), threading.Event()
    ends = {"completed": 2, "dead": 1, "put_aside": 1}

    @app.task
    async def work(seconds: float) -> None:
        await asyncio.get_running_loop().run_in_executor(None, pause.wait, seconds)

    async with app:
        await work.options(expires=0.001).defer(0.0)
        await wait_until(lambda: expired_now(database), "it has expired")
        await asked(database, "select jobqueue.defer('work', '{\"seconds\": []}')")  # cannot be called with that
        for seconds in (0.0, 0.3):
            await work.defer(seconds)
        async with app.worker() as worker:
            await wait_until(lambda: outcomes_of(worker) == ends, "all have ended")
            counts = counts_of(worker)
    places = [place for place, runs in enumerate(counts.buckets) for _ in range(runs)]
    assert 2 == len(places)
    assert BOUNDS[places[0]] < 0.3 <= BOUNDS[places[1]]
    assert 0.3 <= counts.seconds < scaled(5)


async def expired_now(dsn: str) -> bool:
    return await counted(dsn, "expires_at < clock_timestamp()") == 1


def test_a_bound_belongs_to_its_bucket() -> None:
    """S3-22: a run that took exactly as long as a bound is within it, as Prometheus' `le` says; the last has none."""
    counts = Counts()
    for seconds in (BOUNDS[0], BOUNDS[0] * 1.001, BOUNDS[-1], BOUNDS[-1] + 1):
        counts.end("completed", seconds)

    assert [1, 1] == counts.buckets[:2]
    assert [1, 1] == counts.buckets[-2:]
    assert 4 == counts.processed


@pytest.mark.parametrize("yields", [True, False], ids=["lost", "refused"])
async def test_what_another_has_taken_counts_as_well(database: str, yields: bool) -> None:
    """S3-22: a claim that is lost, and an outcome that is refused, are processed too: nothing stays in flight."""
    app = new_app(database, **(QUICK if yields else QUIET))
    let_go, running = asyncio.Event(), asyncio.Event()

    @app.task
    async def work() -> None:
        running.set()
        await let_go.wait()

    async with app, app.worker() as worker:
        handle = await work.defer()
        await running.wait()
        assert 1 == in_flight(worker)
        await take_away(database, handle.id)
        if not yields:
            let_go.set()
        await wait_until(lambda: in_flight(worker) == 0, "it is settled")
        assert {"lost" if yields else "refused": 1} == outcomes_of(worker)
        assert int(not yields) == worker.snapshot().refused


async def test_a_drain_settles_every_count(database: str) -> None:
    """S3-22: what a drain gives back is counted as released; claimed = processed at the end."""
    app = new_app(database, prefetch=5)
    running = asyncio.Event()

    @app.task
    async def work() -> None:
        running.set()
        await asyncio.Event().wait()

    async with app:
        for _ in range(4):
            await work.defer()
        async with app.worker(concurrency=2, drain_timeout=0.1) as worker:
            await running.wait()
            await wait_until(lambda: counts_of(worker).claimed == 4, "two run, two wait")
        assert {"released": 4} == outcomes_of(worker)
        assert 4 == await counted(database, "state = 'ready' and attempt = 0")


async def test_its_own_transaction_completes_a_job_once(database: str) -> None:
    """S3-22, S3-33: a job that its handler completes in its own transaction counts once, with the time until then."""
    app = new_app(database)

    @app.task
    async def work(ctx: JobContext) -> None:
        async with ctx.transaction():
            ctx.complete()
        raise OSError("afterwards")

    async with app, app.worker() as worker:
        await end_of(app, await work.defer())
        await wait_until(lambda: worker.snapshot().running == 0, "its handler has ended")
        assert {"completed": 1} == outcomes_of(worker)
        assert 1 == sum(counts_of(worker).buckets)


async def test_stuck_handlers_are_counted(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S2-41: the snapshot says how many handlers were asked to end and do not."""
    monkeypatch.setattr("jobqueue.worker.slots.stuck._PATIENCE", 0.1)
    monkeypatch.setattr("jobqueue.worker.slots.stuck._LOOK", 0.05)
    app, let_go = new_app(database), asyncio.Event()

    @app.task(timeout=0.05, max_attempts=1)
    async def work() -> None:
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    async with app, app.worker() as worker:
        assert 0 == worker.snapshot().stuck
        for _ in range(2):
            await work.defer()
        await wait_until(lambda: worker.snapshot().stuck == 2, "both are stuck")
        let_go.set()
        await wait_until(lambda: worker.snapshot().stuck == 0, "they have ended")
