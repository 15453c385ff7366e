"""Bundles: stored, added to, added up. See `schema/README.md`."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from jobqueue.base.flows.bundle import Bundle, Callback, NewBundle
from jobqueue.base.job import Claimed
from jobqueue.store.connection.executor import Executor, Reader, named
from jobqueue.store.dated import fetch_dated
from jobqueue.store.looking.listing import JobPage, Wanted
from jobqueue.store.looking.lookup import as_uuid, job_of

_HIGHEST = UUID(int=2**128 - 1)
_NODES = 2_000


@dataclass(frozen=True, slots=True)
class Folded:
    """What one bundle has come to."""

    id: UUID
    pending: int
    finished: bool
    """It has ended just now."""
    parent: UUID | None
    """The bundle for which that is news."""


async def insert_bundle(executor: Executor, bundle: NewBundle) -> bool | None:
    """Store one, open and without members. False if its id is known; None if its parent has ended."""
    callbacks = orjson.dumps([_document(callback) for callback in bundle.callbacks]).decode()
    rows = await executor.fetch("insert_bundle", bundle.id, bundle.name, bundle.origin, bundle.parent_id, callbacks)
    if not rows:
        return False
    return True if rows[0][1] else None


async def add_to_bundle(executor: Executor, id: UUID, added: int, *, close: bool) -> bool:
    """Raise the number of its members, or close it; False if it has ended, or shall. Locks its row."""
    return bool(await executor.fetch("add_to_bundle", id, added, close))


async def note_added(executor: Executor, id: UUID, added: int, by: Claimed) -> bool:
    """The same for a job of its own that runs; False if that has lost its claim. Locks nothing that others wait for."""
    return bool(await executor.fetch("note_added", id, added, *by))


async def touch_bundle(executor: Executor, id: UUID) -> None:
    """Have it added up, by whatever worker comes first."""
    await executor.fetch("touch_bundle", id)


async def waiting_facts(reader: Reader, room: int) -> tuple[list[UUID], list[UUID]]:
    """Some bundles that have something to add up, and some jobs that others wait for, of which there is news."""
    rows = await reader.fetch("waiting_facts", room)
    return [as_uuid(id) for id, of_job in rows if not of_job], [as_uuid(id) for id, of_job in rows if of_job]


async def fold_bundles(reader: Reader, ids: Iterable[UUID]) -> list[Folded]:
    """Add up what is noted of these, and end those that are over; what others have locked is left out."""
    rows = await fetch_dated(reader, "fold_bundles", sorted(set(ids)))  # twice would call back twice
    return [Folded(row["id"], row["pending"], row["finished"], row["parent_id"]) for row in rows]


async def heal_bundles(reader: Reader, room: int) -> list[UUID]:
    """Note of some bundles that their last members are gone, which nobody has noted."""
    return [as_uuid(row[0]) for row in await reader.fetch("heal_bundles", room)]


async def find_bundle(reader: Reader, id: UUID) -> Bundle | None:
    """The bundle as it stands now."""
    rows = await reader.fetch("find_bundle", id)
    return _bundle(named("find_bundle", rows[0])) if rows else None


async def list_bundles(reader: Reader, before: UUID, room: int, *, unfinished: bool, name: str | None) -> list[Bundle]:
    """Some, the newest first."""
    rows = await reader.fetch("list_bundles", before, room, unfinished, name)
    return [_bundle(named("list_bundles", row)) for row in rows]


async def find_by_part(reader: Reader, part: str) -> list[UUID]:
    """Ids of at most two bundles that begin or end like this, of the newest ones."""
    return [as_uuid(row[0]) for row in await reader.fetch("bundles_by_part", part)]


async def list_members(
    reader: Reader, id: UUID, wanted: Wanted, after: UUID | None, limit: int, *, payload: bool
) -> JobPage:
    """Members and callbacks that are wanted, as `list_jobs` gives a page of all jobs."""
    values = (id, sorted(wanted.states), after or _HIGHEST, limit, payload, *wanted.names, wanted.document)
    rows = await reader.fetch("bundle_members", *values)
    page = JobPage(job_of(named("bundle_members", row)) for row in rows)
    page.searched = len(page)
    return page.ends(page[-1].id) if len(page) == limit else page


async def find_members(reader: Reader, id: UUID, wanted: Wanted, room: int) -> AsyncIterator[list[UUID]]:
    """The ids of all of them, a page at a time."""
    after: UUID | None = _HIGHEST
    while after is not None:
        page = await list_members(reader, id, wanted, after, room, payload=False)
        after = page.next
        if page:
            yield [job.id for job in page]


async def results_of(reader: Reader, id: UUID, task: str, after: UUID, room: int) -> list[tuple[UUID, str]]:
    """What completed members of this task have given, as JSON, by the order of their ids."""
    return [(as_uuid(row[0]), row[1]) for row in await reader.fetch("bundle_results", id, task, after, room)]


async def children_of(reader: Reader, id: UUID) -> list[UUID]:
    """The bundles that are members of this one."""
    return [as_uuid(row[0]) for row in await reader.fetch("child_bundles", id)]


async def ask_to_end(reader: Reader, id: UUID) -> bool:
    """Nothing is added any more from outside; False if it has ended."""
    return bool(await reader.fetch("ask_bundle_to_end", id))


async def mute(reader: Reader, id: UUID) -> None:
    """Whatever ends it from now on, it calls nobody back."""
    await reader.fetch("mute_bundle", id)


async def delete_bundle(reader: Reader, id: UUID) -> bool:
    """Remove one that has no members and no bundles left, and what it kept of its members; False if it has."""
    if await children_of(reader, id):
        return False
    await _delete_nodes(reader, [id])
    gone = bool(await reader.fetch("delete_bundle", id))
    if gone:
        await _delete_nodes(reader, [id])  # what a sweep kept meanwhile; it keeps nothing for a bundle that is gone
    return gone


async def forget_bundles(reader: Reader, age: float, room: int) -> int:
    """Remove some that ended so many seconds ago, and what they kept; how many."""
    old = [row[0] for row in await reader.fetch("old_bundles", age, room)]
    await _delete_nodes(reader, old)
    gone = [row[0] for row in await reader.fetch("forget_bundles", old, age)]
    await _delete_nodes(reader, gone)  # as above
    return len(gone)


async def _delete_nodes(reader: Reader, bundles: list[UUID]) -> None:
    while bundles and len(await reader.fetch("delete_nodes", bundles, _NODES)) == _NODES:
        pass


def _bundle(row: dict[str, Any]) -> Bundle:
    row["id"], row["parent_id"] = as_uuid(row["id"]), row["parent_id"] and as_uuid(row["parent_id"])
    return Bundle(**row)


def _document(callback: Callback) -> dict[str, object]:
    job = callback.job
    return {
        "when": callback.when, "queue": job.queue, "task": job.task, "args": orjson.Fragment(job.args),
        "priority": job.priority, "delay": job.delay, "at": job.at and job.at.isoformat(),
        "max_attempts": job.max_attempts, "timeout": job.timeout, "budget": job.budget, "expires": job.expires,
        "origin": job.origin,
        "meta": None if job.meta is None else orjson.Fragment(job.meta), "follow": int(job.follow),
    }  # fmt: skip
