"""Which queues a worker serves, and how its slots are shared among them."""

import asyncio
from collections import Counter
from typing import Any

import anyio
import pytest

from jobqueue.base.errors import ConfigurationError
from jobqueue.base.job import JobState
from jobqueue.worker.claiming.queues import Haul, Queues
from tests.support.jobs.working import asked, end_of, new_app
from tests.support.patience import PATIENCE
from tests.support.waiting import wait_until


@pytest.mark.parametrize(
    ("wanted", "described"),
    [
        (None, ["*"]),
        ([], ["*"]),
        (["*"], ["*"]),
        (["mail", "default"], ["mail", "default"]),
        ([" mail:5", "default "], ["mail:5", "default"]),
        (["-bulk"], ["*", "-bulk"]),
        (["*", "-bulk", "-slow"], ["*", "-bulk", "-slow"]),
        (["a", "b", "-b"], ["a", "b", "-b"]),
        (["mail:5", "mail"], ["mail:5"]),
        ("mail:5,default,-bulk", ["mail:5", "default", "-bulk"]),
    ],
)
def test_queues_are_read_as_written(wanted: list[str] | str | None, described: list[str]) -> None:
    """`mail:5` is a limit, `-bulk` leaves one out, `*` and nothing at all mean all; one text with commas will do."""
    assert described == Queues(wanted).described


@pytest.mark.parametrize("entry", ["", "mail:0", "mail:-1", "mail:many", ":5", "x" * 101, "mail:"])
def test_an_entry_that_makes_no_sense_is_refused(entry: str) -> None:
    """What cannot be read as a queue is refused by name."""
    with pytest.raises(ConfigurationError, match="queues: "):
        Queues([entry])


def test_a_left_out_queue_is_not_served() -> None:
    """Leaving out beats naming and `*`."""
    everything, named = Queues(["*", "-bulk"]), Queues(["a", "-a"])

    assert [True, False] == [everything.serves("mail"), everything.serves("bulk")]
    assert [False, False] == [named.serves("a"), named.serves("b")]
    assert {} == named.rooms(5, Counter())


def hauled(queues: Queues, room: int, ready: dict[str, int]) -> dict[str, int]:
    """One claim out of these queues, which it empties as far as it may; what it took, by queue."""
    rooms, rows = queues.rooms(room, Counter()), list[Any]()
    for queue, most in rooms.items():
        taken = min(most, ready.get(queue, 0), room - len(rows))
        rows += [{"queue": queue, "priority": 0, "seq": 1, "crashes": 0}] * taken
        ready[queue] = ready.get(queue, 0) - taken
    haul = Haul(rows, rooms, room)
    queues.learn(haul)
    return dict(haul.taken)


def test_one_busy_queue_among_idle_ones_has_all_the_room() -> None:
    """Queues that have nothing take no room away: from its second claim on the busy one fills all slots at once."""
    queues = Queues([f"q{number}" for number in range(10)])
    ready = {"q3": 1000}

    assert [{"q3": 5}, {"q3": 50}, {"q3": 50}] == [hauled(queues, 50, ready) for _ in range(3)]


def test_an_idle_queue_that_has_jobs_again_is_claimed_from_at_once() -> None:
    """Beside one that is busy all the time, the next claim has jobs of each queue, and then half of its room."""
    queues = Queues(["busy", "idle"])
    ready = {"busy": 1000}
    for _ in range(3):
        hauled(queues, 50, ready)
    ready["idle"] = 1000

    assert [25, 25] == [hauled(queues, 50, ready)["idle"] for _ in range(2)]


def test_a_claim_looks_only_where_jobs_were() -> None:
    """After 5 000 queues were seen once a claim looks into one that has jobs and a few more, not into all."""
    queues = Queues(None)
    names = [f"q{number}" for number in range(5000)]
    for name in names:
        queues.serves(name)
    ready = dict.fromkeys(names, 1)
    while sum(ready.values()):
        hauled(queues, 50, ready)
    for _ in range(100):
        hauled(queues, 50, {})
    queues.serves("busy")
    hauled(queues, 50, {"busy": 1000})

    assert len(queues.rooms(50, Counter())) <= 51


def test_every_one_of_many_queues_has_its_turn() -> None:
    """With more busy queues than slots each is served before any is served again."""
    queues = Queues(None)
    names = {f"q{number}" for number in range(1000)}
    for name in names:
        queues.serves(name)
    ready = dict.fromkeys(names, 10)
    served = [queue for _ in range(100) for queue in hauled(queues, 10, ready)]

    assert names == set(served[:1000])


async def test_a_worker_serves_the_queues_it_was_given(database: str) -> None:
    """S3-03: jobs of a queue that this worker does not serve are left alone."""
    app = new_app(database)

    @app.task
    async def work() -> None: ...

    async with app, app.worker(queues=["mail"]):
        other = await work.options(queue="other").defer()
        await end_of(app, await work.options(queue="mail").defer())
        job = await app.jobs.get(other.id)

    assert (JobState.READY, 0) == (job.state, job.attempt)


async def test_a_left_out_queue_is_left_alone(database: str) -> None:
    """With `*` and `-bulk` a worker runs everything but the jobs in `bulk`."""
    app = new_app(database)

    @app.task
    async def work() -> None: ...

    async with app, app.worker(queues=["*", "-bulk"]):
        bulk = await work.options(queue="bulk").defer()
        await end_of(app, await work.options(queue="any").defer())
        await end_of(app, await work.defer())
        assert JobState.READY is await bulk.status()


async def test_new_queues_are_found_at_once_by_an_idle_worker(database: str) -> None:
    """A queue that nobody has used before is served without waiting for the poll."""
    app = new_app(database)

    @app.task
    async def work() -> str:
        return "ran"

    async with app, app.worker():
        for number in range(20):
            handle = await work.options(queue=f"queue-{number}").defer()
            assert "ran" == await handle.result(timeout=PATIENCE)


async def test_new_queues_are_found_by_a_busy_worker(database: str) -> None:
    """A worker that always has enough to do in one queue finds a new one within seconds all the same."""
    app = new_app(database)
    busy = True
    runs: list[int] = []

    @app.task(queue="busy")
    async def work() -> None:
        runs.append(1)
        if busy:
            await work.defer()
            await work.defer()

    @app.task(queue="new")
    async def newcomer() -> str:
        return "ran"

    async with app:
        await app.defer_many([work.job() for _ in range(100)])
        async with app.worker(concurrency=2, drain_timeout=1):
            await wait_until(lambda: len(runs) > 300, "the worker is busy")
            assert "ran" == await (await newcomer.defer()).result(timeout=PATIENCE)
            busy = False


async def test_a_limit_of_slots_holds_and_is_used(database: str) -> None:
    """`mail:2` never has more than two slots, uses them until its backlog is gone, and leaves the rest to others."""
    app = new_app(database)
    inside = Counter[str]()
    peak = Counter[str]()
    release = asyncio.Event()

    @app.task
    async def work(queue: str) -> None:
        inside[queue] += 1
        peak[queue] = max(peak[queue], inside[queue])
        if queue == "other":
            await release.wait()
        await anyio.lowlevel.checkpoint()
        inside[queue] -= 1

    async with app:
        mails = await app.defer_many([work.options(queue="mail").job("mail") for _ in range(30)])
        others = await app.defer_many([work.options(queue="other").job("other") for _ in range(4)])
        async with app.worker(queues=["mail:2", "other"], concurrency=6):
            for handle in mails:
                await end_of(app, handle)
            assert {"mail": 0, "other": 4} == inside
            release.set()
            for handle in others:
                await end_of(app, handle)

    assert 1 <= peak["mail"] <= 2


async def test_a_limited_queue_goes_on_while_its_worker_sleeps(database: str) -> None:
    """A worker that sleeps because its limited queue is full uses each freed slot at once, not at the poll."""
    app = new_app(database)
    may_end = asyncio.Semaphore(0)
    started: list[int] = []

    @app.task(queue="mail")
    async def work(number: int) -> None:
        started.append(number)
        await may_end.acquire()

    async def sleeps() -> bool:
        return bool(await asked(database, "select exists (select from jobqueue.sleeper where queue = 'mail')"))

    async with app:
        await app.defer_many([work.job(number) for number in range(6)])
        async with app.worker(queues=["mail:2"], concurrency=10):
            for running in (2, 4, 6):
                await wait_until(lambda: len(started) == running, "two more have started")  # noqa: B023 - used at once
                await wait_until(sleeps, "the worker sleeps")
                may_end.release()
                may_end.release()


async def test_a_long_queue_does_not_hold_up_short_ones(database: str) -> None:
    """Queues are served fairly: beside one with 1 000 jobs each of ten others with five starts among the first."""
    app = new_app(database)
    order: list[str] = []

    @app.task
    async def work(queue: str) -> None:
        order.append(queue)

    async with app:
        await app.defer_many([work.options(queue="a-long").job("a-long") for _ in range(1000)])
        short = [f"short-{number}" for number in range(10)]
        await app.defer_many([work.options(queue=queue).job(queue) for queue in short for _ in range(5)])
        async with app.worker(concurrency=4):
            await wait_until(lambda: len(order) == 1050, "all jobs have run")

    last = max(place for place, queue in enumerate(order) if queue != "a-long")
    assert last < 400, f"the last job of a short queue was number {last}"


async def test_free_slots_are_shared_evenly(database: str) -> None:
    """Two queues with a backlog get half of the slots each; what one does not need the other may have."""
    app = new_app(database)
    inside = Counter[str]()
    release = asyncio.Event()

    @app.task
    async def work(queue: str) -> None:
        inside[queue] += 1
        await release.wait()

    async with app:
        for queue, jobs in (("a", 50), ("b", 50), ("c", 1)):
            await app.defer_many([work.options(queue=queue).job(queue) for _ in range(jobs)])
        async with app.worker(queues=["a", "b", "c"], concurrency=13):
            await wait_until(lambda: inside.total() == 13, "all slots are in use")
            shares = dict(inside)
            release.set()

    assert 1 == shares["c"]
    assert 5 <= shares["a"] <= 7


async def test_queues_are_served_fairly_with_one_slot(database: str) -> None:
    """With a single slot each queue has its turn."""
    app = new_app(database, prefetch=0)
    order: list[str] = []

    @app.task
    async def work(queue: str) -> None:
        order.append(queue)

    async with app:
        for queue in ("a", "b", "c"):
            await app.defer_many([work.options(queue=queue).job(queue) for _ in range(10)])
        await app.run_worker(queues=["a", "b", "c"], concurrency=1, burst=True)

    assert all(len(set(order[start : start + 3])) == 3 for start in range(0, 30, 3)), order
