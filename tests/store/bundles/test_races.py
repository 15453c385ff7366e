"""Bundles whose members end, are revived and added side by side: nothing is lost, nothing counted twice."""

import asyncio
import random

import pytest
from uuid_utils.compat import uuid7

from jobqueue.base.errors import BundleEnded
from jobqueue.base.flows.bundle import NewBundle
from jobqueue.base.job import Claimed
from jobqueue.base.outcome import Dead
from jobqueue.bundles.storing import Part, store_part
from jobqueue.store import steering
from jobqueue.store.claims import Claim
from jobqueue.store.connection.callers.on_asyncpg import OnAsyncpg
from jobqueue.store.connection.session import Session
from jobqueue.store.flows import bundles
from jobqueue.store.intake import insert_all
from tests.support.jobs.bundled import CALLBACKS, counts, now, stored
from tests.support.jobs.store import (
    WORKER,
    claim,
    connect,
    failure,
    finish,
    new_job,
    new_jobs,
    open_session,
    open_sessions,
)
from tests.support.rounds import rounds

HANDS, MEMBERS, ROUNDS = 6, rounds(20), rounds(50)


async def work(session: Session, chance: random.Random) -> None:
    """End what there is, now and then as dead; add a member while one runs; revive what is dead; add up."""
    while rows := await claim(session, 3):
        for row in rows:
            if not row["follow"] & 4 and chance.random() < 0.15 and row["bundle_id"] is not None:
                async with session.transaction():
                    await insert_all(session, [new_job(bundle=row["bundle_id"])], always=False)
                    by = Claimed(row["id"], row["fence"], WORKER)
                    assert await bundles.note_added(session, row["bundle_id"], 1, by)
            dead = chance.random() < 0.3
            outcome = Dead("attempts", failure()) if dead else None
            while not await finish(session, row, outcome=outcome):
                pass  # a claim of another hand has the row for a moment, and finds that it is not ready any more
            if dead and chance.random() < 0.7:
                await steering.retry(session, [row["id"]])
        await bundles.fold_bundles(session, [row["bundle_id"] for row in rows if row["bundle_id"] is not None])
        waiting = await session.fetch("waiting_facts", 50)
        await bundles.fold_bundles(session, [id for id, of_job in waiting if not of_job])


@pytest.mark.parametrize("seed", range(3))
async def test_counts_are_exact_whoever_does_what(database: str, seed: int) -> None:
    """An outer bundle of three inner ones, six hands: counts are what the archive has, each round calls back once."""
    async with open_sessions(database, HANDS) as hands:
        outer = await stored(hands[0], 1, *CALLBACKS)
        inner = [await stored(hands[0], MEMBERS, *CALLBACKS, parent=outer) for _ in range(3)]
        await asyncio.gather(*(work(hand, random.Random(seed * 100 + n)) for n, hand in enumerate(hands)))  # noqa: S311 - a reproducible soak
        async with connect(database) as connection:
            left = "select exists (select from jobqueue.fact) or exists (select from jobqueue.job)"
            while await connection.fetchval(left):
                await bundles.fold_bundles(hands[0], (await bundles.waiting_facts(hands[0], 50))[0])
                await work(hands[0], random.Random(seed))  # noqa: S311 - a reproducible soak
            for id in [*inner, outer]:
                bundle = await now(hands[0], id)
                rows = await connection.fetch(
                    "select state, count(*) from jobqueue.job_archive where bundle_id = $1 and follow & 4 = 0"
                    " group by state",
                    id,
                )
                ended = {str(state): int(jobs) for state, jobs in rows}
                if id == outer:
                    for each in inner:
                        state = "dead" if (await now(hands[0], each)).dead else "completed"
                        ended[state] = ended.get(state, 0) + 1
                called = await connection.fetchval(
                    "select count(*) from jobqueue.job_archive where bundle_id = $1 and task = 'on_finish'", id
                )
                expected = sum(ended.values()), ended.get("completed", 0), 0, ended.get("dead", 0)
                assert expected == counts(bundle)
                assert (True, bundle.round) == (bundle.finished, called)


async def test_an_open_transaction_that_ends_a_member_holds_up_nobody(database: str) -> None:
    """While a caller's transaction has cancelled one member and stays open, others end and are added up."""
    async with open_session(database) as session, connect(database) as caller:
        id = await stored(session, 3)
        others = await claim(session, 2)
        waiting = await caller.fetchval("select id from jobqueue.job where state = 'ready'")
        async with caller.transaction():
            await steering.cancel(OnAsyncpg(caller, "jobqueue"), [waiting])
            assert {row["id"] for row in others} == await finish(session, *others)
            assert [1] == [one.pending for one in await bundles.fold_bundles(session, [id])]
        assert [True] == [one.finished for one in await bundles.fold_bundles(session, [id])]
        assert (3, 2, 1, 0) == counts(await now(session, id))


async def test_an_addition_in_the_moment_of_the_end_is_waited_for_or_refused(database: str) -> None:
    """A block adds from outside while the last member ends: the bundle waits for what came in, or nothing is stored."""
    async with open_sessions(database, 2) as (ours, theirs):
        for _ in range(ROUNDS):
            new = NewBundle(uuid7(), "import")
            await store_part(ours, Part(new, new_jobs(1), first=True, last=False), always=False)
            await bundles.add_to_bundle(ours, new.id, 0, close=True)
            (row,) = await claim(ours)
            more = Part(new, new_jobs(1), first=False, last=False)

            async def end(row: Claim = row) -> None:
                await finish(ours, row)
                await bundles.fold_bundles(ours, [row["bundle_id"]])

            _, error = await asyncio.gather(end(), store_part(theirs, more, always=False), return_exceptions=True)
            left = await claim(ours)
            assert isinstance(error, BundleEnded) is not bool(left)
            assert (await now(ours, new.id)).finished is not bool(left)
            await finish(ours, *left)
            await bundles.fold_bundles(ours, [new.id])
            found = await now(ours, new.id)
            assert ((1 + len(left), 1 + len(left), 0, 0), True) == (counts(found), found.finished)
