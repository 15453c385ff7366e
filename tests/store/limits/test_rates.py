"""Rates, strict order, and fair shares: when jobs start, and in which order, told by what `admit` gives them."""

from collections import Counter
from datetime import datetime, timedelta

import pytest

from jobqueue.base.outcome import LinedUp, Retried
from jobqueue.store import claims
from jobqueue.store.connection.session import Session
from jobqueue.store.flows import limits
from jobqueue.store.looking.overview import place_in_line
from tests.support.jobs.gates import declare_limit, limited, look, states, wrong_with_gates
from tests.support.jobs.store import Connection, claim, claim_one, connect, failure, finish, insert, open_session


async def starts(connection: Connection) -> list[datetime]:
    """When those that have a token may start at the earliest."""
    rows = await connection.fetch("select due_at from jobqueue.job where token_until is not null order by due_at")
    return [row["due_at"] for row in rows]


def most_within(moments: list[datetime], seconds: float) -> int:
    """How many of these lie in any stretch of so many seconds, its end not included."""
    span = timedelta(seconds=seconds)
    return max(sum(start <= moment < start + span for moment in moments) for start in moments)


@pytest.mark.parametrize(
    ("count", "per", "burst"), [(10, 1.0, 1), (10, 1.0, 4), (10, 1.0, 10), (3, 7.0, 2), (100, 60.0, 1)]
)
async def test_no_stretch_has_more_than_the_rate(database: str, count: int, per: float, burst: int) -> None:
    """Whatever the burst, no stretch of `per` has more starts than `count`, though each may be late by its grace."""
    async with open_session(database) as session, connect(database) as connection:
        await declare_limit(session, "api", None, count=count, per=per, burst=burst)
        await insert(session, *(limited("~api") for _ in range(3 * count)))
        every = (per + min(1.0, per / 10)) / (count - burst + 1)
        await look(session, horizon=3 * count * every)
        moments = await starts(connection)
        slack = min(1.0, per / 10)
        assert 3 * count == len(moments)
        assert burst == sum(moment <= moments[0] + timedelta(milliseconds=1) for moment in moments)
        assert most_within(moments, per + slack) <= count
        assert (moments[-1] - moments[0]).total_seconds() < (3 * count - burst) * every + 0.001
        until = await connection.fetch("select token_until - due_at as grace from jobqueue.job")
        assert {timedelta(seconds=slack)} == {row["grace"] for row in until}


async def test_tokens_are_given_a_little_ahead(database: str) -> None:
    """A rate gives a time to those that start within the horizon, and looks again when the next one comes into it."""
    async with open_session(database) as session, connect(database) as connection:
        await declare_limit(session, "api", None, count=10, per=100.0)
        ids = await insert(session, *(limited("~api") for _ in range(3)))
        done = await look(session)
        assert ["ready", "blocked", "blocked"] == [state for state, _, _ in await states(connection, ids)]
        assert done.next_in is not None and 5.0 < done.next_in < 10.1

        await connection.execute("update jobqueue.gate set tat = tat - interval '11 s'")
        await connection.execute("update jobqueue.gate_note set due_at = now()")
        await look(session)
        assert ["ready", "ready", "blocked"] == [state for state, _, _ in await states(connection, ids)]


async def test_a_rate_that_was_slow_holds_up_nobody(database: str) -> None:
    """Once a rate of one an hour is one of a hundred a second, the next one goes as that has it, and not in an hour."""
    async with open_session(database) as session, connect(database) as connection:
        await declare_limit(session, "api", None, count=1, per=3600.0)
        ids = await insert(session, *(limited("~api") for _ in range(3)))
        await look(session)
        await limits.change(session, "api", {"count": 100, "per": 1.0, "burst": 1})
        await connection.execute(
            "update jobqueue.gate set used_at = used_at - interval '1 s', tat = tat - interval '1 s'"
        )
        await look(session)
        assert 3 == [gate for _, _, gate in await states(connection, ids)].count(None)
        first, second = (await starts(connection))[1:]
        assert timedelta(seconds=0.011) == second - first


@pytest.mark.parametrize("burst", [1, 5])
async def test_the_next_start_is_told(database: str, burst: int) -> None:
    """In how many seconds the next one may start is known of a line and of a job, also after a burst."""
    async with open_session(database) as session:
        await declare_limit(session, "api", None, count=10, per=10_000.0, burst=burst)
        ids = await insert(session, *(limited("~api") for _ in range(burst + 1)))
        await look(session)
        (line,) = await limits.lines(session, "api", 1)
        place = await place_in_line(session, ids[-1], 10)
        assert place is not None and place.next_in is not None and line.free_in is not None
        pace = 10_001.0 / (10 - burst + 1)
        assert 0 < place.next_in <= line.free_in <= pace


async def test_who_has_a_time_does_not_queue_up_again(database: str) -> None:
    """When the time that a rate gave has come, the job is before all that came to the queue meanwhile."""
    async with open_session(database) as session, connect(database) as connection:
        await declare_limit(session, "api", None, count=10, per=1.0)
        _, second = await insert(session, limited("~api"), limited("~api"))
        await look(session)
        await claim_one(session)
        (later,) = await insert(session, limited())
        await connection.execute("update jobqueue.job set due_at = now() where state = 'scheduled'")
        assert 1 == (await claims.promote_due(session, 10)).jobs
        rows = await claim(session)
        assert [second, later] == [row["id"] for row in rows]
        assert 0 < rows[0]["token_left"] <= 0.4 and rows[1]["token_left"] is None


async def test_tokens_are_not_wasted_on_a_queue_that_is_behind(database: str) -> None:
    """While a job with a token has not started in time, no more of its queue get one: they would be as late."""
    async with open_session(database) as session, connect(database) as connection:
        await declare_limit(session, "api", None, count=10, per=100.0)
        first, second, other = await insert(session, limited("~api"), limited("~api"), limited("~api", queue="other"))
        await look(session)
        late = "update jobqueue.job set token_until = now() - interval '1 s' where passed = 1"
        again = "update jobqueue.gate_note set due_at = now()"
        for statement in (late, "update jobqueue.gate set tat = now() - interval '1 h'", again):
            await connection.execute(statement)
        await look(session)
        assert [("ready", 1, None), ("blocked", 0, "~api"), ("ready", 1, None)] == await states(
            connection, [first, second, other]
        )

        row = await claim_one(session)
        await finish(session, row, outcome=LinedUp(("~api",)))
        for statement in ("update jobqueue.gate set tat = now() - interval '1 h'", again):
            await connection.execute(statement)
        await look(session)
        assert [("ready", 1, None), ("blocked", 0, "~api")] == await states(connection, [first, second])


async def test_strict_order_outlives_a_retry(database: str) -> None:
    """The head of an ordered line that fails keeps its place: nobody passes it before it has ended."""
    async with open_session(database) as session, connect(database) as connection:
        await declare_limit(session, "order", 1, ordered=True)
        await declare_limit(session, "all", 5)
        ids = await insert(session, *(limited("order\nk", "all") for _ in range(3)))
        ran = []
        for _ in range(6):
            await connection.execute("update jobqueue.job set due_at = now() where state = 'scheduled'")
            await claims.promote_due(session, 10)
            await look(session)
            row = await claim_one(session)
            ran.append(row["id"])
            retries = len(ran) in (1, 2, 4)
            await finish(session, row, outcome=Retried(failure(), delay=50.0) if retries else None)
            await look(session)
            assert [] == await wrong_with_gates(connection)
        assert [ids[0]] * 3 + [ids[1]] * 2 + [ids[2]] == ran


async def order_of(session: Session) -> list[str]:
    """The keys of all jobs that are ready, in the order in which a worker gets them."""
    return [row["gates"][0].partition("\n")[2] for row in await claim(session, 1_000)]


async def test_a_newcomer_does_not_wait_for_a_crowd(database: str) -> None:
    """Behind a thousand jobs of one key, those of two others come every third turn."""
    async with open_session(database) as session:
        await insert(session, *(limited("~fair:default\ncrowd") for _ in range(1_000)))
        await look(session)
        assert ["crowd"] * 20 == [row["gates"][0].partition("\n")[2] for row in await claim(session, 20)]
        await insert(session, *(limited(f"~fair:default\n{key}") for key in "aabb" * 5))
        await look(session)
        first = (await order_of(session))[:33]
        turns = Counter(first)
        assert (10, 10) == (turns["a"], turns["b"])


async def test_a_token_that_came_too_late_is_told(database: str) -> None:
    """A claim says by how much it has missed the time that the rate had given."""
    async with open_session(database) as session, connect(database) as connection:
        await declare_limit(session, "api", None, count=10, per=1.0)
        await insert(session, limited("~api"))
        await look(session)
        await connection.execute("update jobqueue.job set token_until = now() - interval '5 s'")
        assert -6 < (await claim_one(session))["token_left"] <= -5
