"""Jobs whose worker died while it ran them: at most so many in one claim, and which jobs count as started."""

import asyncio
from collections.abc import Mapping

import pytest

from jobqueue.store import claims
from jobqueue.store.claims import Claim
from jobqueue.store.connection.session import Session
from tests.support.jobs.store import (
    LEASE,
    WORKER,
    connect,
    insert,
    new_job,
    new_jobs,
    open_session,
    open_sessions,
    ready_queues,
)
from tests.support.patience import PATIENCE


async def take(
    session: Session, room: int, suspects: int, *, rooms: Mapping[str, int] | None = None, idle: int | None = None
) -> list[Claim]:
    rooms = rooms or {"default": room}
    return await claims.claim(session, WORKER, 1, LEASE, rooms, room, idle=idle, suspects=suspects)


async def blame(dsn: str, condition: str) -> None:
    """Make suspects of these jobs."""
    async with connect(dsn) as connection:
        await connection.execute(f"update jobqueue.job set crashes = 1 where {condition}")


async def started(dsn: str) -> list[bool | None]:
    """Of each job in the order of age whether it counts as started; None of those that nobody holds."""
    query = "select case when state = 'running' then started end from jobqueue.job order by seq"
    async with connect(dsn) as connection:
        return [row[0] for row in await connection.fetch(query)]


@pytest.mark.parametrize("suspects", [0, 1, 2])
async def test_a_claim_has_at_most_so_many_suspects(database: str, suspects: int) -> None:
    """S4-68: ordinary jobs fill the rest of the room, and suspects that are not wanted stay ready."""
    rooms = {"a": 6, "b": 6, "c": 6}
    async with open_session(database) as session:
        for queue in rooms:
            await insert(session, *new_jobs(4, queue=queue))
        await blame(database, "seq % 2 = 0")

        rows = await take(session, 6, suspects, rooms=rooms)
        assert (6, suspects) == (len(rows), sum(row["crashes"] > 0 for row in rows))
        rows = await take(session, 6, suspects, rooms=rooms)
        ordinary = [row for row in rows if not row["crashes"]]
        assert (suspects, suspects) == (len(ordinary), len(rows) - len(ordinary))


async def test_a_suspect_takes_room_from_the_others(database: str) -> None:
    """Neither the room of all nor that of a queue is exceeded for a suspect's sake."""
    async with open_session(database) as session:
        await insert(session, *new_jobs(5, queue="a"), *new_jobs(5, queue="b"))
        await blame(database, "queue = 'a' and seq < 3")

        assert {"a": 2, "b": 3} == by_queue(await take(session, 100, 1, rooms={"a": 2, "b": 3}))
        rows = await take(session, 1, 1, rooms={"a": 1, "b": 1})
        assert [1] == [row["crashes"] for row in rows]


def by_queue(rows: list[Claim]) -> dict[str, int]:
    queues = [row["queue"] for row in rows]
    return {queue: queues.count(queue) for queue in sorted(set(queues))}


async def test_a_suspect_that_another_has_is_passed_over(database: str) -> None:
    """Two workers at once get one suspect each, and never wait."""
    async with open_sessions(database, 2) as (one, two):
        await insert(one, *new_jobs(2))
        await blame(database, "true")
        async with one.transaction(), asyncio.timeout(PATIENCE):
            first, second = await take(one, 5, 1), await take(two, 5, 1)
    assert (1, 1) == (len(first), len(second))
    assert first[0]["id"] != second[0]["id"]


async def test_suspects_come_by_priority_then_by_age(database: str) -> None:
    """Among suspects the order is that of all jobs; an ordinary job of any priority is beside them, not behind."""
    async with open_session(database) as session:
        jobs = [new_job(priority=priority) for priority in (0, 5, 5, 9)]
        low, high, later, ordinary = await insert(session, *jobs)
        await blame(database, "priority < 9")
        order = [[row["id"] for row in await take(session, 2, 1)] for _ in range(3)]
    assert [[ordinary, high], [later], [low]] == order


@pytest.mark.parametrize("idle", [0, 2, 4, 9])
async def test_only_what_starts_at_once_counts_as_started(database: str, idle: int) -> None:
    """Protocols A4: of a batch the first `idle`, by priority and age, find a slot; the rest is never to blame."""
    async with open_session(database) as session:
        await insert(session, *[new_job(priority=priority) for priority in (0, 1, 0, 1, 0, 2)])
        rows = await take(session, 5, 0, idle=idle)
        told = await started(database)

    assert [2, 1, 1, 0, 0] == [row["priority"] for row in rows]
    places = {0: [], 2: [5, 1], 4: [5, 1, 3, 0], 9: [5, 1, 3, 0, 2]}[idle]
    assert [None if place == 4 else place in places for place in range(6)] == told


async def test_a_suspect_has_its_place_among_the_started(database: str) -> None:
    """A suspect is counted like any other job: with one idle slot the better of two starts."""
    async with open_session(database) as session:
        await insert(session, new_job(), new_job(priority=1))
        await blame(database, "priority = 0")
        await take(session, 2, 1, idle=1)
        assert [False, True] == await started(database)


async def test_a_released_job_is_not_taken_for_started(database: str) -> None:
    """What a claim before has started says nothing of the next one."""
    async with open_session(database) as session, connect(database) as connection:
        await insert(session, new_job(), new_job(priority=1))
        await connection.execute("update jobqueue.job set started = true")
        await take(session, 2, 0, idle=1)
        assert [False, True] == await started(database)


async def test_queues_that_have_only_suspects_are_found(database: str) -> None:
    """A worker that serves all queues learns of one in which nothing but a suspect waits."""
    async with open_session(database) as session:
        await insert(session, new_job(queue="b"), new_job(queue="a"))
        await blame(database, "queue = 'a'")
        assert ["a", "b"] == await ready_queues(session)
