"""What workers count is in the history, each count once, whatever happens on the way."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import anyio
import pytest

from jobqueue import Fatal
from jobqueue.base.job import WorkerId
from jobqueue.base.looking.history import BOUNDS
from jobqueue.store.connection.pool import Database
from jobqueue.store.noting import Counted, note_counts, text_of
from jobqueue.worker.keeping.tally import MOST, UNKNOWN, Tally
from jobqueue.worker.noting.counting import CountSender
from tests.support.jobs.store import connect, open_database
from tests.support.jobs.working import all_ended, asked, new_app
from tests.support.patience import PATIENCE
from tests.support.postgres.backends import WAITS_FOR_LOCK, becomes
from tests.support.postgres.proxy import proxied
from tests.support.waiting import wait_until

ODD = "a'\"\\{},:\n\tжя\U0001f600%s$1:" + "x" * 90
ZEROS: dict[str, Any] = dict.fromkeys(
    ("cancelled", "dead", "retried", "snoozed", "suspended", "released", "put_aside", "lined_up", "refused", "lost"), 0
)


def new_tally() -> Tally:
    """One that knows every task."""
    return Tally(lambda name: SimpleNamespace(name=name))


def count(tally: Tally, jobs: int = 1, *, task: str = "work", queue: str = "mail") -> None:
    """So many jobs are claimed, and completed in 20 ms."""
    for _ in range(jobs):
        counts = tally.of(task, queue)
        counts.claimed += 1
        counts.end("completed", 0.02)


@asynccontextmanager
async def sending(database: Database, tally: Tally, minute: float = 0.05) -> AsyncIterator[CountSender]:
    """A sender whose minutes are short."""
    sender = CountSender(database, WorkerId(uuid4()), tally, minute=minute)
    async with anyio.create_task_group() as group:
        await group.start(sender.run)
        yield sender
        group.cancel_scope.cancel()


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last counts arrive, however busy the machine is."""
    monkeypatch.setattr("jobqueue.worker.noting.counting._LAST", PATIENCE)


async def noted(dsn: str, what: str = "completed", queue: str = "mail", table: str = "minute") -> int:
    """The sum of a column over the history of one queue."""
    query = f"select coalesce(sum({what}), 0)::bigint from jobqueue.{table} where queue = $1"
    return int(await asked(dsn, query, queue))


async def arrives(dsn: str, jobs: int, queue: str = "mail") -> None:
    async def there() -> bool:
        return await noted(dsn, queue=queue) == jobs

    await wait_until(there, f"{jobs} jobs are in the history")


@pytest.mark.usefixtures("unhurried")
async def test_what_a_worker_has_done_is_in_the_history_once_it_ends(database: str) -> None:
    """By queue and task, and of all together: how jobs ended, for how long they ran and had waited."""
    app = new_app(database)

    @app.task(queue="mail", max_attempts=1)
    async def send(n: int) -> None:
        if n % 5 == 0:
            raise Fatal("no")

    @app.task
    async def other() -> None: ...

    async with app:
        await app.defer_many([send.job(n) for n in range(50)])
        await app.defer_many([other.job() for _ in range(7)])
        async with app.worker():
            await all_ended(database)
        async with connect(database) as connection:
            for table in ("minute", "hour"):
                rows = await connection.fetch(
                    f"""select queue, task, sum(claimed) as claimed, sum(completed) as completed, sum(dead) as dead,
                      sum((select sum(n) from unnest(run) n)) as runs,
                      sum((select sum(n) from unnest(wait) n)) as waits,
                      sum(seconds) > 0 as took
                    from jobqueue.{table} group by 1, 2 order by 1, 2"""
                )
                sums = [(57, 47, 10), (7, 7, 0), (50, 40, 10)]
                assert [("", ""), ("default", other.name), ("mail", send.name)] == [tuple(row)[:2] for row in rows]
                assert sums == [(row["claimed"], row["completed"], row["dead"]) for row in rows]
                assert [57, 7, 50] == [row["runs"] for row in rows]
                # a sample: those of one claim may all stand under the other task
                assert 57 == rows[0]["waits"] == sum(row["waits"] or 0 for row in rows[1:])
                assert all(row["took"] for row in rows)


async def test_a_lost_answer_does_not_count_twice(database: str) -> None:
    """Counts that are in, without their sender knowing, are sent again under their number: the database keeps one."""
    tally = new_tally()
    async with proxied(database) as proxy, open_database(proxy.dsn) as db:
        async with sending(db, tally):
            count(tally, 3)
            await arrives(database, 3)
            proxy.lose_answers()
            count(tally, 4)
            await arrives(database, 7)
            count(tally, 5)
            proxy.cut()
            proxy.let_pass()
            await arrives(database, 12)
            count(tally)
            await arrives(database, 13)
        assert 13 == await noted(database, "claimed")
        assert 13 == await noted(database, table="hour")
        assert 13 == await noted(database, queue="")


async def test_one_that_is_still_under_way_does_not_count_twice(database: str) -> None:
    """Sent again while the first still waits for a lock on the server: it waits behind it, and then is nothing."""
    worker, rows = WorkerId(uuid4()), text_of([counted("mail", "work", 3)])
    async with open_database(database) as db, connect(database) as connection:
        async with connection.transaction():
            await connection.execute("lock table jobqueue.hour in exclusive mode")
            both = [asyncio.create_task(note_counts(db, worker, 1, 0.0, rows)) for _ in range(2)]
            await becomes(database, 2, WAITS_FOR_LOCK)
        await asyncio.gather(*both)
    assert 3 == await noted(database)


async def test_nothing_is_lost_while_the_database_is_away(database: str) -> None:
    """What was counted meanwhile goes with the next parcel."""
    tally = new_tally()
    async with proxied(database) as proxy, open_database(proxy.dsn) as db, sending(db, tally):
        count(tally, 3)
        await arrives(database, 3)
        proxy.break_all()
        for _ in range(20):
            count(tally, 2)
        turned = proxy.turned_away
        await wait_until(lambda: proxy.turned_away > turned + 1, "it was tried in vain")
        count(tally, 5)
        proxy.let_pass()
        await arrives(database, 48)
    assert 48 == await noted(database, "claimed")


async def test_the_last_counts_do_not_hold_up_the_end(database: str) -> None:
    """A worker whose database is silent ends without them, within its limit."""
    tally = new_tally()
    async with proxied(database) as proxy, open_database(proxy.dsn) as db:
        async with sending(db, tally, minute=3600.0):
            count(tally)
            proxy.stall()
        proxy.cut()
        proxy.let_pass()
    assert 0 == await noted(database)


async def test_what_cannot_be_stored_is_not_sent_for_ever(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """A parcel that the database refuses is told and dropped, later ones arrive."""
    tally = new_tally()
    async with connect(database) as connection:
        await connection.execute("alter table jobqueue.minute add constraint odd check (task <> 'odd')")
    async with open_database(database) as db, sending(db, tally):
        count(tally, 2, task="odd")
        await wait_until(lambda: "loop.failed" in caplog.text, "it is told")
        count(tally, 3)
        await arrives(database, 3)
    assert "doing='counting'" in caplog.text


async def test_workers_that_flush_at_once_add_up(database: str) -> None:
    """Eight of them send the same two hundred pairs, in different orders, again and again: no deadlock, exact sums."""
    pairs = [(f"queue {n % 20}", f"task {n}") for n in range(200)]

    async def one(db: Database, worker: WorkerId) -> None:
        for number in range(1, 4):
            random.shuffle(pairs)
            await note_counts(db, worker, number, 0.0, text_of([counted(*pair, 2) for pair in pairs]))

    async with open_database(database) as db:
        await asyncio.gather(*(one(db, WorkerId(uuid4())) for _ in range(8)))
    sums = "array[sum(claimed), sum(run[2]), sum(run[4]), count(distinct (queue, task))]::bigint[]"
    for table in ("minute", "hour"):
        assert [9600, 4800, 9600, 200] == await asked(database, f"select {sums} from jobqueue.{table}")


def counted(queue: str, task: str, jobs: int) -> Counted:
    return Counted(queue, task, jobs, completed=jobs, seconds=0.5, run=[0, jobs // 2, 0, jobs], wait=[jobs], **ZEROS)


async def test_histograms_of_any_length_add_up(database: str) -> None:
    """Zeros at the end are not kept, and nothing depends on who comes first."""
    async with open_database(database) as db:
        for run in ([], [1], [0, 2, 0, 5], [3, 1]):
            row = Counted("mail", "work", 1, completed=1, seconds=0.5, run=run, wait=[], **ZEROS)
            await note_counts(db, WorkerId(uuid4()), 1, 0.0, text_of([row]))
    sums = "select array[sum(run[1]), sum(run[2]), coalesce(sum(run[3]), 0), sum(run[4])]::bigint[] from jobqueue.hour"
    assert [4, 3, 0, 5] == await asked(database, sums)


@pytest.mark.usefixtures("unhurried")
async def test_names_of_any_kind_arrive(database: str) -> None:
    """A hundred characters, quotes, line feeds, words of SQL and JSON: as they are."""
    queue, tally = ODD[:100], new_tally()
    async with open_database(database) as db, sending(db, tally, minute=3600.0):
        count(tally, 2, task=ODD[::-1][:100], queue=queue)
    assert 100 == len(queue)
    assert 2 == await noted(database, queue=queue)
    assert ODD[::-1][:100] == await asked(database, "select task from jobqueue.minute where queue = $1", queue)


def test_only_so_many_pairs_are_told_apart() -> None:
    """The queue of any further one is UNKNOWN; those of which nothing is held make room in the next minute."""
    tally = new_tally()
    for n in range(MOST + 50):
        count(tally, 2, queue=f"queue {n}")
    held = tally.of("work", "queue 1")
    held.claimed += 1
    taken = tally.take()
    assert MOST + 1 == len(taken)
    assert 100 == taken[UNKNOWN, "work"].outcomes["completed"]
    count(tally, 3, queue="new")
    held.end("dead", None)
    again = tally.take()
    assert {("new", "work"): (3, 3), ("queue 1", "work"): (0, 1)} == {
        pair: (counts.claimed, counts.processed) for pair, counts in again.items()
    }
    assert {} == tally.take()
    assert (2 * MOST + 104, 2 * MOST + 104) == (tally.tasks()["work"].claimed, tally.tasks()["work"].processed)
    assert 2 * MOST + 103 == sum(tally.tasks()["work"].buckets)


@pytest.mark.parametrize("jobs", [0, 1, 3, 4, 5, 100, 499, 500])
def test_waits_are_sampled_so_that_they_add_up(jobs: int) -> None:
    """A few jobs of a claim stand for all; a job that was not due, by a broken clock, has not waited."""
    tally = new_tally()
    claimed = 1_000_000_000
    rows: list[Any] = [
        {
            "task": "work",
            "queue": "mail",
            "claimed_at": claimed.to_bytes(8, "big", signed=True),
            "due_at": (claimed - 30_000 * (n % 2) + (2**60 if n % 4 == 0 else 0)).to_bytes(8, "big", signed=True),
        }
        for n in range(jobs)
    ]
    for _ in range(20):
        tally.sample_waits(rows)
    waits = tally.of("work", "mail").waits
    assert 20 * jobs == sum(waits)
    assert {0, 3} >= {place for place, number in enumerate(waits) if number}
    assert len(BOUNDS) + 1 == len(waits)
