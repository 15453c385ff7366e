"""Gates while everybody does everything at once: never over the limit, never a place lost, nobody waits for another."""

import asyncio
import random
from uuid import UUID

import asyncpg
import pytest

from jobqueue.base.outcome import Cancelled, LinedUp, Outcome, Released, Retried
from jobqueue.base.steering import Action
from jobqueue.store import claims, intake, steering
from jobqueue.store.connection.callers.on_asyncpg import OnAsyncpg
from jobqueue.store.connection.session import Session
from jobqueue.store.flows import limits
from jobqueue.store.flows.limits import admit, forget_gates, note_lines
from jobqueue.store.outcomes import finish_waiting
from tests.support.jobs.gates import declare_limit, limited, look, states, wrong_with_gates
from tests.support.jobs.store import (
    Connection,
    claim,
    claim_one,
    connect,
    ended,
    failure,
    finish,
    insert,
    open_session,
    open_sessions,
    write,
)
from tests.support.patience import PATIENCE
from tests.support.rounds import rounds

HANDS, STEPS = 5, rounds(60)
GATES = [("key\na", "all"), ("key\nb", "all"), ("all",), ("order\nx", "all"), ("key\na", "~api"), ("~fair:default\na",)]


async def declare_all(session: Session) -> None:
    await declare_limit(session, "key", 2)
    await declare_limit(session, "order", 1, ordered=True)
    await declare_limit(session, "all", 4)
    await declare_limit(session, "api", None, count=200, per=1.0)


def outcome(chance: random.Random, gates: list[str]) -> Outcome | None:
    """How an attempt ends: completed for the most."""
    again = [Retried(failure(), delay=delay) for delay in (0.0, 0.01)]
    return chance.choice([*again, Released(), Cancelled(), LinedUp(tuple(gates)), LinedUp(("all",)), None, None, None])


async def any_id(session: Session, chance: random.Random) -> list[UUID]:
    rows = await session.fetch(
        "find_unfinished", UUID(int=0), 50, 50, ["blocked", "ready", "scheduled"], None, None, None
    )
    ids = [row["id"] for row in rows if row["id"] is not None]
    return [chance.choice(ids)] if ids else []


async def step(session: Session, connection: Connection, chance: random.Random) -> None:
    """Do one thing that somebody may do to jobs with gates."""
    match chance.randrange(12):
        case 0 | 1 | 2:
            await insert(session, *(limited(*chance.choice(GATES)) for _ in range(chance.randrange(1, 4))))
        case 3 | 4 | 5:
            rows = await claim(session, chance.randrange(1, 6))
            await write(session, [ended(row, outcome(chance, row["gates"] or [])) for row in rows])
        case 6:
            await steering.cancel(session, await any_id(session, chance))
        case 7:
            await steering.change(
                session, Action.RESCHEDULE, await any_id(session, chance), delay=chance.choice([0.0, 0.01])
            )
        case 8:
            some = await any_id(session, chance)
            with_savepoint = connection.transaction()
            await with_savepoint.start()
            await connection.execute("delete from jobqueue.job where id = any($1) and fence = 0", some)
            await (with_savepoint.rollback() if chance.random() < 0.5 else with_savepoint.commit())
        case 9:
            await claims.promote_due(session, 10)
        case 10:
            await forget_gates(session, "", 1_000, 0.0)
        case _:
            await note_lines(session, "", 1_000)
    await admit(session, chance.choice([1, 5, 1_000]), 0.3)


@pytest.mark.parametrize("seed", range(3))
async def test_the_books_are_right_whoever_does_what(database: str, seed: int) -> None:
    """Five hands do at random all that is done to jobs: in no snapshot is a place miscounted, or one too many held."""
    over = asyncio.Event()

    async def watch(connection: Connection) -> int:
        looks = 0
        while not over.is_set():
            assert [] == await wrong_with_gates(connection)
            looks += 1
        return looks

    async with open_sessions(database, HANDS) as hands, connect(database) as watcher:
        await declare_all(hands[0])
        watching = asyncio.create_task(watch(watcher))
        async with asyncio.timeout(PATIENCE):
            chances = [random.Random(seed * 100 + n) for n in range(HANDS)]  # noqa: S311 - a reproducible soak
            await asyncio.gather(*(work(database, *one) for one in zip(hands, chances, strict=True)))
        over.set()
        assert await watching > 0
        await run_all(hands[0], watcher)
        assert [] == await wrong_with_gates(watcher)
        assert 0 == await watcher.fetchval("select count(*) from jobqueue.gate where held > 0")


async def work(database: str, session: Session, chance: random.Random) -> None:
    """Do one thing after the other."""
    async with connect(database) as connection:
        for _ in range(STEPS):
            await step(session, connection, chance)


async def run_all(session: Session, connection: Connection) -> None:
    """Run what is left: nobody may be stuck."""
    async with asyncio.timeout(PATIENCE):
        while await connection.fetchval("select exists (select from jobqueue.job)"):
            await connection.execute("update jobqueue.job set due_at = now() where state = 'scheduled'")
            await claims.promote_due(session, 500)
            await admit(session, 1_000, 0.3)
            await claim(session, 100)
            # also what a hand could not write, since another had its row for a moment: a worker tries again
            await finish(session, *(await connection.fetch("select * from jobqueue.job where state = 'running'")))
    await look(session)


@pytest.mark.parametrize("first", ["who comes", "who goes"])
async def test_who_comes_while_the_last_one_goes(database: str, first: str) -> None:
    """A job that is inserted while the last holder ends goes as well, whichever commit the looks between see first."""
    async with open_sessions(database, 2) as (going, session), connect(database) as caller:
        await declare_limit(session, "smtp", 1)
        await insert(session, limited("smtp"))
        await look(session)
        row = await claim_one(session)
        coming, ending = caller.transaction(), going.transaction()
        await coming.start()
        await intake.insert_all(OnAsyncpg(caller, "jobqueue"), [limited("smtp")], always=True)
        async with ending:
            await finish(going, row)
            assert 0 == (await look(session)).ready
            if first == "who comes":
                await coming.commit()
                assert 0 == (await look(session)).ready
        if first == "who goes":
            assert 0 == (await look(session)).ready
            await coming.commit()
        assert 1 == (await look(session)).ready


async def test_who_comes_after_a_look_has_begun(database: str) -> None:
    """A job whose own time lies after the moment of the look that finds it is ready at once: only rates put it off."""
    async with open_session(database) as session, connect(database) as connection:
        await declare_limit(session, "smtp", 1)
        (id,) = await insert(session, limited("smtp"))
        await connection.execute("update jobqueue.job set due_at = now() + interval '1 minute'")
        assert 1 == (await look(session)).ready
        assert [("ready", 1, None)] == await states(connection, [id])


@pytest.mark.parametrize("how", ["declared", "changed"])
async def test_who_comes_while_a_limit_is_changed(database: str, how: str) -> None:
    """A job that was told by the old limit, since the new one was not committed yet, goes when it is."""
    async with open_sessions(database, 2) as (other, session), connect(database) as connection:
        if how == "changed":
            await declare_limit(session, "smtp", 1)
            await limits.change(session, "smtp", {"concurrency": 0})
        async with other.transaction():
            if how == "changed":
                await limits.reset(other, "smtp")
            else:
                await declare_limit(other, "smtp", 1)
            ids = await insert(session, limited("smtp\na"))
            assert 0 == (await look(session)).ready
        assert 1 == (await look(session)).ready
        assert [("ready", 1, None)] == await states(connection, ids)


async def test_a_gate_is_not_removed_under_who_goes_through(database: str) -> None:
    """A gate that was idle for long stays if a look lets somebody through it that has not committed yet."""
    async with open_sessions(database, 2) as (holder, session), connect(database) as connection:
        await declare_limit(session, "smtp", 1)
        await connection.execute("insert into jobqueue.gate (name, \"limit\") values ('smtp', 'smtp')")
        await insert(session, limited("smtp"))
        async with holder.transaction(), asyncio.timeout(PATIENCE):
            assert 1 == (await admit(holder, 1_000, 0.3)).ready
            await forget_gates(session, "", 1_000, 0.0)
        assert [] == await wrong_with_gates(connection)


async def test_what_is_not_committed_is_counted(database: str) -> None:
    """Two have let go by somebody who has not committed yet: nobody else lets two more go at the same gate."""
    async with open_sessions(database, 2) as (holder, session), connect(database) as connection:
        await declare_limit(session, "smtp", 2)
        await connection.execute("insert into jobqueue.gate (name, \"limit\") values ('smtp', 'smtp')")
        await insert(session, *(limited("smtp") for _ in range(5)))
        async with holder.transaction(), asyncio.timeout(PATIENCE):
            assert 2 == (await admit(holder, 1_000, 0.3)).ready
            done = await admit(session, 1_000, 0.3)
            assert (0, True) == (done.ready, done.busy)
        await look(session)
        assert [] == await wrong_with_gates(connection)


async def test_a_gate_that_another_holds_is_left_to_it(database: str) -> None:
    """While somebody has a gate the others let go at other gates, and are told that one was busy."""
    async with open_sessions(database, 2) as (holder, session), connect(database) as connection:
        await declare_limit(session, "smtp", 1)
        await insert(session, limited("smtp\na"), limited("smtp\nb"))
        await connection.execute("insert into jobqueue.gate (name, \"limit\") values (E'smtp\\na', 'smtp')")
        async with holder.transaction():
            await holder.fetch("lock_gates", "smtp")
            async with asyncio.timeout(PATIENCE):
                done = await admit(session, 1_000, 0.3)
            assert (1, True) == (done.ready, done.busy)
        assert 1 == (await look(session)).ready


async def test_a_stale_worker_changes_nothing(database: str) -> None:
    """Whoever finishes after a rescue gives up no place that is another's by now."""
    async with open_session(database) as session, connect(database) as connection:
        await declare_limit(session, "smtp", 1)
        await insert(session, limited("smtp"), limited("smtp"))
        await look(session)
        stale = await claim_one(session)
        await connection.execute("update jobqueue.job set fence = fence + 1000 where fence > 0")
        assert set() == await finish(session, stale)
        assert 0 == (await look(session)).ready
        assert [] == await wrong_with_gates(connection)


@pytest.mark.parametrize("what", ["inserts", "cancels", "deletes"])
async def test_an_open_transaction_of_a_caller_holds_up_nobody(database: str, what: str) -> None:
    """Whatever a caller does in a transaction that stays open, others of the same gate come, run and end beside it."""
    async with open_session(database) as session, connect(database) as caller, connect(database) as connection:
        await declare_limit(session, "smtp", 1)
        await insert(session, *(limited("smtp") for _ in range(3)))
        await look(session)
        (second,) = await connection.fetch("select id from jobqueue.job where state = 'blocked' order by seq limit 1")
        async with asyncio.timeout(PATIENCE), caller.transaction():
            executor = OnAsyncpg(caller, "jobqueue")
            if what == "inserts":
                await intake.insert_all(executor, [limited("smtp")], always=True)
            elif what == "cancels":
                await finish_waiting(executor, [second["id"]], Cancelled("requested"))
            else:
                await caller.execute("delete from jobqueue.job where id = $1", second["id"])
            for _ in range(2):
                await insert(session, limited("smtp"))
                await finish(session, await claim_one(session))
                assert 1 == (await look(session)).ready
        await run_all(session, connection)
        assert [] == await wrong_with_gates(connection)


async def test_a_row_that_was_locked_is_looked_at_again(database: str) -> None:
    """Who was locked when it was his turn goes a second later, though whoever had him rolls back and says nothing."""
    async with open_session(database) as session, connect(database) as caller, connect(database) as connection:
        await declare_limit(session, "smtp", 1)
        (id,) = await insert(session, limited("smtp"))
        async with caller.transaction():
            await caller.execute("select from jobqueue.job for update")
            done = await admit(session, 1_000, 0.3)
            assert done.ready == 0 and done.next_in is not None and 0 < done.next_in <= 1
        await connection.execute("update jobqueue.gate_note set due_at = now()")
        assert 1 == (await look(session)).ready
        assert [("ready", 1, None)] == await states(connection, [id])


async def test_a_lost_claim_keeps_its_place_and_a_crash_gives_it_up(database: str) -> None:
    """What is rescued of a worker that did not answer stays admitted; what was taken back from a dead one lines up."""
    async with open_session(database) as session, connect(database) as connection:
        await declare_limit(session, "smtp", 2)
        ids = await insert(session, *(limited("smtp") for _ in range(3)))
        await look(session)
        lost, crashed = await claim(session)
        await write(session, [ended(lost, Released(lost=True)), ended(crashed, Retried(failure(), delay=0.0))])
        assert ["ready", "blocked", "blocked"] == [state for state, _, _ in await states(connection, ids)]
        assert [] == await wrong_with_gates(connection)


async def test_nobody_without_rights_can_skip_the_books(database: str) -> None:
    """Triggers note for whoever changes a job, also for one that may do nothing with gates."""
    async with open_session(database) as session, connect(database) as connection:
        await declare_limit(session, "smtp", 1)
        role = f"caller_{UUID(int=random.getrandbits(128)).hex[:12]}"
        await connection.execute(f"create role {role}")
        try:
            await connection.execute(f"grant usage on schema jobqueue to {role}")
            await connection.execute(f"grant insert, select, delete on jobqueue.job to {role}")
            await connection.execute(f"grant usage on all sequences in schema jobqueue to {role}")
            await connection.execute(f"set role {role}")
            await connection.execute(
                "insert into jobqueue.job (task, state, gates, gate, via)"
                " values ('t', 'blocked', '{smtp}', 'smtp', 'x')"
            )
            await connection.execute("reset role")
            assert 1 == (await look(session)).ready
            await connection.execute(f"set role {role}")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute("select from jobqueue.gate")
            await connection.execute("delete from jobqueue.job")
        finally:
            await connection.execute("reset role")
            await connection.execute(f"drop owned by {role}; drop role {role}")
        assert [] == await wrong_with_gates(connection)
