"""What the tests of bundles stand on: one with members, stored past the app, and what it has come to."""

from uuid import UUID

from uuid_utils.compat import uuid7

from jobqueue.base.flows.bundle import Bundle, Callback, NewBundle
from jobqueue.store.connection.session import Session
from jobqueue.store.flows import bundles
from jobqueue.store.intake import insert_all
from tests.support.jobs.store import claim, new_job, new_jobs

CALLBACKS = tuple(Callback(when, new_job(f"on_{when}")) for when in ("success", "failure", "finish"))


async def stored(session: Session, members: int, *callbacks: Callback, parent: UUID | None = None) -> UUID:
    """A closed bundle of so many jobs; its id."""
    new = NewBundle(uuid7(), "import", "shop", parent, callbacks)
    async with session.transaction():
        assert await bundles.insert_bundle(session, new)
        if members:
            await insert_all(session, new_jobs(members, bundle=new.id), always=False)
        assert await bundles.add_to_bundle(session, new.id, members, close=True)
    return new.id


async def fold(session: Session, *ids: UUID) -> list[bundles.Folded]:
    """Add up what there is of these."""
    return await bundles.fold_bundles(session, ids)


async def now(session: Session, id: UUID) -> Bundle:
    """The bundle as it stands."""
    found = await bundles.find_bundle(session, id)
    assert found is not None
    return found


def counts(bundle: Bundle) -> tuple[int, int, int, int]:
    """How many were added, are completed, cancelled, dead."""
    return bundle.added, bundle.completed, bundle.cancelled, bundle.dead


async def called(session: Session) -> list[str]:
    """Claim the callbacks that are ready; their tasks."""
    return sorted(row["task"] for row in await claim(session, 500) if row["follow"] & 4)
