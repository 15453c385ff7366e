"""The pieces of the archive and of the log: made ahead of time, dropped when too old, and thinned out by queue.

A piece is a day if jobs are kept for a month, and longer in proportion: about thirty make up what is kept, for whoever
looks at all of it must open and lock each.

Nothing here touches unfinished jobs, and nothing waits where a finish would have to wait behind it.
"""

import math
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

import anyio
import asyncpg

from jobqueue.base.job import JobState
from jobqueue.base.service import Patience
from jobqueue.store.connection.faults import Fault, classify
from jobqueue.store.connection.pool import Database
from jobqueue.store.dated import DAYS_AHEAD

_PIECES = 30
"""Into so many pieces the kept part of the archive is cut: old jobs stay longer by a thirtieth at the most."""
_DAY = 86_400
_TRIES = 10
_BATCH_MS = 1_000
_KEYS = 5_000
_RESULTS = 500
_STEPS = 500
_AGE = 30.0 * _DAY
_LOWEST = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Ages:
    """How old finished jobs, and what the log says of jobs, may become, in seconds; None: no limit."""

    completed: float | None = None
    other: float | None = None
    events: float | None = None


NO_AGES = Ages()


@dataclass(frozen=True, slots=True)
class Day:
    """One piece, a day or several, of one half of the archive, or of the log."""

    leaf: str
    kind: str
    """`completed`, `other` or `event`."""
    day: date
    """Its first."""
    pages: int
    whole: bool
    """May be dropped."""
    part: bool
    """Long enough ago to hold jobs that may be deleted."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep removed."""

    days: int
    jobs: int


class Stride:
    """Pages, or rows, of one batch: half as many after each that took too long or met a lock, more after others."""

    def __init__(self, pages: int = 64, most: int = 1_024) -> None:
        self.pages = pages
        self._most = most

    def grow(self) -> None:
        """After a success."""
        self.pages = min(self._most, 2 * self.pages)

    def shrink(self) -> bool:
        """After a failure; False if it cannot get smaller."""
        before, self.pages = self.pages, max(1, self.pages // 2)
        return self.pages < before


async def extend_archive(database: Database, ages: Ages = NO_AGES) -> int:
    """Make the partitions of `DAYS_AHEAD`, of a length that fits these ages; how many were missing."""
    lengths = (_days(ages.completed), _days(ages.other))
    made: int = (await database.fetch("extend_in_pieces", DAYS_AHEAD, *lengths))[0]["made"]
    return made


def _days(age: float | None) -> int:
    """Of how many days a piece is."""
    return 1 if age is None else max(1, math.ceil(min(age, 1e10) / _DAY / _PIECES))


async def take_turn(database: Database, pause: float, duty: str = "retention") -> bool:
    """True for one of all workers that ask within `pause` seconds: that one does it for all."""
    return bool(await database.fetch("take_turn", duty, pause))


async def sweep(database: Database, ages: Ages) -> Swept:
    """Drop the days that are older than `ages`, and delete what is too old or too much for its queue.

    What is locked is left for the next time. Safe from several at once, and to be cancelled at any time.
    """
    while await _forget_keys(database) == _KEYS:
        pass
    await _forget_orphans(database)
    keeps = await shortest_keeps(database)
    days = await archive_days(database, drop=ages, prune=keeps)
    dropped, locked = await drop_days(database, [day for day in days if day.whole])
    jobs = 0
    for day in [day for day in days if day.part and (not day.whole or day in locked)]:
        jobs += (await prune_day(database, day)).total()
    left = [day for day in days if day not in dropped]
    jobs += sum(found.total() for _, found in await prune_excess(database, left))
    await _forget_steps(database, ages, keeps)
    return Swept(len(dropped), jobs)


async def shortest_keeps(database: Database) -> Ages:
    """The shortest ages that any queue says for itself."""
    (row,) = await database.fetch("shortest_keeps")
    return Ages(row["completed"], row["other"])


async def archive_days(database: Database, *, drop: Ages, prune: Ages) -> list[Day]:
    """The days of archive and log, the oldest first, with what these ages allow."""
    rows = await database.fetch("archive_days", drop.completed, drop.other, drop.events, prune.completed, prune.other)
    return [Day(**dict(row)) for row in rows]


async def drop_days(database: Database, days: list[Day]) -> tuple[list[Day], list[Day]]:
    """Drop these days; which are gone, and which somebody held on to. Whoever holds one holds all of its kind.

    What members of bundles that need it have given is put aside before; a day where that fails stays as well.
    """
    dropped: list[Day] = []
    locked: list[Day] = []
    for day in days:
        held = any(other.kind == day.kind for other in locked)
        gone = not held and await _keep_results(database, day) and await _drop(database, day)
        (dropped if gone else locked).append(day)
    return dropped, locked


async def prune_day(
    database: Database,
    day: Day,
    ages: Ages = NO_AGES,
    queue: str | None = None,
    *,
    stride: Stride | None = None,
    dry: bool = False,
) -> Counter[JobState]:
    """Delete the jobs of one day that are older than `ages`, of one queue or of all; without ages, as each queue says.

    Rows that others hold are left, and the rest of the day when even the smallest batch fails. `dry`: count only.
    """
    found: Counter[JobState] = Counter()
    further = (queue, ages.completed, ages.other, dry)
    async for row in _by_pages(database, "prune_archive", day, further, stride or Stride()):
        found[JobState(row["state"])] += row["jobs"]
    return found


async def prune_excess(
    database: Database, days: list[Day], *, dry: bool = False
) -> list[tuple[Day, Counter[JobState]]]:
    """Delete the oldest jobs of each queue that has more finished ones than it keeps, to within a second of jobs."""
    limits = await database.fetch("queue_limits")
    pruned = []
    for kind in ("completed", "other"):
        room = {row["queue"]: row[f"most_{kind}"] for row in limits if row[f"most_{kind}"] is not None}
        full: dict[str, datetime] = {}
        for day in reversed([day for day in days if day.kind == kind]):
            if len(full) < len(room):
                await _fill(database, day, room, full)
            if full:
                found: Counter[JobState] = Counter()
                further = (list(full), list(full.values()), dry)
                async for row in _by_pages(database, "prune_before", day, further, Stride()):
                    found[JobState(row["state"])] += row["jobs"]
                pruned.append((day, found))
    return pruned


async def _fill(database: Database, day: Day, room: dict[str, int], full: dict[str, datetime]) -> None:
    """Count a day's jobs into the `room` of their queues; notes since when a queue is `full`."""
    finished: Counter[tuple[str, datetime]] = Counter()
    async for row in _by_pages(database, "count_seconds", day, (), Stride()):
        finished[row["queue"], row["second"]] += row["jobs"]
    for (queue, second), jobs in sorted(finished.items(), key=lambda one: one[0][1], reverse=True):
        if queue in room and queue not in full:
            room[queue] -= jobs
            if room[queue] <= 0:
                full[queue] = second


async def _by_pages(
    database: Database, statement: str, day: Day, further: tuple[object, ...], stride: Stride
) -> AsyncIterator[asyncpg.Record]:
    """Run a statement over a day, in batches of pages, which shrink when one takes too long or meets a lock.

    The rest of the day is left when even the smallest batch fails.
    """
    page = 0
    while page < day.pages:
        began = time.monotonic()
        try:
            rows = await _batch(database, statement, stride, (day.leaf, page), further)
        except asyncpg.UndefinedTableError:
            return  # dropped by another just now
        if rows is None:
            break
        for row in rows:
            yield row
        page += stride.pages
        stride.grow()
        await anyio.sleep(time.monotonic() - began)  # half of the time is for others


async def _keep_results(database: Database, day: Day) -> bool:
    """Copy what bundles need of a day into `node`, so many at a time; False if not all of it can be had now."""
    stride = Stride(_RESULTS, 4 * _RESULTS)
    place: tuple[UUID, UUID] | None = (_LOWEST, _LOWEST) if day.kind == "completed" else None
    while place is not None:
        began = time.monotonic()
        try:
            rows = await _batch(database, "keep_results", stride, (day.leaf, *place))
        except asyncpg.UndefinedTableError:
            break  # dropped by another just now
        if rows is None:
            return False
        place = (rows[0]["bundle_id"], rows[0]["job_id"]) if rows else None
        stride.grow()
        await anyio.sleep(time.monotonic() - began)  # half of the time is for others
    return True


async def _batch(
    database: Database, statement: str, stride: Stride, place: tuple[object, ...], further: tuple[object, ...] = ()
) -> list[asyncpg.Record] | None:
    """The rows of one batch, which shrinks if it takes too long or meets a lock; None if even the smallest fails."""
    patience = Patience(first=0.02, cap=0.5)
    while True:
        try:
            return await _run_batch(database, statement, (*place, stride.pages, *further))
        except asyncpg.PostgresError as error:
            if classify(error) is not Fault.CONFLICT:
                raise
        if not stride.shrink():
            return None
        await anyio.sleep(patience.next())


async def _run_batch(database: Database, statement: str, values: tuple[object, ...]) -> list[asyncpg.Record]:
    async with database.connection() as connection, connection.transaction(isolation="read_committed"):
        await database.run(connection, "limit_batch", str(_BATCH_MS))
        return await database.run(connection, statement, *values)


async def _forget_keys(database: Database) -> int:
    """Remove some unique keys whose period is over; how many."""
    forgotten: int = (await database.fetch("forget_keys", _KEYS))[0]["forgotten"]
    return forgotten


async def _forget_orphans(database: Database) -> None:
    """Remove the unique keys of jobs that somebody has deleted past us: all keys are looked at, a page at a time.

    A defer that wants such a key has it at once; this is for those that nobody wants again.
    """
    after: str | None = None
    while True:
        began = time.monotonic()
        page = await database.fetch("orphaned_keys", after, _KEYS)
        if orphaned := [row["key"] for row in page if row["orphaned"]]:
            async with database.connection() as connection, connection.transaction(isolation="read_committed"):
                locked = [row["key"] for row in await database.run(connection, "lock_keys", orphaned)]
                await database.run(connection, "forget_orphans", locked)
        if len(page) < _KEYS:
            return
        after = page[-1]["key"]
        await anyio.sleep(time.monotonic() - began)  # half of the time is for others


async def _forget_steps(database: Database, *said: Ages) -> None:
    """Remove phases and signals of jobs that are gone, once they are as old as the jobs that go first.

    All there are is looked at, a page at a time: nothing else knows that a day was dropped with its jobs.
    """
    given = [age for ages in said for age in (ages.completed, ages.other) if age is not None]
    age = min(given, default=_AGE)
    for statement in ("forget_phases", "forget_signals"):
        after: UUID | None = _LOWEST
        stride = Stride(_STEPS, 10 * _STEPS)
        while after is not None:
            began = time.monotonic()
            rows = await _batch(database, statement, stride, (after,), (age,))
            after = rows[0]["upto"] if rows else None
            stride.grow()
            await anyio.sleep(time.monotonic() - began)  # half of the time is for others


async def _drop(database: Database, day: Day) -> bool:
    """Drop one day, between two finishes, or behind those that are under way.

    Never behind a transaction that stays: it would hold up every finish that comes later.
    """
    staying: set[str] | None = None
    for _ in range(_TRIES):
        if await _dropped(database, day, wait=False):
            return True
        holders = {row["holder"] for row in await database.fetch("archive_holders", day.leaf)}
        staying = holders if staying is None else staying & holders
        await anyio.sleep(random.uniform(0.02, 0.08))  # noqa: S311 - spreads load, guards nothing
    return not staying and await _dropped(database, day, wait=True)


async def _dropped(database: Database, day: Day, *, wait: bool) -> bool:
    return bool((await database.fetch("drop_archive", day.leaf, wait))[0]["dropped"])
