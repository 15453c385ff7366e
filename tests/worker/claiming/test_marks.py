"""Marks hide what has gone, and never for long what is there."""

import asyncio
import random
import time
from itertools import combinations
from typing import Any

import pytest

from jobqueue.app import App
from jobqueue.base.outcome import Released
from jobqueue.store.claims import EVERYTHING, Arm, Ready
from jobqueue.worker.claiming import patrol as patrolling
from jobqueue.worker.claiming.claimer import Claimer
from jobqueue.worker.claiming.marks import Marks
from jobqueue.worker.claiming.patrol import Patrol
from jobqueue.worker.claiming.queues import Queues
from jobqueue.worker.keeping import windows
from jobqueue.worker.keeping.windows import BOTTOM, TOP, Rest, Windows
from tests.support.jobs.store import claim, connect, finish, insert, new_job, new_jobs, open_session
from tests.support.jobs.working import asleep, new_app
from tests.support.patience import scaled
from tests.support.waiting import wait_until


def sees(arms: list[Arm], priority: int, seq: int) -> bool:
    """Tell whether a claim with these arms looks at this job."""
    return any(low <= priority <= high and after < seq <= upto for low, high, after, upto in arms)


def numbered(dsn: str) -> tuple[App, Any, list[int]]:
    """An app, its task, and the numbers of the jobs that have run, in this order."""
    app = new_app(dsn)
    ran: list[int] = []

    @app.task
    async def work(number: int) -> None:
        ran.append(number)

    return app, work, ran


def at(marks: Marks, newest: int, moment: float) -> None:
    marks.tell(newest, moment)


def test_nothing_is_hidden_before_it_has_settled() -> None:
    """A claim at once after the last seq was told hides nothing: whoever has a lower one may not have committed yet."""
    marks = Marks()
    at(marks, 100, 1.0)
    marks.learn({("q", 0): 90}, ["q"], sent=1.1)

    assert sees(marks.arms("q"), 0, 5)

    marks.learn({("q", 0): 95}, [], sent=2.0)
    assert [False, True] == [sees(marks.arms("q"), 0, seq) for seq in (95, 96)]


def test_each_priority_has_its_own_mark() -> None:
    """What was taken of one priority hides nothing of a lower one, whether it was met or not."""
    marks = Marks()
    at(marks, 100, 1.0)
    marks.learn({("q", 5): 80}, [], sent=2.0)
    assert [False, True] == [sees(marks.arms("q"), 5, seq) for seq in (80, 81)]

    marks.learn({("q", -3): 40}, [], sent=2.0)
    arms = marks.arms("q")

    assert [False, True] == [sees(arms, -3, seq) for seq in (40, 41)]
    assert all(sees(arms, priority, 1) for priority in (EVERYTHING[0], -4))
    assert arms == sorted(arms, key=lambda arm: -arm[1])


def test_a_lower_priority_is_taken_when_the_higher_ones_are_worked_off() -> None:
    """What comes before that which was taken is hidden, met or not, in its own queue, up to what had settled."""
    marks = Marks()
    at(marks, 100, 1.0)
    marks.learn({("q", 5): 80}, [], sent=1.1)
    marks.learn({("q", 0): 40}, [], sent=1.2)
    assert sees(marks.arms("q"), 5, 1), "it has not settled"

    marks.learn({("q", 0): 45}, [], sent=2.0)
    at(marks, 200, 3.0)
    marks.learn({("q", 3): 150}, [], sent=4.0)
    arms = marks.arms("q")

    assert {False} == {sees(arms, priority, 200) for priority in (4, 5, 6, EVERYTHING[1])}
    assert {True} == {sees(arms, priority, 201) for priority in (4, 5, 6, EVERYTHING[1])}
    assert [False, True] == [sees(arms, 3, seq) for seq in (150, 151)]
    assert [False, True] == [sees(arms, 2, seq) for seq in (100, 101)]
    assert [False, True] == [sees(arms, 0, seq) for seq in (45, 46)]
    assert sees(arms, -1, 1)
    assert sees(marks.arms("other"), 5, 1)


def test_an_emptied_queue_is_looked_at_from_what_has_settled() -> None:
    """Once all that was ready is taken, old seqs are hidden in every priority, met or not."""
    marks = Marks()
    at(marks, 100, 1.0)
    marks.learn({}, ["q"], sent=2.0)

    assert {False} == {sees(marks.arms("q"), priority, 100) for priority in (-9, 0, 9)}
    assert {True} == {sees(marks.arms("q"), priority, 101) for priority in (-9, 0, 9)}
    assert sees(marks.arms("other"), 0, 1)


def test_what_the_patrol_finds_is_seen_until_it_is_taken() -> None:
    """A late job opens a stretch for itself and those behind it; taking them closes it again."""
    marks = Marks()
    at(marks, 100, 1.0)
    marks.learn({}, ["q"], sent=2.0)

    assert marks.late(Ready("q", 0, 30), upto=60)
    assert not marks.late(Ready("q", 0, 40), upto=60)
    assert [False, True, True, False, True] == [sees(marks.arms("q"), 0, seq) for seq in (29, 30, 60, 61, 101)]

    marks.learn({("q", 0): 45}, [], sent=3.0)
    assert [False, True] == [sees(marks.arms("q"), 0, seq) for seq in (45, 46)]
    marks.learn({("q", 0): 60}, [], sent=3.0)
    assert not sees(marks.arms("q"), 0, 60)


def test_a_sequence_that_went_back_ends_all_marks() -> None:
    """After a failover seqs may come again, lower than what was taken: nothing stays hidden."""
    marks = Marks()
    at(marks, 100, 1.0)
    marks.learn({}, ["q"], sent=2.0)

    assert marks.tell(50, 3.0)
    assert sees(marks.arms("q"), 0, 1)


@pytest.mark.parametrize("seed", range(20))
def test_arms_never_overlap(seed: int) -> None:
    """Whatever is learned in whatever order, no job is looked at twice, and none above the marks is hidden."""
    chosen, marks = random.Random(seed), Marks()  # noqa: S311 - a seed to repeat it by
    for moment in range(1, 60):
        at(marks, moment * 10, float(moment))
        priority, seq = chosen.randint(-20, 20), chosen.randint(0, moment * 10)
        if chosen.random() < 0.5:
            marks.learn({("q", priority): seq}, ["q"] if chosen.random() < 0.1 else [], sent=moment + 0.9)
        else:
            marks.late(Ready("q", priority, seq), upto=chosen.randint(seq, moment * 10))
        arms = marks.arms("q")
        for one, other in combinations(arms, 2):
            low, high, after, upto = zip(one, other, strict=True)
            assert max(low) > min(high) or max(after) >= min(upto), "no priority, or no place, is in both"
        for probe in range(-21, 22):
            assert sees(arms, probe, TOP)


def test_windows_cover_everything_once() -> None:
    """Piece by piece from the newest down, whatever each takes: a round leaves nothing out and ends."""
    for took in (0.001, 0.03, 3.0):
        windows, pieces, over = Windows(), list[tuple[int, int]](), False
        while not over:
            pieces.append(windows.piece(3_000_000))
            over = windows.passed(pieces[-1][0], took)
        assert (TOP, BOTTOM) == (pieces[0][1], pieces[-1][0])
        assert [after for after, _ in pieces[:-1]] == [upto for _, upto in pieces[1:]]


def test_windows_grow_while_they_are_quick() -> None:
    """Where nothing has gone, everything is soon one piece; where a piece takes long, the next is narrower."""
    windows = Windows()
    for _ in range(20):
        windows.passed(windows.piece(10**9)[0], 0.001)
    windows.again()
    assert (BOTTOM, TOP) == windows.piece(10**9)

    windows.passed(BOTTOM, 1.0)
    assert windows.piece(10**9)[0] > 0


async def test_a_claim_looks_where_it_is_told(database: str) -> None:
    """Only the stretches that the arms name are claimed from, best first; the rest stays ready."""
    async with open_session(database) as session:
        await insert(session, *new_jobs(6, priority=1), *new_jobs(6))
        seqs = sorted(row["seq"] for row in await claim(session, 12))
        async with connect(database) as connection:
            await connection.execute(
                "update jobqueue.job set state = 'ready', fence = 0, worker_id = null, lease_until = null"
            )
        arms: list[Arm] = [(1, 1, seqs[3], TOP), (0, 0, BOTTOM, seqs[7])]
        rows = await claim(session, 12, arms=arms)

        assert [seqs[4], seqs[5], seqs[6], seqs[7]] == [row["seq"] for row in rows]


async def test_a_job_that_comes_back_with_an_old_seq_is_found(database: str) -> None:
    """A busy worker, whose marks are past it, finds within seconds what another gave back at its old place."""
    app = new_app(database)
    ran: list[int] = []
    busy = True

    @app.task
    async def work(number: int) -> None:
        ran.append(number)
        if number and busy:
            await work.defer(number + 1)

    async with app, open_session(database) as session:
        await insert(session, new_job("work", '{"number": 0}'))
        (held,) = await claim(session)
        async with app.worker(concurrency=2):
            await work.defer(1)
            await wait_until(lambda: len(ran) > 200, "the worker has marks, and is busy")
            await finish(session, held, outcome=Released())
            await wait_until(lambda: 0 in ran, "it has run", timeout=scaled(10.0))
            busy = False


async def test_a_late_commit_is_found_by_a_sleeper(database: str) -> None:
    """A job whose transaction was open while many others came and went starts when it commits, without a poll."""
    app, work, ran = numbered(database)
    async with app, app.worker(), connect(database) as connection:
        transaction = connection.transaction()
        await transaction.start()
        await work.options(connection=connection).defer(-1)
        for number in range(30):
            await work.defer(number)
        await wait_until(lambda: len(ran) == 30, "the others have run")
        await asleep(database)
        await transaction.commit()
        await wait_until(lambda: -1 in ran, "the late one has run")


async def test_a_late_commit_beside_a_new_job_is_found_by_a_sleeper(database: str) -> None:
    """A look that finds the new job does not see the late one, which is below its marks: one more look does, soon."""
    app, work, ran = numbered(database)
    async with app, app.worker(), connect(database) as connection:
        transaction = connection.transaction()
        await transaction.start()
        late = work.options(connection=connection)
        await late.defer(-1)
        for number in range(5):  # far between, so that the marks follow and the worker sleeps on under one flag
            await work.defer(number)
            await wait_until(lambda number=number: number in ran, "it has run")
            await asleep(database)
            over = asyncio.get_running_loop().time() + 0.6
            await wait_until(lambda over=over: asyncio.get_running_loop().time() > over, "a while has passed")
        await late.defer(5)
        await transaction.commit()
        await wait_until(lambda: {-1, 5} <= set(ran), "both have run")


async def test_a_round_that_was_left_goes_on_in_a_sleeper(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look that takes long ends after a piece: a worker with nothing else to do owes the rest, until it is over."""
    monkeypatch.setattr(patrolling, "is_long", lambda seconds: seconds > 0)
    monkeypatch.setattr(windows, "_FIRST_WIDTH", 10)
    async with open_session(database) as session:
        await insert(session, *new_jobs(40))
        patrol, pieces = Patrol(Queues(None), Marks()), 1
        await patrol.walk(session, (), 60.0)
        while patrol.owed_in < float("inf") and pieces < 40:
            await patrol.walk(session, (), 60.0)
            pieces += 1

    assert 1 < pieces < 40, "it was left, and came to its end"


async def test_what_comes_up_behind_a_round_is_found_by_the_next_one(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job commits late where the round has passed: a worker with nothing else to do owes another one, if told."""
    monkeypatch.setattr(patrolling, "is_long", lambda seconds: seconds > 0)
    monkeypatch.setattr(windows, "_FIRST_WIDTH", 10)
    async with open_session(database) as session, connect(database) as connection:
        await insert(session, *new_jobs(40))
        queues = Queues(None)
        patrol, pieces = Patrol(queues, Marks()), 0
        async with connection.transaction():
            await connection.execute("select jobqueue.defer('task', queue => 'mail')")
            await patrol.walk(session, (), 60.0)
        assert "mail" not in queues.served
        patrol.stale = True
        while patrol.owed_in < float("inf") and pieces < 40:
            await patrol.walk(session, (), 60.0)
            pieces += 1

    assert "mail" in queues.served
    assert pieces < 40, "that one comes to its end, too"


def test_a_new_round_begins_as_carefully_as_the_hard_one_before() -> None:
    """Pieces grow where nothing has gone, at the bottom; at its top a round is as wide as went well."""
    hard, wide, newest = Windows(), Windows(), 5_000_000
    for walked in (hard, wide):
        over, first = False, walked.piece(newest)
        while not over:
            piece = walked.piece(newest)
            over = walked.passed(piece[0], 0.06 if walked is hard and piece == first else 0.001)

    assert newest - 2 * windows._LEAST_WIDTH < hard.piece(newest)[0]
    assert wide.piece(newest)[0] < newest - 1_000_000, "nothing was hard: it goes on growing"


async def test_a_young_worker_runs_what_lies_below_all_that_has_gone(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where its first look is long its claims leave the rest to the patrol, which finds it, piece by piece."""
    monkeypatch.setattr(patrolling, "_CHEAP", 0.0)
    monkeypatch.setattr(windows, "_QUICK", 0.0)
    monkeypatch.setattr(patrolling, "is_long", lambda seconds: seconds > 0)
    monkeypatch.setattr(windows, "_FIRST_WIDTH", 10)
    app, work, ran = numbered(database)
    async with app, connect(database) as connection:
        for number in range(5):
            await work.options(priority=number % 3).defer(number)
            await connection.execute("select nextval('jobqueue.job_seq') from generate_series(1, 100)")
        async with app.worker():
            await wait_until(lambda: len(ran) == 5, "all have run")

    assert [0, 1, 2, 3, 4] == sorted(ran), "each once"


async def test_a_young_worker_keeps_the_order_while_a_look_is_cheap(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S4-07: though its first round ends after a piece, it claims by priority and age, from the bottom."""
    monkeypatch.setattr(patrolling, "_CHEAP", 60.0)
    monkeypatch.setattr(patrolling, "is_long", lambda seconds: seconds > 0)
    monkeypatch.setattr(windows, "_FIRST_WIDTH", 10)
    app, work, ran = numbered(database)
    async with app:
        await app.defer_many([work.options(priority=int(number < 20)).job(number) for number in reversed(range(60))])
        await app.run_worker(concurrency=1, burst=True)

    assert [*reversed(range(20)), *reversed(range(20, 60))] == ran


async def test_a_burst_looks_at_everything_once_where_that_is_long(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a job runs it looks as a worker does that is no burst; at the end it leaves nothing unseen."""
    monkeypatch.setattr(patrolling, "is_long", lambda seconds: seconds > 0)
    walk, wholes, looks = Patrol.walk, list[bool](), 0

    async def counted_walk(self: Patrol, *args: Any, **options: Any) -> bool:
        wholes.append(options["whole"])
        return await walk(self, *args, **options)

    look = Claimer._look

    async def counted_look(self: Claimer, **options: Any) -> bool:
        nonlocal looks
        looks += 1
        return await look(self, **options)

    monkeypatch.setattr(Patrol, "walk", counted_walk)
    monkeypatch.setattr(Claimer, "_look", counted_look)
    app = new_app(database)

    @app.task
    async def work() -> None:
        await wait_until(lambda: looks >= 8, "the burst has looked often")

    async with app:
        await work.defer()
        await app.run_worker(concurrency=2, burst=True)

    assert 1 == wholes.count(True)
    assert wholes[-1]


def begun(rest: Rest, seconds: float) -> float:
    """Begin it after a look that took so long; when that was."""
    now = time.monotonic()
    rest.begin(seconds)
    return now


def test_a_look_that_takes_very_long_is_followed_by_a_rest_at_once() -> None:
    """A machine that is busy just then makes one look a little longer, not by seconds; the rest keeps in proportion."""
    odd, long, longest = Rest(), Rest(60.0), Rest()

    begun(odd, 0.1)
    assert 0.0 == odd.left
    for rest, seconds in ((long, 8.0), (longest, 5.0)):
        began = begun(rest, 4.0)
        assert began + seconds <= rest.over_at <= time.monotonic() + seconds
    began = [begun(long, 4.0) for _ in range(3)][-1]
    assert began + 60.0 <= long.over_at <= time.monotonic() + 60.0
