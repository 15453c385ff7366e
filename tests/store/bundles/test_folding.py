"""What becomes of the members of a bundle is added up, exactly and once."""

import asyncio

from jobqueue.base.outcome import Dead, Retried
from jobqueue.store import steering
from jobqueue.store.claims import Claim
from jobqueue.store.connection.session import Session
from jobqueue.store.flows import bundles
from tests.support.jobs.bundled import CALLBACKS, called, counts, fold, now, stored
from tests.support.jobs.store import claim, ended, failure, finish, open_session, open_sessions, write

PAIRS = 100


async def test_a_bundle_ends_with_its_last_member(database: str) -> None:
    """S4-83: it is unfinished until the last member has ended; then each callback that fits is stored, once."""
    async with open_session(database) as session:
        id = await stored(session, 3, *CALLBACKS)
        rows = await claim(session)
        await finish(session, *rows[:2])
        assert [(1, False)] == [(one.pending, one.finished) for one in await fold(session, id)]
        assert not (await now(session, id)).finished
        await finish(session, rows[2])
        assert 1.0 == (await now(session, id)).fraction, "what is not added up yet is told as well"
        assert [True] == [one.finished for one in await fold(session, id)]
        assert [False] == [one.finished for one in await fold(session, id)]

        bundle = await now(session, id)
        assert ((3, 3, 0, 0), 1, True, False) == (counts(bundle), bundle.round, bundle.finished, bundle.has_errors)
        assert ["on_finish", "on_success"] == await called(session)


async def test_a_bundle_with_a_dead_member_has_failed(database: str) -> None:
    """S4-83, S4-89: one member that is dead is enough; the error goes away with its successful retry."""
    async with open_session(database) as session:
        id = await stored(session, 2, *CALLBACKS)
        good, bad = await claim(session)
        await finish(session, good)
        await finish(session, bad, outcome=Dead("attempts", failure()))
        await fold(session, id)
        assert (await now(session, id)).has_errors
        assert ["on_failure", "on_finish"] == await called(session)

        await steering.retry(session, [bad["id"]])
        assert not (await now(session, id)).finished, "whoever waits for its end now waits for the next one"
        assert [1] == [one.pending for one in await fold(session, id)]
        again = await now(session, id)
        assert ((2, 1, 0, 0), 1, False) == (counts(again), again.round, again.finished)
        await finish(session, *await claim(session))
        await fold(session, id)
        last = await now(session, id)
        assert ((2, 2, 0, 0), 2, True, False) == (counts(last), last.round, last.finished, last.has_errors)
        assert ["on_finish", "on_success"] == await called(session)


async def test_a_retry_and_its_end_in_one_fold_are_a_round(database: str) -> None:
    """S4-84: whether or not somebody looked in between, a retried member makes its bundle end once more."""
    async with open_session(database) as session:
        id = await stored(session, 1, *CALLBACKS)
        (row,) = await claim(session)
        await finish(session, row, outcome=Dead("attempts", failure()))
        await fold(session, id)
        await called(session)
        await steering.retry(session, [row["id"]])
        await finish(session, *await claim(session))
        await fold(session, id)

        bundle = await now(session, id)
        assert ((1, 1, 0, 0), 2, True) == (counts(bundle), bundle.round, bundle.finished)
        assert ["on_finish", "on_success"] == await called(session)


async def test_a_round_of_an_inner_bundle_is_one_of_the_outer(database: str) -> None:
    """The same when the inner one ends as it had before: the outer one hears that it was unfinished in between."""
    async with open_session(database) as session:
        outer = await stored(session, 1)
        inner = await stored(session, 1, parent=outer)
        rows = await claim(session)
        await finish(session, *rows)
        await fold(session, inner)
        await fold(session, outer)
        await steering.retry(session, [row["id"] for row in rows if row["bundle_id"] == inner])
        await finish(session, *await claim(session))
        await fold(session, inner)
        await fold(session, outer)

        found = await now(session, outer)
        assert ((2, 2, 0, 0), 2, True) == (counts(found), found.round, found.finished)


async def test_an_inner_bundle_that_is_deleted_counts_as_cancelled(database: str) -> None:
    """Before its end, as any member; what is deleted afterwards stays what it was."""
    async with open_session(database) as session:
        outer = await stored(session, 0)  # not folded before all is in
        done, doomed = [await stored(session, 1, parent=outer) for _ in range(2)]
        for row in await claim(session):
            if row["bundle_id"] == done:
                await finish(session, row)
            else:
                await finish(session, row, outcome=Retried(failure()))
                await steering.delete(session, [row["id"]])
        await fold(session, done)
        assert await bundles.delete_bundle(session, done)
        assert await bundles.delete_bundle(session, doomed)
        await fold(session, outer)

        found = await now(session, outer)
        assert ((2, 1, 1, 0), True) == (counts(found), found.finished)


async def test_an_end_told_twice_counts_once(database: str) -> None:
    """S4-86: a second try of the same finish changes nothing."""
    async with open_session(database) as session:
        id = await stored(session, 2)
        row, _ = await claim(session)
        for _ in range(2):
            await write(session, [ended(row)])
        await fold(session, id)

        assert (2, 1, 0, 0) == counts(await now(session, id))


async def test_members_that_end_together_are_noticed(database: str) -> None:
    """The last two end in two transactions at the same moment, each with a fold behind it: one of the folds ends it.

    Or it has left its fact, for the sweep, because the other had the bundle locked.
    """
    async with open_sessions(database, 2) as pair:
        ids = [await stored(pair[0], 2, *CALLBACKS[2:]) for _ in range(PAIRS)]
        rows = {id: list[Claim]() for id in ids}
        for row in await claim(pair[0], 2 * PAIRS):
            rows[row["bundle_id"]].append(row)
        for id in ids:
            await asyncio.gather(*(end(session, row) for session, row in zip(pair, rows[id], strict=True)))
        left, _ = await bundles.waiting_facts(pair[0], PAIRS)
        unnoticed = [id for id in ids if id not in left and not (await now(pair[0], id)).finished]
        await fold(pair[0], *left)

        assert [] == unnoticed
        assert PAIRS == len(await called(pair[0]))


async def end(session: Session, row: Claim) -> None:
    """Finish, then add up, as a worker does."""
    await finish(session, row)
    await fold(session, row["bundle_id"])
