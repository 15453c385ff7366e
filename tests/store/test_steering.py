"""Steering: each action in each state does what the table says, whoever else is at it."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from jobqueue.base.job import FINAL, JobState
from jobqueue.base.outcome import Cancelled, Dead, Done, Outcome, Retried
from jobqueue.base.steering import LEGAL, Action, Change
from jobqueue.store import steering
from jobqueue.store.connection.session import Session
from tests.store.keys.test_keys import holders, keyed
from tests.support.jobs.store import (
    Connection,
    claim,
    claim_one,
    connect,
    failure,
    finish,
    insert,
    new_job,
    new_jobs,
    open_session,
    open_sessions,
)
from tests.support.rounds import rounds

Steer: TypeAlias = Callable[[Session, Sequence[UUID]], Awaitable[dict[UUID, Change]]]
Row: TypeAlias = dict[str, Any]

HOUR = 3600.0
LATER = datetime(2100, 1, 1, tzinfo=UTC)
WAITING = {JobState.SCHEDULED, JobState.READY}


async def reschedule(session: Session, ids: Sequence[UUID]) -> dict[UUID, Change]:
    return await steering.change(session, Action.RESCHEDULE, ids, at=LATER)


async def move(session: Session, ids: Sequence[UUID]) -> dict[UUID, Change]:
    return await steering.change(session, Action.MOVE, ids, queue="elsewhere")


async def set_priority(session: Session, ids: Sequence[UUID]) -> dict[UUID, Change]:
    return await steering.change(session, Action.SET_PRIORITY, ids, priority=7)


STEER: dict[Action, Steer] = {
    Action.CANCEL: steering.cancel,
    Action.RETRY: steering.retry,
    Action.RESCHEDULE: reschedule,
    Action.MOVE: move,
    Action.SET_PRIORITY: set_priority,
    Action.DELETE: steering.delete,
}
ENDS: dict[JobState, Outcome] = {
    JobState.COMPLETED: Done("1"),
    JobState.CANCELLED: Cancelled("bored"),
    JobState.DEAD: Dead("fatal", failure("last", 2)),
}


async def job_in(session: Session, connection: Connection, state: JobState) -> UUID:
    """A job with a key and a budget that has failed once and seen a crash, on its way in this state."""
    job = keyed(f"key of {state}", budget=HOUR, priority=3)
    await insert(session, job)
    await finish(session, await claim_one(session), outcome=Retried(failure("first"), delay=0.0))
    row = await claim_one(session) if state in {JobState.RUNNING, *FINAL} else None
    await connection.execute("update jobqueue.job set crashes = 1, lost = 1 where id = $1", job.id)
    if row is not None and state in FINAL:
        await finish(session, row, outcome=ENDS[state])
    elif state is JobState.SCHEDULED:
        await steering.change(session, Action.RESCHEDULE, [job.id], delay=HOUR)
    elif state is JobState.BLOCKED:
        await connection.execute("update jobqueue.job set state = 'blocked' where id = $1", job.id)
    return job.id


async def rows_of(connection: Connection, id: UUID) -> tuple[Row | None, Row | None]:
    """The job as it stands among the unfinished, and among the finished."""
    live = await connection.fetch("select * from jobqueue.job where id = $1", id)
    over = await connection.fetch("select * from jobqueue.job_archive where id = $1", id)
    assert len(live) + len(over) <= 1, "it is in two places"
    return (dict(live[0]) if live else None), (dict(over[0]) if over else None)


def changed(before: Row | None, after: Row | None) -> Row:
    """The columns that differ, with their new values."""
    assert before is not None
    assert after is not None
    return {name: after[name] for name in after if after[name] != before[name]}


@pytest.mark.parametrize("state", list(JobState))
@pytest.mark.parametrize("action", list(Action))
async def test_an_action_in_a_state(database: str, action: Action, state: JobState) -> None:
    """S2-43, S2-44, S2-08, S1-15, S4-57, S4-58, S4-99: the result is the table's, and so is the row afterwards."""
    async with open_session(database) as session, connect(database) as connection:
        id = await job_in(session, connection, state)
        before = await rows_of(connection, id)
        now = await connection.fetchval("select clock_timestamp()")
        looked = await steering.look(session, action, [id])
        assert before == await rows_of(connection, id), "a look changes nothing"

        answer = await STEER[action](session, [id])
        after = await rows_of(connection, id)
        keys = await holders(connection)

    expected = LEGAL[action][state]
    assert {id: expected} == answer == looked
    if not expected.happened:
        assert before == after
    elif action is Action.DELETE:
        assert (None, None) == after
        assert {} == keys
    elif action is Action.CANCEL and state is JobState.RUNNING:
        assert {"cancel_asked"} == set(changed(before[0], after[0]))
    elif action is Action.CANCEL:
        assert_cancelled(before[0], after)
        assert {} == keys
    elif action is Action.RETRY and state in FINAL:
        assert_back(before[1], after, now)
        assert {f"key of {state}": id} == keys
    else:
        assert_moved(action, before[0], after[0], now)
        assert {f"key of {state}": id} == keys


def assert_cancelled(before: Row | None, after: tuple[Row | None, Row | None]) -> None:
    live, over = after
    assert before is not None
    assert live is None
    assert over is not None
    assert ("cancelled", "requested", None, 0) == (over["state"], over["reason"], over["result"], over["fence"])
    same = ("queue", "task", "args", "priority", "due_at", "attempt", "crashes", "lost", "errors", "key", "deadline")
    assert [before[name] for name in same] == [over[name] for name in same]


def assert_back(before: Row | None, after: tuple[Row | None, Row | None], now: datetime) -> None:
    live, over = after
    assert before is not None
    assert over is None
    assert live is not None
    assert ("ready", 0, 0, 0, 0) == (live["state"], live["attempt"], live["crashes"], live["lost"], live["fence"])
    assert live["due_at"] >= now
    same = ("id", "queue", "task", "args", "priority", "errors", "key", "created_at", "max_attempts", "timeout")
    assert [before[name] for name in same] == [live[name] for name in same]
    assert timedelta(seconds=HOUR) == live["deadline"] - live["due_at"], "the budget counts from now"
    assert (None, False, None) == (live["cancel_asked"], live["awaited"], live["expires_at"])


def assert_moved(action: Action, before: Row | None, after: Row | None, now: datetime) -> None:
    assert before is not None
    assert after is not None
    differs = changed(before, after)
    seq = differs.pop("seq", None)
    assert (seq is None) == (action is Action.SET_PRIORITY), "whatever lines up anew gets a new place"
    assert seq is None or seq > before["seq"]
    match action:
        case Action.RETRY:
            assert now <= differs.pop("due_at")
            assert "ready" == after["state"]
            differs.pop("state", None)
        case Action.RESCHEDULE:
            assert ("blocked" if before["state"] == "blocked" else "scheduled") == after["state"]
            assert LATER == differs.pop("due_at")
            differs.pop("state", None)
        case Action.MOVE:
            assert {"queue": "elsewhere"} == differs
            differs.clear()
        case Action.SET_PRIORITY:
            assert {"priority": 7} == differs
            differs.clear()
    assert {} == differs


def test_the_table_is_whole() -> None:
    """S2-43: every action has a result in every state, and none but the worker ends what runs."""
    assert set(Action) == set(LEGAL)
    for action, results in LEGAL.items():
        assert set(JobState) == set(results), action
        assert results[JobState.RUNNING] in {Change.ASKED, Change.BUSY}


@pytest.mark.parametrize("action", list(Action))
async def test_what_nobody_knows_is_not_found(database: str, action: Action) -> None:
    """S2-43: unknown ids are told so, of whatever kind they are, and hold up none of the others."""
    unknown = [uuid7(), UUID(int=5), UUID("a2f1c0de-0000-4000-8000-000000000000")]
    async with open_session(database) as session:
        (id,) = await insert(session, new_job())
        assert {} == await STEER[action](session, [])
        answer = await STEER[action](session, [unknown[0], id, *unknown[1:]])
        looked = await steering.look(session, action, unknown)

    assert {id: Change.DONE} | dict.fromkeys(unknown, Change.NOT_FOUND) == answer
    assert dict.fromkeys(unknown, Change.NOT_FOUND) == looked


async def test_many_at_once_each_get_their_answer(database: str) -> None:
    """S2-43: one call for jobs in all states answers for each in the order asked for, one that is named twice once."""
    async with open_session(database) as session, connect(database) as connection:
        found = {await job_in(session, connection, state): state for state in JobState}
        ids = [*reversed(found), uuid7(), next(iter(found))]

        answer = await steering.cancel(session, ids)

    assert list(dict.fromkeys(ids)) == list(answer)
    assert {id: LEGAL[Action.CANCEL][state] for id, state in found.items()} == {id: answer[id] for id in found}


async def test_two_callers_never_lock_each_other_out(database: str) -> None:
    """S2-43: two who steer the same jobs, in any order and beside claims and finishes: no deadlock, one answer each."""
    chosen = random.Random(7)  # noqa: S311 - a seed to repeat it by
    async with open_sessions(database, 4) as (session, *others), connect(database) as connection:
        for _ in range(rounds(6)):
            ids = await insert(session, *new_jobs(150), *new_jobs(50, delay=HOUR))
            # Lines up anew in another order than that of the ids, so that the indexes disagree about who comes first.
            mixed = chosen.sample(ids, 100)
            for id in mixed[:40]:
                await steering.change(session, Action.MOVE, [id], queue="default")
            rows = await claim(session, 80)
            one, two, ends = await asyncio.gather(
                steering.cancel(others[0], chosen.sample(ids, len(ids))),
                choose(chosen)(others[1], chosen.sample(ids, len(ids))),
                finish(others[2], *chosen.sample(rows, len(rows)), outcome=Retried(failure(), delay=0.0)),
            )
            assert set(ids) == set(one) == set(two)
            assert ends <= set(ids)
            live = await connection.fetch("select id from jobqueue.job where cancel_asked is null")
            back = {id for id, change in two.items() if change is Change.DONE}
            assert {row["id"] for row in live} <= back, "what was cancelled stays so, unless it was retried"
            await connection.execute("truncate jobqueue.job, jobqueue.job_archive")


def choose(chosen: random.Random) -> Steer:
    actions: list[Steer] = [steering.cancel, steering.retry, set_priority]
    return chosen.choice(actions)


@pytest.mark.parametrize("analysed", [False, True], ids=["unknown", "analysed"])
async def test_a_request_and_a_finish_never_lock_each_other_out(database: str, analysed: bool) -> None:
    """A9: jobs that line up in another order than that of their ids, asked to end while others finish or renew them."""
    chosen = random.Random(9)  # noqa: S311 - a seed to repeat it by
    async with open_sessions(database, 3) as (session, *others), connect(database) as connection:
        await insert(session, *new_jobs(3_000, queue="crowd"))
        for number in range(1, 9):
            await insert(session, *new_jobs(300))
            # their order in the table and in the queue against that of their ids
            await connection.execute(
                "update jobqueue.job j set seq = nextval('jobqueue.job_seq')"
                " from (select id from jobqueue.job where queue = 'default' order by id desc) as d where d.id = j.id"
            )
            rows = await claim(session, 300, number=number)
            ids = [row["id"] for row in rows]
            if analysed:
                await connection.execute("analyze jobqueue.job")
            asked, _, _ = await asyncio.gather(
                steering.cancel(others[0], chosen.sample(ids, len(ids))),
                steering.cancel(others[1], chosen.sample(ids, len(ids))),
                finish(session, *chosen.sample(rows, len(rows)), outcome=Retried(failure(), delay=0.0)),
            )
            assert {Change.ASKED, Change.DONE, Change.TOO_LATE} >= set(asked.values())
            await steering.cancel(session, ids)
            await finish(session, *rows)


async def test_cancels_of_one_job_agree(database: str) -> None:
    """S2-44: of five who cancel a waiting job one has done it; the others are told that it is too late."""
    async with open_sessions(database, 5) as sessions:
        for _ in range(10):
            (id,) = await insert(sessions[0], new_job())
            answers = await asyncio.gather(*(steering.cancel(session, [id]) for session in sessions))
            assert [Change.DONE] + [Change.TOO_LATE] * 4 == sorted(answer[id] for answer in answers)
