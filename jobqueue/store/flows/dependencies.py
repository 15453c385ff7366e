"""Jobs that come after others: stored, met or doomed once those have ended. See `schema/README.md`."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TypeAlias
from uuid import UUID

from jobqueue.base.errors import JobNotFound
from jobqueue.base.outcome import Cancelled
from jobqueue.store.connection.executor import Executor, Reader
from jobqueue.store.connection.joined import join
from jobqueue.store.connection.pool import Session
from jobqueue.store.dated import in_a_day
from jobqueue.store.looking.lookup import EVER, as_uuid, earliest_finish
from jobqueue.store.outcomes import finish_waiting
from jobqueue.store.steering import revive

DEPENDENCY = "dependency"
"""The reason of a job that was cancelled since one that it needs is dead, cancelled or gone."""
_ROOM = 500
"""Jobs that wait for the same one, of which so many are done at a time."""
_CHUNK = 5_000
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
    """Those of which there was news; whoever has the others will see to them."""
    needed: set[UUID] = field(default_factory=set)
    """Those to be looked at next: something is left, or they were doomed themselves."""
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
    for start in range(0, len(nodes), _CHUNK):
        await _insert_chunk(executor, bundle, nodes[start : start + _CHUNK], tasks)


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


async def resolve(session: Session, ids: Iterable[UUID]) -> Resolved:
    """Look at jobs that others wait for, and let those begin, or end them, in one transaction; see `resolve_jobs`."""
    some = sorted(set(ids))
    since = min((earliest_finish(id) for id in some), default=EVER)

    async def look() -> Resolved:
        async with session.transaction():
            rows = await session.fetch("resolve_jobs", some, since, _ROOM)
            return await _follow_up(session, [(as_uuid(id), what) for id, what in rows])

    return await in_a_day(session, look)


async def _follow_up(session: Session, told: list[tuple[UUID, str]]) -> Resolved:
    def those(*words: str) -> set[UUID]:
        return {id for id, what in told if what in words}

    found = Resolved(those("resolved", "left"), those("left"), those("bundle"))
    if met := those("met"):
        await session.fetch("release_jobs", sorted(met))
    if doomed := those("doomed"):
        ended, news = await finish_waiting(session, sorted(doomed), Cancelled(DEPENDENCY))
        found.doomed = len(ended)
        found.needed |= news.needed
        found.bundles |= news.bundles
    revived = sorted(those("revived"))
    for start in range(0, len(revived), _ROOM):
        found.revived += len(await revive(session, revived[start : start + _ROOM]))
    return found


@dataclass(frozen=True, slots=True)
class Healed:
    """What one page of blocked jobs has shown."""

    lost: list[UUID]
    """Jobs that others wait for, and that ended, or went, without a fact. They have one now."""
    released: int
    """Jobs that wait for nothing."""
    next: Place
    """Where the next page begins."""


async def heal_dependencies(reader: Reader, place: Place) -> Healed:
    """See to blocked jobs that would wait for ever, of one page."""
    rows = [(queue, as_uuid(id), what) for queue, id, what in await reader.fetch("heal_dependencies", *place, _CHUNK)]
    lost = [id for _, id, what in rows if what == "lost"]
    after = [(queue, id) for queue, id, what in rows if what == "ends"]
    return Healed(lost, sum(what == "released" for _, _, what in rows), after[0] if after else START)


async def results_before(
    reader: Reader, bundle: UUID, job: UUID, task: str, after: int, room: int
) -> list[tuple[int, str]]:
    """What completed jobs of this task have given, of those that this one came after: place and JSON, in that order."""
    return [(row[0], row[1]) for row in await reader.fetch("results_before", bundle, job, task, after, room)]
