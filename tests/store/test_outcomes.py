"""Attempts end: written once, by whoever holds the claim, whatever happens to the row meanwhile."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from jobqueue.base.job import JobState, WorkerId
from jobqueue.base.outcome import Cancelled, Dead, Done, Outcome, PutAside, Released, Retried, Snoozed
from jobqueue.store import outcomes
from jobqueue.store.claims import Claim, moment_of
from jobqueue.store.connection.session import Session
from jobqueue.store.dated import DAYS_AHEAD
from jobqueue.store.looking.lookup import find_job
from jobqueue.store.outcomes import Ended
from tests.support.jobs.store import (
    WORKER,
    Connection,
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

EVERY_OUTCOME: list[Outcome] = [
    Done("1"),
    Cancelled("no"),
    Dead("fatal", failure()),
    Retried(failure(), delay=0.0),
    Snoozed(delay=5.0),
    PutAside("unknown"),
    Released(),
]


def named(outcome: Outcome) -> str:
    return type(outcome).__name__.lower()


async def whole(connection: Connection) -> list[Any]:
    """Everything that is stored of jobs."""
    return [
        *await connection.fetch("select * from jobqueue.job order by id"),
        *await connection.fetch("select * from jobqueue.job_archive order by id"),
    ]


async def test_every_outcome_is_written_once(database: str) -> None:
    """The holder of a claim writes its outcome; a second time, for any outcome, nothing is written."""
    async with open_session(database) as session, connect(database) as connection:
        for outcome in EVERY_OUTCOME:
            row = await fresh_claim(session, connection)

            assert {row["id"]} == await finish(session, row, outcome=outcome), outcome

            before = await whole(connection)
            assert 1 == len(before)
            for again in EVERY_OUTCOME:
                await finish(session, row, outcome=again)
            assert before == await whole(connection), outcome


async def fresh_claim(session: Session, connection: Connection) -> Claim:
    """The claim of the only job there is."""
    await connection.execute("truncate jobqueue.job, jobqueue.job_archive")
    await insert(session, new_job())
    return await claim_one(session)


async def test_a_stale_fence_writes_nothing(database: str) -> None:
    """S1-26, S4-69: the outcome of a claim that was given back and claimed anew is refused, and changes nothing."""
    async with open_session(database) as session, connect(database) as connection:
        for outcome in EVERY_OUTCOME:
            stale = await fresh_claim(session, connection)
            await finish(session, stale, outcome=Released())
            ready = await whole(connection)
            said_before = set() if isinstance(outcome, Done | Cancelled | Dead) else {stale["id"]}
            assert said_before == await finish(session, stale, outcome=outcome), "nobody holds it now"
            assert ready == await whole(connection)

            fresh = await claim_one(session)
            running = await whole(connection)
            assert stale["attempt"] == fresh["attempt"], "the attempt number alone could not tell them apart"
            assert said_before == await finish(session, stale, outcome=outcome), outcome
            assert running == await whole(connection)

            assert {fresh["id"]} == await finish(session, fresh)
            archived = await whole(connection)
            assert set() == await finish(session, stale, outcome=outcome), outcome
            assert archived == await whole(connection)


async def test_given_back_by_me_is_told_from_refused(database: str) -> None:
    """A3: a job given back by this very claim counts as written when that is sent again, until another claim ended."""
    async with open_session(database) as session:
        await insert(session, new_job())
        first = await claim_one(session)
        await finish(session, first, outcome=Released())

        assert {first["id"]} == await finish(session, first, outcome=Released())
        second = await claim_one(session)
        assert {first["id"]} == await finish(session, first, outcome=Released())
        await finish(session, second, outcome=Released())
        assert set() == await finish(session, first, outcome=Released())


async def test_done_by_me_is_told_from_refused(database: str) -> None:
    """A finish sent again after a lost answer counts as written; the same by another claim does not."""
    async with open_session(database) as session:
        ids = await insert(session, *new_jobs(3))
        rows = await claim(session)
        await write(session, [ended(rows[0])])

        again = [ended(rows[0]), ended(rows[1], fence=rows[1]["fence"] + 1), ended(rows[2])]

        assert {ids[0], ids[2]} == await write(session, again)


async def test_what_its_own_transaction_completed_is_completed(database: str) -> None:
    """S2-30, S3-33: a handler that fails after a completion whose answer was lost is told, and logged, as completed."""
    async with open_session(database) as session:
        await insert(session, new_job())
        row = await claim_one(session)
        await write(session, [ended(row, Done("7"))])
        told = await write_each(session, [ended(row, Retried(failure(), delay=0.0))])
        assert [Done] == [type(outcome) for outcome in told.values()]


async def test_a_finished_job_is_archived_whole(database: str) -> None:
    """S3-19, S4-12: state, result and finish time are set in one act, by the server's clock; nothing is left behind."""
    job = new_job("mail", '{"to": 1}', queue="post", priority=2, origin="shop", meta='{"a": 1}', key="k", timeout=1.0)
    async with open_session(database) as session, connect(database) as connection:
        await insert(session, job)
        row = await claim_one(session, queues=["post"])
        await finish(session, row, outcome=Done('{"ok": true}'))
        stored = await find_job(session.database, job.id)
        age = await connection.fetchval("select now() - finished_at from jobqueue.job_archive")
        assert 0 == await connection.fetchval("select count(*) from jobqueue.job")

    assert stored is not None
    assert ("mail", "post", 2, "shop", "k", 1.0, 1) == (
        stored.task, stored.queue, stored.priority, stored.origin, stored.key, stored.timeout, stored.attempt
    )  # fmt: skip
    assert (JobState.COMPLETED, {"ok": True}, {"to": 1}, {"a": 1}) == (
        stored.state, stored.result, stored.args, stored.meta
    )  # fmt: skip
    assert timedelta() <= age < timedelta(seconds=10)
    assert stored.finished_at is not None
    assert stored.claimed_at == moment_of(row["claimed_at"])


async def test_each_final_state_keeps_why(database: str) -> None:
    """S3-19: every final state has a finish time, its reason and its last error, and only a completed job a result."""
    expected: list[tuple[Outcome, str, str | None, list[str]]] = [
        (Done("null"), "completed", None, []),
        (Cancelled("asked to"), "cancelled", "asked to", []),
        (Cancelled(), "cancelled", None, []),
        (Dead("attempts", failure("last")), "dead", "attempts", ["last"]),
        (Dead("expired"), "dead", "expired", []),
    ]
    async with open_session(database) as session, connect(database) as connection:
        for outcome, state, reason, errors in expected:
            (id,) = await insert(session, new_job())
            await finish(session, await claim_one(session), outcome=outcome)
            job = await find_job(session.database, id)
            assert job is not None
            assert (state, reason, errors) == (job.state, job.reason, [error.message for error in job.errors])
            assert (state == "completed") == (job.result_json is not None)
        assert 0 == await connection.fetchval("select count(*) from jobqueue.job_archive where finished_at is null")


async def test_an_error_is_dated_by_the_server(database: str) -> None:
    """S4-12: the time of an error comes from the server, whatever the worker's clock says."""
    wrong = datetime.now(UTC) - timedelta(days=400)
    error = failure("dated")
    object.__setattr__(error, "at", wrong)
    async with open_session(database) as session:
        (id,) = await insert(session, new_job())
        await finish(session, await claim_one(session), outcome=Retried(error, delay=0.0))
        await finish(session, await claim_one(session), outcome=Dead("fatal", error))
        job = await find_job(session.database, id)

    assert job is not None
    assert job.finished_at is not None
    dates = [error.at for error in job.errors if error.at is not None]
    assert 2 == len(dates)
    assert all(timedelta() <= job.finished_at - date < timedelta(seconds=10) for date in dates)


# Going back.


async def test_a_retry_waits_and_queues_up_anew(database: str) -> None:
    """A retried job is scheduled for its time and keeps its attempts; at its time it gets a place behind the others."""
    async with open_session(database) as session, connect(database) as connection:
        await insert(session, new_job())
        row = await claim_one(session)
        await insert(session, new_job())
        await finish(session, row, outcome=Retried(failure(), delay=100.0, queue="slow", priority=-1))
        stored = await connection.fetchrow(
            "select *, extract(epoch from due_at - now()) as wait from jobqueue.job where id = $1", row["id"]
        )

    assert stored is not None
    assert ("scheduled", 1, 0, None, None, None, "slow", -1) == tuple(
        stored[name]
        for name in ("state", "attempt", "fence", "worker_id", "lease_until", "claim_no", "queue", "priority")
    )
    assert 100 - scaled(5) < stored["wait"] <= 100


async def test_a_retry_without_delay_is_ready_behind_the_others(database: str) -> None:
    """A job that failed goes to the end of the line, one that was released keeps its place at the front."""
    async with open_session(database) as session:
        first, second, third = await insert(session, *new_jobs(3))
        rows = await claim(session, 2)
        await write(session, [ended(rows[0], Retried(failure(), delay=0.0)), ended(rows[1], Released())])

        assert [second, third, first] == [row["id"] for row in await claim(session)]


async def test_a_time_may_be_given(database: str) -> None:
    """A retry or snooze until a given time is due then, not earlier."""
    moment = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=3)
    async with open_session(database) as session, connect(database) as connection:
        await insert(session, *new_jobs(2))
        rows = await claim(session)
        await write(session, [ended(rows[0], Retried(failure(), at=moment)), ended(rows[1], Snoozed(at=moment))])

        stored = await connection.fetch("select state, due_at, attempt from jobqueue.job order by attempt")
        assert [("scheduled", moment, 0), ("scheduled", moment, 1)] == [tuple(row) for row in stored]


async def test_only_a_failure_costs_an_attempt(database: str) -> None:
    """Snooze, release and putting aside give the attempt back, exactly one."""
    costs: list[tuple[Outcome, int]] = [
        (Retried(failure(), delay=0.0), 1),
        (Snoozed(delay=0.0), 0),
        (PutAside("unknown"), 0),
        (Released(), 0),
    ]
    async with open_session(database) as session, connect(database) as connection:
        for outcome, attempt in costs:
            await finish(session, await fresh_claim(session, connection), outcome=outcome)
            assert attempt == await connection.fetchval("select attempt from jobqueue.job"), outcome


async def test_a_job_put_aside_is_looked_at_less_and_less(database: str) -> None:
    """The longer a job is put aside, the later it is looked at again, a minute at most; it stays known since when."""
    async with open_session(database) as session, connect(database) as connection:
        for age, wait in [(0.0, 1), (8.0, 2), (100.0, 25), (1_000.0, 60)]:
            row = await fresh_claim(session, connection)
            (before,) = await first(connection, "select clock_timestamp()")
            await write(session, [Ended(row["id"], row["fence"], PutAside("unknown"), age)])
            due, since, after = await first(
                connection, "select due_at, aside_since, clock_timestamp() from jobqueue.job"
            )
            assert before <= due - timedelta(seconds=wait) <= after

            await connection.execute("update jobqueue.job set state = 'ready'")
            row = await claim_one(session)
            assert since == moment_of(row["aside_since"])
            await finish(session, row, outcome=PutAside("unknown"))
            assert (since,) == await first(connection, "select aside_since from jobqueue.job")


async def test_a_job_that_ran_is_not_aside_any_more(database: str) -> None:
    """A snooze or retry ends the time aside; a release does not, for nothing has run."""
    async with open_session(database) as session, connect(database) as connection:
        await insert(session, *new_jobs(3))
        await write(session, [ended(row, PutAside("unknown")) for row in await claim(session)])
        await connection.execute("update jobqueue.job set state = 'ready'")
        outcomes: list[Outcome] = [Released(), Snoozed(delay=9.0), Retried(failure(), delay=9.0)]
        rows = await claim(session)
        await write(session, [ended(row, outcome) for row, outcome in zip(rows, outcomes, strict=True)])

        aside = {row["id"]: row["aside_since"] for row in await connection.fetch("select * from jobqueue.job")}
        assert [False, True, True] == [aside[row["id"]] is None for row in rows]


async def first(connection: Connection, query: str) -> tuple[Any, ...]:
    row = await connection.fetchrow(query)
    assert row is not None
    return tuple(row)


@pytest.mark.parametrize("last", [Retried(failure("last"), delay=0.0), Dead("attempts", failure("last"))], ids=named)
async def test_the_history_of_errors_is_bounded(database: str, last: Outcome) -> None:
    """At most 25 errors are kept: the first five, and the latest."""
    async with open_session(database) as session:
        (id,) = await insert(session, new_job(max_attempts=100))
        for number in range(1, 31):
            row = await claim_one(session)
            await finish(session, row, outcome=Retried(failure(f"e{number}", number), delay=0.0))
        await finish(session, await claim_one(session), outcome=last)
        job = await find_job(session.database, id)

    assert job is not None
    messages = [error.message for error in job.errors]
    assert [*(f"e{number}" for number in (1, 2, 3, 4, 5, *range(12, 31))), "last"] == messages


# Others at the same row at the same time.


@pytest.mark.parametrize("outcome", [Done("1"), Retried(failure(), delay=0.0), Released()], ids=named)
async def test_a_locked_row_holds_up_only_itself(database: str, outcome: Outcome) -> None:
    """What ends with a job whose row another transaction has is written at once; that one is busy, then written."""
    async with open_session(database) as session, connect(database) as other, connect(database) as observer:
        for change in ("lease_until = lease_until + interval '1 min'", "awaited = true", "cancel_asked = null"):
            await observer.execute("truncate jobqueue.job, jobqueue.job_archive")
            await insert(session, *new_jobs(3))
            rows = await claim(session)
            batch = [ended(row, outcome) for row in rows]
            async with other.transaction():
                await other.execute(f"update jobqueue.job set {change} where id = $1", rows[1]["id"])
                first = await outcomes.write(session, WORKER, batch)

            assert ({rows[0]["id"], rows[2]["id"]}, {rows[1]["id"]}) == (set(first.outcomes), set(first.busy)), change
            again = await outcomes.write(session, WORKER, batch)
            assert ({row["id"] for row in rows}, set()) == (set(again.outcomes), set(again.busy)), change
            running = await observer.fetchval("select count(*) from jobqueue.job where state = 'running'")
            assert (0, 3) == (running, len(await whole(observer)))


async def test_a_rescue_in_between_refuses_only_its_own_job(database: str) -> None:
    """A finish that meets somebody who takes the claim away is refused for that job, and written for the rest."""
    async with open_session(database) as session, connect(database) as rescue, connect(database) as observer:
        ids = await insert(session, *new_jobs(3))
        rows = await claim(session)
        async with rescue.transaction():
            free = "state = 'ready', fence = 0, worker_id = null, lease_until = null"
            await rescue.execute(f"update jobqueue.job set {free} where id = $1", ids[1])
            assert {ids[0], ids[2]} == await finish(session, *rows)

        assert {ids[0], ids[2]} == await finish(session, *rows)
        assert "ready" == await observer.fetchval("select state from jobqueue.job where id = $1", ids[1])


OTHER = WorkerId(UUID(int=7))


@pytest.mark.parametrize("outcome", [Done("1"), Retried(failure(), delay=0.0), Released(lost=True)], ids=named)
async def test_a_fence_that_repeats_lets_nobody_else_write(database: str, outcome: Outcome) -> None:
    """After a failover that lost the sequence of fences two claims may have the same one: the worker counts too."""
    async with open_session(database) as session, connect(database) as observer:
        await insert(session, new_job())
        row = await claim_one(session)
        late = await outcomes.write(session, OTHER, [ended(row, outcome)])
        assert (0, 0) == (len(late.outcomes), len(late.busy))
        assert WORKER == await observer.fetchval("select worker_id from jobqueue.job where state = 'running'")

        assert {row["id"]} == await finish(session, row, outcome=outcome)
        late = await outcomes.write(session, OTHER, [ended(row, outcome)])
        assert (0, 0) == (len(late.outcomes), len(late.busy)), "another's write is taken for its own"


async def test_overlapping_batches_never_deadlock(database: str) -> None:
    """Batches over the same jobs in opposite order are written by one or the other, and nobody waits in a circle."""
    async with open_sessions(database, 3) as (one, two, three), connect(database) as connection:
        outcomes: list[Outcome] = [Done("1"), Retried(failure(), delay=0.0), Snoozed(delay=0.0)]
        for outcome in outcomes * rounds(4):
            await insert(one, *new_jobs(300))
            rows = await claim(one, 1_000)
            answers = await asyncio.gather(
                finish(one, *rows, outcome=outcome),
                finish(two, *reversed(rows), outcome=outcome),
                write(three, [ended(row, Done("1") if row["seq"] % 2 else Released()) for row in rows]),
            )
            assert {row["id"] for row in rows} == set().union(*answers)
            await connection.execute("truncate jobqueue.job")


# The archive's days.


async def test_a_missing_day_is_made_by_the_finish_that_meets_it(database: str) -> None:
    """A finish that meets a day without a partition makes it, and is written in the same call."""
    async with open_session(database) as session, connect(database) as connection:
        day = await connection.fetchval("select to_char(now() at time zone 'UTC', 'YYYYMMDD')")
        await connection.execute(f"drop table jobqueue.job_archive_completed_{day}, jobqueue.job_archive_other_{day}")
        ids = await insert(session, *new_jobs(2))
        rows = await claim(session)

        assert set(ids) == await write(session, [ended(rows[0]), ended(rows[1], Dead("fatal"))])

        assert 2 == await connection.fetchval("select count(*) from jobqueue.job_archive")
        assert await connection.fetchval("select to_regclass($1)", f"jobqueue.job_archive_completed_{day}")


async def test_days_are_made_once_by_many_at_once(database: str) -> None:
    """Missing days are made ahead, from yesterday on, each once, however many ask for it at the same time."""
    async with open_sessions(database, 4) as sessions, connect(database) as connection:
        assert 0 == (await sessions[0].fetch("extend_archive", DAYS_AHEAD))[0]["made"]

        answers = await asyncio.gather(*(session.fetch("extend_archive", DAYS_AHEAD + 3) for session in sessions))
        assert 9 == sum(rows[0]["made"] for rows in answers), "three days of two kinds, and of the log"

        days = await connection.fetch(
            "select from pg_inherits where inhparent = 'jobqueue.job_archive_completed'::regclass"
        )
        assert 1 + 1 + DAYS_AHEAD + 3 == len(days)
        leftover = await connection.fetchval("select count(*) from pg_constraint where conname = 'bound'")
        assert 0 == leftover


async def test_an_empty_batch_is_no_statement(database: str) -> None:
    """Nothing to write is nothing written, without asking the database."""
    async with open_session(database) as session:
        assert set() == await write(session, [])
        assert session._connection is None


async def test_a_job_that_never_was_is_refused(database: str) -> None:
    """An outcome for an id that does not exist is refused like one of a lost claim."""
    async with open_session(database) as session:
        assert set() == await write(session, [Ended(UUID(int=7), 3, outcome) for outcome in EVERY_OUTCOME])
