"""Lists jobs by what they have in common: in `job` and the archive as if they were one table.

There is no index for each filter, nor should there be. A look reads a window of at most ROOM jobs by their place, which
is when they came, keeps those that are meant, and says how far it got: its cost is bounded, whatever is asked for. The
archive is read a piece at a time, so that no look opens, or locks, all of it. Rows are read by place: SQLAlchemy gives
plain tuples.

What is in a job may be large: a window that looks into them ends after a time as well, and the walk goes on from there.
Lists that only look at names pay nothing for that.
"""

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from jobqueue.base.job import FINAL, Job, JobState
from jobqueue.base.looking.search import Inside
from jobqueue.base.moments import LATEST
from jobqueue.store.connection.executor import Executor, named
from jobqueue.store.looking.lookup import as_uuid, job_of

ROOM = 20_000
"""Jobs in a window: some 20 ms."""
PATIENCE = 5.0
"""Seconds after which a page ends with what it has."""
_FIRST_ROOM = 100
_STEP = 2.0
"""Seconds after which a window ends that looks into jobs; it always looks into one, and for _SHORTEST into more."""
_SHORTEST = 0.1
_SKEW = timedelta(days=1)
"""By so much the clock in an id may be ahead without a penalty."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LOWEST, _HIGHEST = UUID(int=0), UUID(int=2**128 - 1)
_HALVES = {"completed": {JobState.COMPLETED}, "other": {JobState.CANCELLED, JobState.DEAD}}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which jobs: those for which all that is given holds."""

    states: frozenset[JobState] = frozenset(JobState)
    queue: str | None = None
    task: str | None = None
    origin: str | None = None
    pattern: str | None = None
    """What their ids are like, in SQL's words."""
    inside: Inside | None = None
    """What is in them."""

    @property
    def unfinished(self) -> list[str]:
        """The states of jobs that have not ended."""
        return sorted(self.states - FINAL)

    @property
    def names(self) -> tuple[str | None, str | None, str | None]:
        """Queue, task, origin."""
        return self.queue, self.task, self.origin

    @property
    def document(self) -> str | None:
        """What is to be in them, as the schema takes it."""
        return None if self.inside is None else self.inside.document()


class JobPage(list[Job]):
    """Some jobs, the newest first. `next` goes on: `list(after=page.next)`; None once there are no more."""

    next: UUID | None = None
    reached: datetime | None = None
    """When the oldest came that it was looked at for this page; None if all were. `list(after=page.next)` goes on."""
    searched: int = 0
    """How many jobs were read for it, those included that are not meant; at least so many."""

    def ends(self, place: UUID) -> "JobPage":
        """Say that it got down to this place."""
        self.next = place
        self.reached = _EPOCH + min(timedelta(milliseconds=place.int >> 80), LATEST - _EPOCH)
        return self


@dataclass(frozen=True, slots=True)
class _Piece:
    """A piece of the archive."""

    kind: str
    since: datetime
    until: datetime

    @property
    def top(self) -> int:
        """Above this lies no id of a job that ended here, but those made by a clock that was wrong."""
        return int((self.until + _SKEW - _EPOCH).total_seconds() * 1000) << 80


@dataclass(slots=True)
class _Walk:
    """One way from the newest to the oldest."""

    executor: Executor
    wanted: Wanted
    payload: bool
    pieces: list[_Piece]
    give_up: float
    """When patience ends, by time.monotonic()."""
    inside: str | None
    few: bool = True
    """Whether the indexes of the states may give all unfinished jobs that are meant."""
    seen: dict[UUID, tuple[UUID, Job]] = field(default_factory=dict)
    searched: int = 0

    @property
    def seconds(self) -> float:
        """How long one window may look into jobs."""
        return max(_SHORTEST, min(_STEP, self.give_up - time.monotonic()))

    async def window(self, before: UUID, room: int, page: int) -> UUID:
        """Find what stands below `before`; down to where, and nothing above that is missing."""
        floor = _LOWEST
        if self.wanted.unfinished:
            floor = await self._unfinished(before, room, page)
        for piece in list(self.pieces):
            if piece.top + (1 << 80) < floor.int:
                break
            floor = max(floor, await self._finished(piece, before, floor, room, page))
        return floor

    async def _unfinished(self, before: UUID, room: int, page: int) -> UUID:
        wanted = self.wanted
        values = (before, room, page, wanted.unfinished, *wanted.names, wanted.pattern)
        if self.inside is not None:
            rows = await self.executor.fetch("search_unfinished", *values, self.inside, self.seconds)
            edge = rows[0][0]
            self.searched += rows[0][3]
        else:
            rows, edge = await self._named(values, room)
            self.searched += _read(edge, room, sum(row[2] is not None for row in rows))
        places = {as_uuid(row[2]): as_uuid(row[1]) for row in rows if row[2] is not None}
        for job in await self._jobs(list(places)):
            self._take(places[job.id], job)
        return _lowest(edge, list(places.values()), page)

    async def _named(self, values: Sequence[Any], room: int) -> tuple[Sequence[Any], object]:
        """Those that are meant by names alone, and where the window ends, if it does."""
        if room == ROOM and self.few:
            rows = await self.executor.fetch("look_in_states", *values)
            self.few = bool(rows[0][0])
            if self.few:
                return rows, None
        rows = await self.executor.fetch("look_unfinished", *values)
        return rows, rows[0][0]

    async def _jobs(self, ids: list[UUID]) -> list[Job]:
        if not ids:
            return []
        rows = await self.executor.fetch("unfinished_jobs", ids, self.payload)
        return [job_of(named("unfinished_jobs", row)) for row in rows]

    async def _finished(self, piece: _Piece, before: UUID, floor: UUID, room: int, page: int) -> UUID:
        wanted = self.wanted
        values = (piece.kind, piece.since, piece.until, UUID(int=piece.top), before, floor, room, page)
        filters: tuple[object, ...] = (sorted(wanted.states & _HALVES[piece.kind]), *wanted.names, wanted.pattern)
        name = "look_finished" if self.inside is None else "search_finished"
        inside = () if self.inside is None else (self.inside, self.seconds)
        rows = await self.executor.fetch(name, *values, *filters, self.payload, *inside)
        found = [named(name, row) for row in rows]
        read = _read(found[0]["edge"], room, sum(row["id"] is not None for row in found))
        self.searched += found[0].get("seen", read)
        places = [as_uuid(row["place"]) for row in found if row["id"] is not None]
        for place, row in zip(places, found, strict=False):
            self._take(place, job_of(row))
        if found[0]["edge"] is None and not found[0]["more"] and len(places) < page:
            self.pieces.remove(piece)
        return max(floor, _lowest(found[0]["edge"], places, page))

    def _take(self, place: UUID, job: Job) -> None:
        if job.state in self.wanted.states:  # else it has moved on since the window was read
            self.seen[job.id] = place, job  # later wins: a job may end in between, and is seen in both places


async def list_jobs(
    executor: Executor,
    wanted: Wanted,
    *,
    after: UUID | None,
    limit: int,
    payload: bool = False,
    patience: float = PATIENCE,
) -> JobPage:
    """A page of jobs, the newest first; shorter than `limit` at the end, or once `patience` seconds are over."""
    page, give_up = JobPage(), time.monotonic() + patience
    walk = _Walk(executor, wanted, payload, await _pieces(executor, wanted), give_up, wanted.document)
    before, room = after or _HIGHEST, max(limit, _FIRST_ROOM)
    while True:
        floor = await walk.window(before, room, limit)
        page.searched = walk.searched
        for place, job in sorted(walk.seen.values(), key=lambda one: one[0], reverse=True):
            if place < floor:
                break
            page.append(job)
            if len(page) == limit:
                return page.ends(place)
        if floor == _LOWEST:
            return page
        if time.monotonic() > give_up:
            return page.ends(floor)
        walk.seen.clear()
        before, room = floor, min(ROOM, room * 8)


async def find_by_part(executor: Executor, part: str, limit: int) -> list[UUID]:
    """The newest jobs whose ids begin or end like this, at most so many."""
    found: dict[UUID, None] = {}
    for pattern in (f"%{part}", f"{part}%"):
        running = Wanted(frozenset({JobState.RUNNING}), pattern=pattern)  # what people look at, and so soon found
        for wanted in (running, Wanted(pattern=pattern)):
            if len(found) < limit:
                found |= dict.fromkeys(job.id for job in await list_jobs(executor, wanted, after=None, limit=limit))
    return list(found)[:limit]


async def find_ids(executor: Executor, wanted: Wanted, page: int) -> AsyncIterator[list[UUID]]:
    """All jobs that are meant, a page at a time: first those that have not ended, then the others; the oldest first."""
    told: set[UUID] = set()  # a job may end between the looks, and be found twice
    pieces = await _pieces(executor, wanted)
    if wanted.unfinished:
        few = None if wanted.document is not None else await _few(executor, wanted)
        places = _slices(few, page) if few is not None else _pages(executor, wanted, page, None)
        async for ids in places:
            told.update(ids)
            yield ids
    for piece in reversed(pieces):
        async for ids in _pages(executor, wanted, page, piece):
            if left := [id for id in ids if id not in told]:
                yield left


@dataclass(frozen=True, slots=True)
class Place:
    """How far a walk through all jobs has come that may be gone on with later, perhaps by another process."""

    after: UUID = _LOWEST
    piece: tuple[datetime, str] | None = None
    """In this piece of the archive, by its end and kind; None: among those that have not ended."""


async def find_ids_from(
    executor: Executor, wanted: Wanted, place: Place, page: int, before: datetime
) -> tuple[list[UUID], Place | None]:
    """The next of all jobs that are meant, and where to go on: None at the end. One window a call, perhaps with none.

    In the order of `find_ids`; of those that have ended only what did so `before` this moment. A piece that was dropped
    meanwhile is passed over.
    """
    if place.piece is None:
        ids, after = await _ids_behind(executor, wanted, place.after, page, None) if wanted.unfinished else ([], None)
        return ids, Place(after) if after is not None else Place(piece=(_EPOCH, ""))
    left = [
        one for one in await _pieces(executor, wanted) if (one.until, one.kind) >= place.piece and one.since < before
    ]
    if not left:
        return [], None
    first = min(left, key=lambda one: (one.until, one.kind))
    after = place.after if (first.until, first.kind) == place.piece else _LOWEST
    bounded = replace(first, until=min(first.until, before))
    ids, after_that = await _ids_behind(executor, wanted, after, page, bounded)
    if after_that is not None:
        return ids, Place(after_that, (first.until, first.kind))
    return ids, Place(piece=(first.until, first.kind + "~")) if len(left) > 1 else None


async def place_of(executor: Executor, id: UUID) -> UUID | None:
    """Where this job stands in a list; None if it is gone and its id does not say."""
    if (id.int >> 76) & 15 == 7 and id.int >> 122 == 0:  # as timed() in the schema
        return id
    rows = await executor.fetch("place_of", id)
    return as_uuid(rows[0][0]) if rows else None


async def _few(executor: Executor, wanted: Wanted) -> list[UUID] | None:
    """The ids of all unfinished jobs that are meant, if their states' indexes say; None if there are too many."""
    values = (_HIGHEST, ROOM, ROOM, wanted.unfinished, *wanted.names, wanted.pattern)
    rows = await executor.fetch("look_in_states", *values)
    return sorted(as_uuid(row[2]) for row in rows if row[2] is not None) if rows[0][0] else None


async def _slices(ids: list[UUID], page: int) -> AsyncIterator[list[UUID]]:
    for start in range(0, len(ids), page):
        yield ids[start : start + page]


async def _pages(executor: Executor, wanted: Wanted, page: int, piece: _Piece | None) -> AsyncIterator[list[UUID]]:
    """Of unfinished jobs, or of one piece of the archive."""
    after: UUID | None = _LOWEST
    while after is not None:
        ids, after = await _ids_behind(executor, wanted, after, page, piece)
        if ids:
            yield ids


async def _ids_behind(
    executor: Executor, wanted: Wanted, after: UUID, page: int, piece: _Piece | None
) -> tuple[list[UUID], UUID | None]:
    """What one window has of unfinished jobs, or of one piece of the archive; and where the next one begins, if any."""
    inside = () if wanted.document is None else (wanted.document, _STEP)
    if piece is None:
        values = (after, ROOM, page, wanted.unfinished, *wanted.names)
        rows = await executor.fetch("seek_unfinished" if inside else "find_unfinished", *values, *inside)
    else:
        bounds = (piece.kind, piece.since, piece.until, after, ROOM, page)
        states = sorted(wanted.states & _HALVES[piece.kind])
        name = "seek_finished" if inside else "find_finished"
        rows = await executor.fetch(name, *bounds, states, *wanted.names, *inside)
    ids = [as_uuid(row[1]) for row in rows if row[1] is not None]
    edge = rows[0][0]
    return ids, ids[-1] if len(ids) == page else None if edge is None else as_uuid(edge)


async def _pieces(executor: Executor, wanted: Wanted) -> list[_Piece]:
    """The pieces of the archive that may have what is wanted, the newest first."""
    if not wanted.states & FINAL:
        return []
    rows = await executor.fetch("archive_pieces")
    return [_Piece(*row) for row in rows if wanted.states & _HALVES[row[0]]]


def _lowest(edge: object, places: Sequence[UUID], page: int) -> UUID:
    """How far a look got: to the end of its window, or to the last one that its page had room for."""
    lowest = _LOWEST if edge is None else as_uuid(edge)
    return max(lowest, min(places)) if len(places) == page else lowest


def _read(edge: object, room: int, found: int) -> int:
    """How many jobs a look at names has read, at least: a window without an end may have been nearly empty."""
    return found if edge is None else room
