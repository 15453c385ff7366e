"""Jobs of a bundle that come after others: when they begin, what they get, and what becomes of them if one fails."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from jobqueue import App, JobContext, Unique
from jobqueue.base.errors import InvalidOption, JobCancelled, JobFailed, JobNotFound
from jobqueue.base.job import JobState
from jobqueue.worker.ending import folding
from tests.support.jobs.store import connect
from tests.support.jobs.working import asked, asleep, new_app, reached, seen
from tests.support.patience import PATIENCE
from tests.support.waiting import wait_until

BLOCKED, READY, COMPLETED = JobState.BLOCKED, JobState.READY, JobState.COMPLETED
CANCELLED, DEAD, SCHEDULED = JobState.CANCELLED, JobState.DEAD, JobState.SCHEDULED


class Press:
    """An app that loads numbers, some of which fail, and adds up what came before."""

    def __init__(self, dsn: str) -> None:
        self.app = app = new_app(dsn)
        self.fails: set[int] = set()
        self.ran: list[str] = []

        @app.task(max_attempts=1)
        async def load(number: int) -> int:
            self.ran.append(f"load {number}")
            if number in self.fails:
                raise OSError(number)
            return number * 10

        @app.task
        async def add_up(ctx: JobContext) -> list[int]:
            self.ran.append("add up")
            return await ctx.results(load)

        @app.task
        async def last(ctx: JobContext) -> int:
            self.ran.append("last")
            return sum(map(sum, await ctx.results(add_up)))

        self.load, self.add_up, self.last = load, add_up, last


async def state_of(app: App, *handles: Any) -> list[JobState]:
    return [await handle.status() for handle in handles]


async def test_a_job_begins_once_all_before_it_are_completed(database: str) -> None:
    """It is blocked until then, and gets their results typed, in the order in which it names them."""
    press = Press(database)
    async with press.app as app:
        async with app.bundle("import") as b:
            first, second = (b.add(press.load.job(number)) for number in (1, 2))
            middle = b.add(press.add_up.job(), after=[second, first])
            end = b.add(press.last.job(), after=[middle])
        assert [READY, READY, BLOCKED, BLOCKED] == await state_of(app, first, second, middle, end)

        await app.run_until_idle()

        assert [20, 10] == await middle.result(PATIENCE)
        assert 30 == await end.result(PATIENCE)
        assert {"load 1", "load 2"} == set(press.ran[:2])
        assert ["add up", "last"] == press.ran[2:]
        bundle = await app.bundles.get(b.id)
        assert (4, 4, True) == (bundle.added, bundle.completed, bundle.finished)


async def test_what_needs_a_dead_job_is_cancelled_and_comes_back_with_it(database: str) -> None:
    """The whole line behind it, with the reason; a retry of the dead one lets it all run: one more round."""
    press = Press(database)
    press.fails = {2}
    async with press.app as app:
        async with app.bundle("import") as b:
            good, bad = (b.add(press.load.job(number)) for number in (1, 2))
            middle = b.add(press.add_up.job(), after=[good, bad])
            end = b.add(press.last.job(), after=[middle])
        await app.run_until_idle()

        assert [COMPLETED, DEAD, CANCELLED, CANCELLED] == await state_of(app, good, bad, middle, end)
        with pytest.raises(JobCancelled, match="dependency"):
            await end.result(PATIENCE)
        bundle = await app.bundles.get(b.id)
        assert (1, 1, 2, 1, True) == (
            bundle.completed, bundle.dead, bundle.cancelled, bundle.round, bundle.finished
        )  # fmt: skip

        press.fails = set()
        assert [bad.id] == (await app.bundles.retry(b.id)).changed
        await app.run_until_idle()

        assert [COMPLETED] * 4 == await state_of(app, good, bad, middle, end)
        assert [10, 20] == await middle.result(PATIENCE)
        bundle = await app.bundles.get(b.id)
        assert (4, 0, 0, 2, True) == (
            bundle.completed, bundle.dead, bundle.cancelled, bundle.round, bundle.finished
        )  # fmt: skip


async def test_a_burst_sees_to_all_that_comes_back(database: str) -> None:
    """A job after very many comes back: it waits again for each of them, and the burst does not end before."""
    press = Press(database)
    press.fails = {0}
    async with press.app as app:
        async with app.bundle("import") as b:
            end = b.add(press.add_up.job(), after=b.add_many(press.load.job(number) for number in range(450)))
        await app.run_until_idle()
        press.fails = set()
        await app.bundles.retry(b.id)
        await app.run_until_idle()

        assert 450 == len(await end.result(PATIENCE))


async def test_what_comes_after_a_job_that_completes_itself_begins_at_once(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends in its handler's own transaction: nobody waits for the next look at all facts."""
    monkeypatch.setattr(folding, "_SWEEP", 2 * PATIENCE)
    app, goes_on = new_app(database), asyncio.Event()

    @app.task
    async def first(ctx: JobContext) -> None:
        await goes_on.wait()
        async with ctx.transaction():
            ctx.complete()

    @app.task
    async def then() -> None: ...

    async with app, app.worker():
        before = await first.defer()

        async def runs() -> bool:
            return JobState.RUNNING is await before.status()

        await wait_until(runs, "it runs")
        async with app.bundle("import") as b:
            b.add(then.job(), after=[before])
        goes_on.set()
        assert (await app.bundles.wait(b.id, PATIENCE)).finished


async def test_when_ended_it_runs_whatever_became_of_them(database: str) -> None:
    """It gets the results of those that are completed."""
    press = Press(database)
    press.fails = {2}
    async with press.app as app:
        async with app.bundle("import") as b:
            before = b.add_many(press.load.job(number) for number in (1, 2, 3))
            end = b.add(press.add_up.job(), after=before, when="ended")
        await app.run_until_idle()

        assert [10, 30] == await end.result(PATIENCE)


async def test_it_may_come_after_jobs_that_are_stored_or_have_ended(database: str) -> None:
    """Of no bundle, of another one, waiting, ended or dead; by handle, job, id or its text."""
    press = Press(database)
    press.fails = {3}
    async with press.app as app:
        async with app.bundle("other") as other:
            ended = other.add(press.load.job(1))
        dead = await press.load.defer(3)
        await app.run_until_idle()
        waiting = await press.load.defer(2)
        async with app.bundle("import") as b:
            fine = b.add(press.add_up.job(), after=[await app.jobs.get(waiting.id), ended])
            again = b.add(press.add_up.job(), after=[str(ended.id)])
            doomed = b.add(press.add_up.job(), after=[dead.id])
        await app.run_until_idle()

        assert [20, 10] == await fine.result(PATIENCE)
        assert [10] == await again.result(PATIENCE)
        assert [CANCELLED] == await state_of(app, doomed)

        press.fails = set()
        await app.jobs.retry(dead.id)
        await app.run_until_idle()
        assert [30] == await doomed.result(PATIENCE)


async def test_a_job_that_was_never_stored_cannot_be_waited_for(database: str) -> None:
    """Nothing is stored then; one that is added later, or twice, is said to be at fault at once."""
    press = Press(database)
    async with press.app as app:
        with pytest.raises(JobNotFound):
            async with app.bundle("import") as b:
                b.add(press.load.job(1))
                b.add(press.add_up.job(), after=[uuid4()])
        later = press.load.options(id=uuid4()).job(1)
        with pytest.raises(InvalidOption, match="later"):
            async with app.bundle("import") as b:
                b.add(press.add_up.job(), after=[later.id])
                b.add(later)
        async with connect(database) as connection:
            assert 0 == await connection.fetchval("select count(*) from jobqueue.job")


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"after": uuid4()}, "after"),
        ({"after": "0190"}, "after"),
        ({"after": ["no id"]}, "after"),
        ({"after": [None]}, "after"),
        ({"after": [], "when": "failed"}, "when"),
    ],
)
async def test_what_is_no_list_of_jobs_is_refused_when_it_is_added(
    database: str, given: dict[str, Any], named: str
) -> None:
    """With the name of the option, and what to do."""
    press = Press(database)
    async with press.app as app, app.bundle("import", empty="finish") as b:
        with pytest.raises(InvalidOption, match=named):
            b.add(press.load.job(1), **given)
        with pytest.raises(InvalidOption, match=r"b\.add"):
            b.add(press.load.job(1), after=[press.load.job(2)])  # type: ignore[list-item]


async def test_a_member_adds_what_comes_after_it(database: str) -> None:
    """Also after itself; what it adds begins when it has ended."""
    app = new_app(database)
    ran: list[str] = []

    @app.task
    async def split(ctx: JobContext) -> int:
        assert ctx.bundle is not None
        mine = await ctx.bundle.add(follow.job(), after=[ctx.job])
        await ctx.bundle.add_many([follow.job(), follow.job()], after=[mine])
        ran.append("split")
        return 7

    @app.task
    async def follow(ctx: JobContext) -> list[int]:
        ran.append("follow")
        return await ctx.results(split)

    async with app:
        async with app.bundle("import") as b:
            b.add(split.job())
        await app.run_until_idle()

        assert ["split", "follow", "follow", "follow"] == ran
        assert [[7], [], []] == sorted((await app.bundles.results(b.id, follow)).values(), reverse=True)


async def test_a_duplicate_stands_for_the_job_that_holds_its_key(database: str) -> None:
    """Two that are the same one are waited for once."""
    press = Press(database)
    async with press.app as app:
        keyed = press.load.options(unique=Unique("one"))
        holder = await keyed.defer(4)
        async with app.bundle("import") as b:
            twice = [b.add(keyed.job(number)) for number in (5, 6)]
            end = b.add(press.add_up.job(), after=twice)
        assert {holder.id} == {handle.id for handle in twice}
        await app.run_until_idle()

        assert [40] == await end.result(PATIENCE)
        assert 1 == (await app.bundles.get(b.id)).added


async def test_of_two_with_one_key_in_one_call_the_first_is_waited_for(database: str) -> None:
    """Its end is told, though the handle that is named is that of the second."""
    press = Press(database)
    async with press.app as app:
        keyed = press.load.options(unique=Unique("one"))
        async with app.bundle("import") as b:
            first, second = b.add(keyed.job(4)), b.add(keyed.job(5))
            end = b.add(press.add_up.job(), after=[second])
        assert first.id == second.id
        await app.run_until_idle()

        assert [40] == await end.result(PATIENCE)


async def test_a_result_that_is_gone_is_an_error(database: str) -> None:
    """It was deleted before anybody looked at what comes after it: whoever asks for it is told."""
    press = Press(database)
    async with press.app as app, connect(database) as connection:
        first = await press.load.defer(1)
        async with app.bundle("import") as b:
            end = b.add(press.add_up.options(max_attempts=1).job(), after=[first])
        await connection.execute("update jobqueue.node set outcome = 'completed'")
        await connection.execute("delete from jobqueue.dependency")
        await connection.execute("update jobqueue.job set state = 'ready' where id = $1", end.id)
        await connection.execute("delete from jobqueue.job where id = $1", first.id)
        await app.run_until_idle()

        with pytest.raises(JobFailed, match="is gone"):
            await end.result(PATIENCE)


async def test_times_count_from_the_moment_at_which_it_may_begin(database: str) -> None:
    """Its own delay runs beside the wait; budget and expires begin with it."""
    press = Press(database)
    async with press.app as app:
        async with app.bundle("import") as b:
            first = b.add(press.load.job(1))
            late = b.add(press.load.options(delay=3600).job(2), after=[first])
            timed = b.add(press.load.options(budget=60, expires=30).job(3), after=[first])
            other = b.add(press.load.options(queue="other").job(3))
            timed_late = b.add(press.load.options(budget=60, queue="other").job(3), after=[other, first])
        async with connect(database) as connection:
            await connection.execute(
                "update jobqueue.job set due_at = due_at - interval '1 hour', deadline = deadline - interval '1 hour',"
                " expires_at = expires_at - interval '1 hour' where id = any($1)", [timed.id, timed_late.id],
            )  # fmt: skip
            await app.run_worker(["default"], burst=True)
            assert [COMPLETED, SCHEDULED, COMPLETED, BLOCKED] == await state_of(app, first, late, timed, timed_late)
            row = await connection.fetchrow(
                "select extract(epoch from deadline - due_at) as budget, extract(epoch from expires_at - due_at)"
                " as expires, due_at > created_at as moved from jobqueue.job_archive where id = $1", timed.id,
            )  # fmt: skip
            assert row is not None
            assert (60, 30, True) == (row["budget"], row["expires"], row["moved"])


async def test_steering_by_hand_of_what_is_waited_for(database: str) -> None:
    """A job that is cancelled, or deleted, dooms what needs it; one that waits may be cancelled itself."""
    press = Press(database)
    async with press.app as app:
        async with app.bundle("import") as b:
            firsts = b.add_many(press.load.job(number) for number in range(3))
            seconds = [b.add(press.add_up.job(), after=[first]) for first in firsts]
        await app.jobs.cancel(firsts[0].id, seconds[2].id)
        await app.jobs.delete(firsts[1].id)
        await app.run_until_idle()

        assert [CANCELLED] * 3 == await state_of(app, *seconds)
        assert ["dependency", "dependency", "requested"] == [(await app.jobs.get(each.id)).reason for each in seconds]
        assert (await app.bundles.get(b.id)).finished


async def test_what_was_cancelled_by_hand_stays_so(database: str) -> None:
    """The retry of what it needs revives what was doomed, not what somebody has cancelled."""
    press = Press(database)
    press.fails = {1}
    async with press.app as app:
        async with app.bundle("import") as b:
            first = b.add(press.load.job(1))
            doomed, cancelled = (b.add(press.add_up.job(), after=[first]) for _ in range(2))
        await app.jobs.cancel(cancelled.id)
        await app.run_until_idle()
        press.fails = set()
        await app.jobs.retry(first.id)
        await app.run_until_idle()

        assert [COMPLETED, COMPLETED, CANCELLED] == await state_of(app, first, doomed, cancelled)


async def test_a_retry_by_hand_keeps_the_order(database: str) -> None:
    """What was doomed does not begin before what it needs, however it is retried."""
    press = Press(database)
    press.fails = {1}
    async with press.app as app:
        async with app.bundle("import") as b:
            first = b.add(press.load.job(1))
            middle = b.add(press.add_up.job(), after=[first])
            end = b.add(press.last.job(), after=[middle])
        await app.run_until_idle()
        await app.jobs.retry(end.id, middle.id)
        await app.run_until_idle()
        assert [DEAD, CANCELLED, CANCELLED] == await state_of(app, first, middle, end), "for want of the first, again"

        press.fails = set()
        await app.jobs.retry(end.id, middle.id, first.id)
        await app.run_until_idle()
        assert ["load 1", "load 1", "add up", "last"] == press.ran


async def test_a_rolled_back_block_leaves_no_trace(database: str) -> None:
    """On a caller's connection edges, marks and jobs go with the transaction."""
    press = Press(database)
    async with press.app as app, connect(database) as connection:
        first = await press.load.defer(1)
        with pytest.raises(ZeroDivisionError):
            async with connection.transaction():
                async with app.bundle("import", connection=connection) as b:
                    b.add(press.add_up.job(), after=[first])
                raise ZeroDivisionError
        for table in ("node", "dependency", "fact"):
            assert 0 == await connection.fetchval(f"select count(*) from jobqueue.{table}")
        await app.run_until_idle()
        assert [COMPLETED] == await state_of(app, first)


@pytest.mark.parametrize("delay", [None, 0.5], ids=["ready", "scheduled"])
async def test_a_worker_that_skipped_a_job_while_it_was_named_hears_of_it(database: str, delay: float | None) -> None:
    """While a transaction has named a stored job nobody can start it; with the commit it starts, without a poll."""
    press = Press(database)
    async with press.app as app, connect(database) as connection:
        first = await press.load.options(delay=delay).defer(1)
        transaction = connection.transaction()
        await transaction.start()
        async with app.bundle("import", connection=connection) as b:
            end = b.add(press.add_up.job(), after=[first])
        if delay:
            await asked(database, "select pg_sleep($1)", delay)  # its time comes and goes
        async with app.worker():
            await reached(app, await press.load.defer(2), COMPLETED)  # the worker looks, and skips what is locked
            await asleep(database)
            await transaction.commit()
            assert [10] == await seen(end)
