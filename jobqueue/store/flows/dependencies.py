"""Jobs that come after others: stored, met or doomed once those have ended. See `schema/README.md`."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TypeAlias
from uuid import UUID

import asyncpg

from jobqueue.base.errors import JobNotFound
from jobqueue.base.outcome import Cancelled
from jobqueue.store.connection.executor import Executor, Reader
from jobqueue.store.connection.joined import chunks, join
from jobqueue.store.connection.session import Session
from jobqueue.store.dated import in_a_day
from jobqueue.store.locks import wait_briefly
from jobqueue.store.looking.lookup import EVER, as_uuid, earliest_finish
from jobqueue.store.outcomes import finish_waiting
from jobqueue.store.steering import revive

DEPENDENCY = "dependency"
"""The reason of a job that was cancelled since one that it needs is dead, cancelled or gone."""
_ROOM = 500
"""Jobs that wait for the same one, of which so many are done at a time."""
_CHUNK, _EDGES = 5_000, 20_000
"""Jobs, and what they come after, that one statement stores, or looks at."""
_TRIES = 5
Place: TypeAlias = tuple[str, UUID]
"""Queue and id of a blocked job."""
START: Place = ("", UUID(int=0))


@dataclass(frozen=True, slots=True)
class Node:
    """A job that comes after others. Each of them was stored before it."""

    id: UUID
    task: str
    after: tuple[UUID, ...] = ()
    any_end: bool = False


@dataclass(slots=True)
class Resolved:
    """What came of a look at jobs that others wait for."""

    looked: set[UUID] = field(default_factory=set)
    """Those that are done with for now; whoever has the others will see to them, or they are busy."""
    needed: set[UUID] = field(default_factory=set)
    """Those to be looked at next: something is left, or they were doomed themselves."""
    given_up: set[UUID] = field(default_factory=set)
    """Those that were doomed, and cannot come back: another job has their unique key."""
    bundles: set[UUID] = field(default_factory=set)
    """Bundles that have something to add up."""
    doomed: int = 0
    revived: int = 0


async def need(executor: Executor, ids: Collection[UUID], *, always: bool) -> dict[UUID, str]:
    """Others come after these stored jobs from now on; their tasks. `always` as of `insert_all`. Raises JobNotFound."""
    tasks: dict[UUID, str] = {}
    for _ in range(_TRIES):  # one that has ended may be retried between two looks, and end between two others
        for statement, more in (("need_unfinished", [always]), ("need_finished", [])):
            if left := [str(id) for id in ids if id not in tasks]:
                tasks |= {UUID(id): task for id, task in await executor.fetch(statement, left, *more)}
        if len(tasks) == len(ids):
            return tasks
    raise JobNotFound(next(id for id in ids if id not in tasks))


async def insert_dependencies(executor: Executor, bundle: UUID, nodes: Sequence[Node], tasks: dict[UUID, str]) -> None:
    """Store what jobs of a bundle come after. `tasks` are those of all that are named, in this transaction."""
    for cut in chunks([1 + len(node.after) for node in nodes], _CHUNK, _EDGES):
        await _insert_chunk(executor, bundle, nodes[cut], tasks)


async def _insert_chunk(executor: Executor, bundle: UUID, nodes: Sequence[Node], tasks: dict[UUID, str]) -> None:
    given = {node.id: node for node in nodes}
    ids = list(dict.fromkeys(chain(given, (on for node in nodes for on in node.after))))
    places = {id: place for place, id in enumerate(ids, 1)}
    names = list(dict.fromkeys(tasks[id] for id in ids))
    of_name = {name: place for place, name in enumerate(names, 1)}
    edges = [(places[node.id], places[on]) for node in nodes for on in node.after]
    await executor.fetch(
        "insert_dependencies", str(bundle), join([id.hex for id in ids]), names,
        join([of_name[tasks[id]] for id in ids]),
        join(["t" if id in given and given[id].any_end else "f" for id in ids]),
        join([job for job, _ in edges]), join([on for _, on in edges]),
    )  # fmt: skip


async def resolve(session: Session, ids: Iterable[UUID], given_up: Collection[UUID] = ()) -> Resolved:
    """Look at jobs that others wait for, and let those begin, or end them, in one transaction; see `resolve_jobs`.

    What had been doomed comes back after that, in transactions of its own: a unique key may have to be waited for. What
    is `given_up` does not. Those that others wait for are looked at again then.
    """
    some = sorted(set(ids))
    since = min((earliest_finish(id) for id in some), default=EVER)

    async def look() -> tuple[Resolved, dict[str, set[UUID]]]:
        told: dict[str, set[UUID]] = {}
        async with session.transaction():
            for id, what in await session.fetch("resolve_jobs", some, since, _ROOM, list(given_up)):
                told.setdefault(what, set()).add(as_uuid(id))
            return await _follow_up(session, told), told

    found, told = await in_a_day(session, look)
    if lost := sorted(told.get("revived", ())):
        for start in range(0, len(lost), _ROOM):
            for id, revived in (await _revive(session, lost[start : start + _ROOM])).items():
                found.revived += revived
                found.given_up |= set() if revived else {id}
        if found.revived or found.given_up:
            found.needed |= told.get("busy", set())
    return found


async def _follow_up(session: Session, told: dict[str, set[UUID]]) -> Resolved:
    def those(what: str) -> set[UUID]:
        return told.get(what, set())

    found = Resolved(those("resolved") | those("left"), those("left").copy(), bundles=those("bundle"))
    if met := those("met"):
        await session.fetch("release_jobs", sorted(met))
    if doomed := those("doomed"):
        ended, news = await finish_waiting(session, sorted(doomed), Cancelled(DEPENDENCY))
        found.doomed = len(ended)
        found.needed |= news.needed
        found.bundles |= news.bundles
    return found


async def _revive(session: Session, ids: Sequence[UUID]) -> dict[UUID, bool]:
    """Whether each has come back; nothing of those that somebody has, or their keys, for more than a moment."""

    async def come_back() -> dict[UUID, bool]:
        async with session.transaction():
            await wait_briefly(session)
            return await revive(session, ids)

    try:
        return await in_a_day(session, come_back)
    except asyncpg.LockNotAvailableError:
        half = len(ids) // 2
        return {**await _revive(session, ids[:half]), **await _revive(session, ids[half:])} if half else {}


@dataclass(frozen=True, slots=True)
class Healed:
    """What one page of blocked jobs has shown."""

    lost: list[UUID]
    """Jobs that others wait for, and that ended, or went, without a fact. They have one now."""
    released: int
    """Jobs that wait for nothing."""
    next: Place
    """Where the next page begins."""


async def heal_dependencies(session: Session, place: Place) -> Healed:
    """See to blocked jobs that would wait for ever, of one page."""
    async with session.transaction():
        told = await session.fetch("heal_dependencies", *place, _CHUNK)
        rows = [(queue, as_uuid(id), what) for queue, id, what in told]
        if free := [id for _, id, what in rows if what == "free"]:
            await session.fetch("release_jobs", free)
    lost = [id for _, id, what in rows if what == "lost"]
    after = [(queue, id) for queue, id, what in rows if what == "ends"]
    return Healed(lost, len(free), after[0] if after else START)


async def results_before(
    reader: Reader, bundle: UUID, job: UUID, task: str, after: int, room: int
) -> list[tuple[int, str | None]]:
    """What completed jobs of this task have given, of those that this one came after: place and JSON, in that order.

    None: it is gone, since the archive forgot the job before anybody looked at it.
    """
    return [(row[0], row[1]) for row in await reader.fetch("results_before", bundle, job, task, after, room)]
