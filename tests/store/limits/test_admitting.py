"""Jobs pass the gates of their limits: as many as there are places, the best first, and never more."""

import pytest

from jobqueue.base.outcome import Cancelled, Dead, LinedUp, Outcome, PutAside, Released, Retried, Snoozed
from jobqueue.store import claims
from jobqueue.store.flows import limits
from tests.support.jobs.gates import declare_limit, in_line, limited, look, states, wrong_with_gates
from tests.support.jobs.store import claim, claim_one, connect, failure, finish, insert, open_session


async def test_as_many_go_as_there_are_places(database: str) -> None:
    """Of five jobs of a limit of two, two may be claimed, in their order; each that ends lets the next one go."""
    async with open_session(database) as session, connect(database) as connection:
        await declare_limit(session, "smtp", 2)
        ids = await insert(session, *(limited("smtp") for _ in range(5)))
        assert [("blocked", 0, "smtp")] * 5 == await states(connection, ids)
        assert 2 == (await look(session)).ready
        first, second = await claim(session)
        assert ids[:2] == [first["id"], second["id"]]
        assert ["smtp"] == first["gates"]
        assert 0 == (await look(session)).ready

        await finish(session, first)
        assert 1 == (await look(session)).ready
        assert ids[2] == (await claim_one(session))["id"]
        assert [] == await wrong_with_gates(connection)


async def test_keys_have_lines_of_their_own(database: str) -> None:
    """A limit with keys lets one go of each key, through the gate of the key and then that of all."""
    async with open_session(database) as session, connect(database) as connection:
        await declare_limit(session, "tenant", 1)
        await declare_limit(session, "all", 2)
        jobs = [limited(f"tenant\n{key}", "all") for key in "aabbcc"]
        ids = await insert(session, *jobs)
        await look(session)
        assert ids[0::2][:2] == [row["id"] for row in await claim(session)]
        assert [ids[4]] == await in_line(connection, "all")
        assert [ids[1]] == await in_line(connection, "tenant\na")
        assert [] == await wrong_with_gates(connection)


@pytest.mark.parametrize(
    ("outcome", "kept"),
    [
        (Retried(failure(), delay=0.0), False),
        (Snoozed(delay=0.0), False),
        (PutAside("payload"), False),
        (Released(), True),
        (LinedUp(("other",)), False),
        (LinedUp(()), False),
        (Cancelled(), False),
        (Dead("fatal"), False),
    ],
    ids=str,
)
async def test_who_comes_back_gives_up_his_place(database: str, outcome: Outcome, kept: bool) -> None:
    """Whatever ends an attempt frees its place at once, but for a release, which keeps it."""
    async with open_session(database) as session, connect(database) as connection:
        await declare_limit(session, "smtp", 1)
        await declare_limit(session, "other", 1)
        _, second = await insert(session, limited("smtp"), limited("smtp"))
        await look(session)
        await finish(session, await claim_one(session), outcome=outcome)
        await look(session)
        assert ("blocked" if kept else "ready") == (await states(connection, [second]))[0][0]
        assert [] == await wrong_with_gates(connection)


async def test_who_is_due_later_lines_up_then(database: str) -> None:
    """A delayed job stands in no line before its time."""
    async with open_session(database) as session, connect(database) as connection:
        await declare_limit(session, "smtp", 1)
        (id,) = await insert(session, limited("smtp", delay=100.0))
        assert [("scheduled", 0, None)] == await states(connection, [id])
        await connection.execute("update jobqueue.job set due_at = now()")
        assert 1 == (await claims.promote_due(session, 10)).jobs
        assert [("blocked", 0, "smtp")] == await states(connection, [id])
        await look(session)
        assert [("ready", 1, None)] == await states(connection, [id])


async def test_nobody_passes_a_limit_that_was_never_declared(database: str) -> None:
    """Jobs of a limit that no worker has declared wait for that."""
    async with open_session(database) as session:
        await insert(session, limited("smtp"))
        assert 0 == (await look(session)).ready
        await declare_limit(session, "smtp", 1)
        assert 1 == (await look(session)).ready


async def test_a_limit_is_changed_live(database: str) -> None:
    """A higher limit lets the next ones go at once, a lower one nobody until enough have ended; a reset undoes both."""
    async with open_session(database) as session, connect(database) as connection:
        await declare_limit(session, "smtp", 1)
        await insert(session, *(limited("smtp") for _ in range(6)))
        await look(session)
        assert await limits.change(session, "smtp", {"concurrency": 3})
        assert 2 == (await look(session)).ready
        rows = await claim(session)
        assert await limits.reset(session, "smtp")
        assert 0 == (await look(session)).ready
        await finish(session, *rows[:2])
        assert 0 == (await look(session)).ready
        await finish(session, rows[2])
        assert 1 == (await look(session)).ready
        assert [] == await wrong_with_gates(connection)
        assert not await limits.change(session, "nobody's", {"concurrency": 3})


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_limit_of_another_kind_is_as_declared(database: str, ordered: bool) -> None:
    """What was changed by hand ends with the kind of limit that it was changed for: a strict order is strict."""
    async with open_session(database) as session:
        await declare_limit(session, "smtp", 5)
        assert await limits.change(session, "smtp", {"concurrency": 3})
        await declare_limit(session, "smtp", 1, ordered=ordered)
        (state,) = await limits.read_limits(session)
        assert ({} if ordered else {"concurrency": 3}) == state.changed
        assert ordered == (state.changed_at is None)
