"""What steering does beside its answer: who is woken, who gets a key, how a job lives on, and how it ends."""

import asyncio

import asyncpg
import pytest

from jobqueue.base.job import JobState
from jobqueue.base.outcome import Cancelled, Dead, Done, Outcome, Released, Rescued, Retried, Snoozed
from jobqueue.base.steering import Action, Change
from jobqueue.store import claims, steering
from jobqueue.store.claims import Claim
from jobqueue.store.connection.session import Session
from tests.store.keys.test_keys import holders, keyed, send
from tests.store.test_steering import ENDS, HOUR, Steer, rows_of, set_priority
from tests.store.test_waking import ear_on
from tests.support.jobs.blocked import block, row_of
from tests.support.jobs.store import (
    WORKER,
    claim,
    claim_one,
    connect,
    ended,
    failure,
    finish,
    insert,
    new_job,
    new_jobs,
    open_session,
    open_sessions,
    write,
    write_each,
)
from tests.support.patience import scaled
from tests.support.rounds import rounds

# Wake-ups.


async def test_what_makes_a_job_ready_wakes_who_sleeps(database: str) -> None:
    """S4-31, A12: retry, reschedule, move and a new priority wake the queue's sleeper, once for the whole call."""
    async with open_session(database) as session, ear_on(database) as (ear, _):
        ids = await insert(session, *new_jobs(3, delay=HOUR))
        await claims.publish_sleep(session, WORKER, ["default", "other"], 60.0)
        assert [] == await ear.so_far()

        await steering.change(session, Action.RESCHEDULE, ids, delay=0.0)
        assert ["r:default"] == await ear.so_far()
        await steering.change(session, Action.MOVE, ids, queue="other")
        assert ["r:other"] == await ear.so_far()
        await set_priority(session, ids)
        assert ["r:other"] == await ear.so_far(), "a claim has skipped the rows while they were locked"
        await steering.retry(session, ids)
        assert ["r:other"] == await ear.so_far()
        await steering.change(session, Action.RESCHEDULE, ids, delay=HOUR)
        assert [] == await ear.so_far(), "no stager sleeps"

        await steering.cancel(session, ids)
        await steering.delete(session, ids[:1])
        assert [] == await ear.so_far(), "nothing has become ready"
        await steering.retry(session, ids)
        assert ["r:other"] == await ear.so_far()


async def test_what_waits_for_others_wakes_nobody(database: str) -> None:
    """Moved, due earlier or later, or of another priority: a blocked job stays so, and nobody gets up for it."""
    async with open_session(database) as session, ear_on(database) as (ear, connection):
        blocked, plain = await insert(session, *new_jobs(2, delay=HOUR))
        await block(connection, blocked)
        for delay, queue, priority in ((0.0, None, None), (60.0, None, None), (None, "mail", None), (None, None, 3)):
            answer = await steering.change(
                session, Action.MOVE, [blocked], always=True, delay=delay, queue=queue, priority=priority
            )
            assert {blocked: Change.DONE} == answer
        assert [] == await ear.so_far()
        row = await row_of(connection, blocked)
        assert ("blocked", "mail", 3) == (row["state"], row["queue"], row["priority"])

        both = await steering.change(session, Action.MOVE, [blocked, plain], always=True, queue="post")
        assert dict.fromkeys([blocked, plain], Change.DONE) == both
        assert ["d:post"] == await ear.so_far()


async def test_a_nearer_time_wakes_the_stager(database: str) -> None:
    """A12: a job that comes due sooner than the stager would look wakes it; one that comes later does not."""
    async with open_session(database) as session, ear_on(database) as (ear, _):
        ids = await insert(session, new_job(delay=HOUR))
        await claims.publish_sleep(session, WORKER, [""], 60.0)
        await steering.change(session, Action.RESCHEDULE, ids, delay=100.0)
        assert [] == await ear.so_far()
        await steering.change(session, Action.RESCHEDULE, ids, delay=10.0)
        assert ["d:default"] == await ear.so_far()


async def test_a_request_is_told_to_the_workers_when_it_commits(database: str) -> None:
    """S2-09: asking a running job to end is heard by everybody, after the commit; nothing is heard of a rollback."""
    async with open_sessions(database, 2) as (session, other), ear_on(database) as (ear, _):
        (id,) = await insert(session, new_job())
        fence = (await claim_one(session))["fence"]
        with pytest.raises(ZeroDivisionError):
            async with other.transaction():
                assert {id: Change.ASKED} == await steering.cancel(other, [id])
                raise ZeroDivisionError
        assert [] == await ear.so_far()
        async with other.transaction():
            await steering.cancel(other, [id])
            assert [] == await ear.so_far()
        assert [f"c:{fence}"] == await ear.so_far()


# Unique keys.


@pytest.mark.parametrize("free", [steering.cancel, steering.delete])
async def test_a_key_falls_free(database: str, free: Steer) -> None:
    """A10: a cancelled or deleted job gives its key to the next."""
    first, second = keyed(), keyed()
    async with open_session(database) as session, connect(database) as connection:
        await send(session, first)
        await free(session, [first.id])
        await send(session, second)
        assert {"k": second.id} == await holders(connection)


async def test_a_period_outlives_a_cancel_but_not_a_delete(database: str) -> None:
    """A10: a key for a time stays taken when its job is cancelled; a deletion leaves nothing of the job."""
    job = keyed(scope="period")
    async with open_session(database) as session, connect(database) as connection:
        await send(session, job)
        await steering.cancel(session, [job.id])
        assert {"k": job.id} == await holders(connection)
        await steering.delete(session, [job.id])
        assert {} == await holders(connection)


async def test_a_retry_takes_its_key_back_or_is_refused(database: str) -> None:
    """S4-57, A10: with the key taken by another the job stays where it is; once that has ended, the retry works."""
    first, second = keyed(), keyed()
    async with open_session(database) as session, connect(database) as connection:
        await send(session, first)
        await finish(session, await claim_one(session), outcome=Dead("fatal"))
        await send(session, second)
        before = await rows_of(connection, first.id)

        assert {first.id: Change.KEY_TAKEN} == await steering.retry(session, [first.id])
        assert before == await rows_of(connection, first.id)
        await finish(session, await claim_one(session))
        assert {first.id: Change.DONE} == await steering.retry(session, [first.id])
        assert {"k": first.id} == await holders(connection)
        assert {second.id: Change.KEY_TAKEN} == await steering.retry(session, [second.id])


async def test_of_finished_jobs_with_one_key_one_is_retried(database: str) -> None:
    """S4-57, A10: retried in one call, one of them gets the key, the others are told that it is taken."""
    async with open_session(database) as session, connect(database) as connection:
        jobs = [keyed() for _ in range(3)]
        for job in jobs:
            await send(session, job)
            await finish(session, await claim_one(session), outcome=Dead("fatal"))

        answer = await steering.retry(session, [job.id for job in jobs])
        (holder,) = (await holders(connection)).values()

    assert [Change.DONE, Change.KEY_TAKEN, Change.KEY_TAKEN] == sorted(answer.values())
    assert Change.DONE is answer[holder]


# Retries.


async def test_every_retry_gives_the_same_budget(database: str) -> None:
    """S1-15: the third life of a job has as much time as the first, however long ago it was made."""
    async with open_session(database) as session, connect(database) as connection:
        (id,) = await insert(session, new_job(budget=100.0))
        for _ in range(3):
            await connection.execute(
                "update jobqueue.job set created_at = created_at - interval '1 h', deadline = deadline - interval '1 h'"
            )
            row = await claim_one(session)
            await finish(session, row, outcome=Dead("fatal"))
            await steering.retry(session, [id])
            left = await connection.fetchval(
                "select extract(epoch from deadline - now())::float8 from jobqueue.job where id = $1", id
            )
            assert 100 - scaled(5) < left <= 100


async def test_a_zombie_of_the_first_life_is_refused(database: str) -> None:
    """A3: whoever held the job before it was cancelled, retried and claimed again writes nothing into its new life."""
    async with open_sessions(database, 2) as (session, zombie), connect(database) as connection:
        (id,) = await insert(session, new_job())
        first = await claim_one(zombie)
        await steering.cancel(session, [id])
        await write(session, [ended(first, Released())])
        assert {id: Change.DONE} == await steering.retry(session, [id])
        for late in (Done("1"), Retried(failure(), delay=0.0), Cancelled("late")):
            assert set() == await write(zombie, [ended(first, late)])
        second = await claim_one(session)
        assert second["fence"] > first["fence"]
        assert 1 == second["attempt"]
        for late in (Done("1"), Retried(failure(), delay=0.0), Cancelled("late")):
            assert set() == await write(zombie, [ended(first, late)])
        assert "running" == await connection.fetchval("select state from jobqueue.job")
        assert {id} == await finish(session, second)


# Jobs that were asked to end.

BACK: list[Outcome] = [
    Retried(failure(), delay=0.0), Retried(failure(), delay=9.0), Snoozed(5.0, None), Released(), Released(lost=True),
    Rescued(failure(), 1.0),
]  # fmt: skip


async def asked_to_end(session: Session) -> Claim:
    await insert(session, new_job())
    row = await claim_one(session)
    assert {row["id"]: Change.ASKED} == await steering.cancel(session, [row["id"]])
    return row


@pytest.mark.parametrize("outcome", BACK, ids=lambda outcome: type(outcome).__name__)
async def test_what_would_run_again_ends_instead(database: str, outcome: Outcome) -> None:
    """S2-09, C: retried, snoozed, given back or rescued, a job that was asked to end is cancelled; others go on.

    How its last attempt failed is kept (S1-15).
    """
    error = getattr(outcome, "error", None)
    async with open_session(database) as session, connect(database) as connection:
        row = await asked_to_end(session)
        await insert(session, new_job())
        other = await claim_one(session)

        written = await write_each(session, [ended(row, outcome), ended(other, outcome)])

        assert {row["id"]: Cancelled("requested", error), other["id"]: outcome} == written
        history = await connection.fetchval("select coalesce(jsonb_array_length(errors), 0) from jobqueue.job_archive")
        assert (error is not None) == history
        assert [(row["id"], "cancelled", "requested")] == [
            tuple(found) for found in await connection.fetch("select id, state, reason from jobqueue.job_archive")
        ]
        assert [other["id"]] == [found["id"] for found in await connection.fetch("select id from jobqueue.job")]


@pytest.mark.parametrize("outcome", list(ENDS.values()), ids=lambda outcome: type(outcome).__name__)
async def test_the_end_that_was_reached_counts(database: str, outcome: Outcome) -> None:
    """C: completed, dead or cancelled by its own hand, a job ends so, though it was asked to end."""
    async with open_session(database) as session, connect(database) as connection:
        row = await asked_to_end(session)
        assert {row["id"]: outcome} == await write_each(session, [ended(row, outcome)])
        state = await connection.fetchval("select state from jobqueue.job_archive")
        assert {row["id"]: Change.TOO_LATE} == await steering.cancel(session, [row["id"]])
    assert ENDS[JobState(state)] == outcome


async def test_a_lost_answer_is_no_refusal(database: str) -> None:
    """S2-30: written again after its answer was lost, the end of a job that was asked to end is still its own."""
    async with open_session(database) as session:
        batch = [ended(await asked_to_end(session), Retried(failure(), delay=0.0))]
        for _ in range(2):
            written = await write_each(session, batch)
            assert [Cancelled] == [type(outcome) for outcome in written.values()]


async def test_without_a_day_in_the_archive_a_cancel_makes_one(database: str) -> None:
    """S2-08, B2: no worker has run for days, so there is no partition for today: a cancel makes it, as a finish."""
    async with open_session(database) as session, connect(database) as connection:
        ids = await insert(session, *new_jobs(2))
        for (leaf,) in await connection.fetch(
            "select inhrelid::regclass::text from pg_inherits where inhparent = 'jobqueue.job_archive_other'::regclass"
        ):
            await connection.execute(f"drop table {leaf}")
        try:
            answer = await steering.cancel(session, ids)
        except asyncpg.CheckViolationError:
            pytest.fail("the database's own error has come through")
    assert dict.fromkeys(ids, Change.DONE) == answer


# Keys beside others.


@pytest.mark.parametrize("other", ["finish", "claim", "insert"])
async def test_a_retry_and_the_holders_of_its_keys_never_lock_each_other_out(database: str, other: str) -> None:
    """A10, C: retries and deletes of jobs whose keys others hold, or take, by now, end without a deadlock."""
    scope = {"finish": "unfinished", "claim": "waiting", "insert": "period"}[other]
    period = 0.001 if other == "insert" else None
    async with open_sessions(database, 3) as (a, b, c), connect(database) as connection:
        for turn in range(rounds(4)):
            keys = [f"{turn} {number:03}" for number in range(400)]
            await insert(a, *(new_job(key=key, key_scope=scope, key_period=period) for key in keys))
            rows = await claim(a, 400)
            await finish(a, *rows, outcome=Dead("error", failure()))
            ids = [row["id"] for row in rows]
            if other == "insert":
                beside = insert(b, *(new_job(key=key, key_scope=scope, key_period=60.0) for key in keys))
                await asyncio.gather(beside, steering.delete(c, ids[::2]), steering.retry(a, ids[1::2]))
            else:
                for key in reversed(keys):  # in the table they lie the other way round
                    await insert(a, new_job(key=key, key_scope=scope))
                theirs = finish(b, *await claim(a, 400)) if other == "finish" else claim(b, 400)
                await asyncio.gather(theirs, steering.retry(c, ids))
            doubled = "select count(*) from (select key from jobqueue.job group by key having count(*) > 1) as twice"
            assert other == "claim" or 0 == await connection.fetchval(
                doubled
            )  # claimed, they have let go of their keys
            await connection.execute("truncate jobqueue.job, jobqueue.job_key")
