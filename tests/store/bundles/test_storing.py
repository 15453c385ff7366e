"""A part of a bundle that is sent again, because the answer was lost, is stored once."""

import pytest
from uuid_utils.compat import uuid7

from jobqueue.base.errors import BundleEnded
from jobqueue.base.flows.bundle import NewBundle
from jobqueue.base.job import Claimed, WorkerId
from jobqueue.bundles.storing import KnownBundle, Part, store_part
from jobqueue.store.connection.session import Session
from jobqueue.store.flows import bundles
from tests.support.jobs.bundled import counts, fold, now
from tests.support.jobs.store import WORKER, claim, finish, new_job, new_jobs, open_session


def whole(*, again: bool = False) -> Part:
    """A bundle of two jobs in one part."""
    return Part(NewBundle(uuid7(), "import"), new_jobs(2, resent=again), first=True, last=True, again=again)


async def run(session: Session, part: Part) -> None:
    await finish(session, *await claim(session))
    await fold(session, part.bundle.id)


async def test_a_part_that_is_over_when_it_is_sent_again_was_stored(database: str) -> None:
    """Its jobs have run before the second try comes: that is no error, and nothing is stored anew."""
    async with open_session(database) as session:
        part = whole(again=True)
        await store_part(session, part, always=False)
        await run(session, part)
        assert (await now(session, part.bundle.id)).finished
        sent = await store_part(session, part, always=False)
        assert [job.id for job in part.jobs] == [one.id for one in sent]
        assert (2, 2, 0, 0) == counts(await now(session, part.bundle.id))


async def test_who_has_lost_the_claim_adds_nothing(database: str) -> None:
    """Protocols A3: after an asynchronous failover two workers may have one fence: the worker tells them apart."""
    async with open_session(database) as session:
        part = whole()
        await store_part(session, part, always=False)
        row, _ = await claim(session)
        for worker, adds in ((WORKER, True), (WorkerId(uuid7()), False)):
            by = Claimed(row["id"], row["fence"], worker)
            assert adds is await bundles.note_added(session, part.bundle.id, 1, by)


async def test_a_second_try_adds_nothing_to_the_bundle_of_another(database: str) -> None:
    """The first try was lost before it came to anything, and somebody else has stored a bundle of this id."""
    async with open_session(database) as session:
        theirs, ours = whole(), whole(again=True)
        await store_part(session, theirs, always=False)
        with pytest.raises(KnownBundle):
            await store_part(session, Part(theirs.bundle, ours.jobs, first=True, last=True, again=True), always=False)
        assert (2, 0, 0, 0) == counts(await now(session, theirs.bundle.id))
        assert 2 == len(await claim(session))


async def test_a_job_that_is_given_twice_is_one_member(database: str) -> None:
    """Two jobs under one id of the caller's are one job: the bundle does not wait for a second."""
    async with open_session(database) as session:
        job = new_job()
        part = Part(NewBundle(uuid7(), "import"), [job, job], first=True, last=True)
        await store_part(session, part, always=False)
        await run(session, part)
        found = await now(session, part.bundle.id)
        assert ((1, 1, 0, 0), True) == (counts(found), found.finished)


async def test_nothing_is_added_to_what_is_asked_to_end(database: str) -> None:
    """Whoever cancels cancels the members that are there: what came later would run. Nor is a bundle put into it."""
    async with open_session(database) as session:
        new = NewBundle(uuid7(), "import")
        await store_part(session, Part(new, new_jobs(1), first=True, last=False), always=False)
        await bundles.ask_to_end(session, new.id)
        with pytest.raises(BundleEnded):
            await store_part(session, Part(new, new_jobs(1), first=False, last=True), always=False)
        inner = Part(NewBundle(uuid7(), "inner", parent_id=new.id), new_jobs(1), first=True, last=True)
        with pytest.raises(BundleEnded):
            await store_part(session, inner, always=False)
        await store_part(session, Part(new, [], first=False, last=True), always=False)
        assert 1 == (await now(session, new.id)).added
