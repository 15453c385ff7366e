"""The audit: who did what, in the transaction that makes the change. No payload comes near it.

A call about one thing is a block inside `noting`. A call about many jobs has a `Noted`, to which each page adds what it
has done, in its own transaction: after a crash in the middle the row says what has been done.
"""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson

from jobqueue.base.acting.audit import AuditEntry, AuditPage, By
from jobqueue.base.steering import Change
from jobqueue.store.connection.executor import Executor, Reader, named
from jobqueue.store.dated import in_a_day

NAMED = 100
"""Ids of jobs that a row shows in `what`."""
_FOUND = 1_000
"""Ids of jobs by which a row is found."""
_NEWEST = 2**63 - 1
_FORGOTTEN = 500


_SOMEBODY = By("somebody")


class Noted:
    """The row of one call, its numbers added up; the first change that it tells of inserts it."""

    def __init__(self, by: By, action: str, what: Mapping[str, Any]) -> None:
        self.by = by
        self.action = action
        self.what = dict(what)
        self.matched = self.changed = 0
        self.refused: Counter[str] = Counter()
        self._id: int | None = None
        self._room = _FOUND
        self._kept: tuple[int | None, int, int, Counter[str], int] = (None, 0, 0, self.refused, self._room)

    @classmethod
    def of(cls, id: int, matched: int, changed: int, refused: Mapping[str, int]) -> "Noted":
        """The row of a call that goes on in another transaction, perhaps of another process."""
        note = cls(_SOMEBODY, "", {})
        note._id, note.matched, note.changed, note.refused = id, matched, changed, Counter(refused)
        note._room = max(0, _FOUND - changed)  # where some of them are known already, the row takes less
        return note

    @property
    def id(self) -> int | None:
        """Of the row, once it is written."""
        return self._id

    async def jobs(self, executor: Executor, told: Mapping[UUID, Change], *, ids: Sequence[UUID] = ()) -> None:
        """What became of some jobs, in the transaction that is open; `ids`: by which the row is found."""
        refused = Counter(str(change) for change in told.values() if not change.happened)
        await self.add(executor, len(told), len(told) - refused.total(), refused, ids)

    async def add(
        self,
        executor: Executor,
        matched: int,
        changed: int,
        refused: Mapping[str, int] | None = None,
        ids: Sequence[UUID] = (),
    ) -> None:
        """So many more, in the transaction that is open. What is undone must not be counted: see `keep`."""
        found = list(ids[: self._room])
        all_refused = self.refused + Counter(refused or {})
        numbers = (self.matched + matched, self.changed + changed, _text(all_refused) if all_refused else None, found)
        if self._id is None:
            who = (self.by.who, self.by.via, self.action, _text(self.what))
            rows = await executor.fetch("write_audit", *who, *numbers)
        else:
            rows = await executor.fetch("add_to_audit", self._id, *numbers)
        row = rows[0][0] if rows else self._id  # it may have grown too old meanwhile
        self._kept = (row, numbers[0], numbers[1], all_refused, self._room - len(found))

    def keep(self) -> None:
        """What was added last is committed, or part of a caller's transaction."""
        self._id, self.matched, self.changed, self.refused, self._room = self._kept


class Row:
    """What a block inside `noting` may still say of its row."""

    def __init__(self, what: dict[str, Any]) -> None:
        self.what = what
        self.changed = 1
        self.jobs: Sequence[UUID] = ()


@contextlib.asynccontextmanager
async def noting(executor: Executor, by: By | None, action: str, **what: Any) -> AsyncIterator[Row]:
    """What the block does, and the row about it, commit together. Without `by` it is as if this were not there."""
    row = Row(what)
    if by is None:
        yield row
        return
    async with executor.transaction():
        yield row
        said = {name: value for name, value in row.what.items() if value is not None}
        await Noted(by, action, said).add(executor, 1, row.changed, ids=row.jobs)


@contextlib.asynccontextmanager
async def beginning(executor: Executor, note: Noted | None, many: int = 0) -> AsyncIterator[None]:
    """What the block does, and a row about so many, commit together; jobs are added to it later."""
    if note is None:
        yield
        return
    async with executor.transaction():
        yield
        await note.add(executor, many, many)
    note.keep()


async def noted(
    executor: Executor, note: Noted | None, write: Callable[[], Awaitable[dict[UUID, Change]]]
) -> dict[UUID, Change]:
    """What becomes of some jobs, with its part of the row in the same transaction."""
    if note is None:
        return await write()

    async def both() -> dict[UUID, Change]:
        async with executor.transaction():
            told = await write()
            if told:
                await note.jobs(executor, told, ids=_found(note, told))
        return told

    told = await in_a_day(executor, both)
    if told:
        note.keep()
    return told


async def note_refused(executor: Executor, note: Noted | None, refused: Mapping[UUID, Change]) -> None:
    """Nothing was done to these, and so there is no change with which that could be told."""
    if note is not None and refused:
        await note.jobs(executor, refused, ids=_found(note, refused))
        note.keep()


async def list_audit(
    reader: Reader,
    *,
    job: UUID | None = None,
    who: str | None = None,
    via: str | None = None,
    action: str | None = None,
    before: int | None = None,
    limit: int,
) -> AuditPage:
    """A page of rows, the newest first."""
    place = (_NEWEST if before is None else before, limit)
    if job is not None:
        rows = await reader.fetch("audit_of_job", *place, who, via, action, job)
    elif who is not None:
        rows = await reader.fetch("audit_of_who", *place, who, via, action)
    elif action is not None:
        rows = await reader.fetch("audit_of_action", *place, action)
    else:
        rows = await reader.fetch("list_audit", *place)
    page = AuditPage(_entry(named("list_audit", row)) for row in rows)
    page.next = page[-1].id if len(page) == limit else None
    return page


async def forget_audit(reader: Reader, age: float) -> int:
    """Remove rows that are older than so many seconds; how many."""
    gone = last = len(await reader.fetch("forget_audit", age, _FORGOTTEN))
    while last == _FORGOTTEN:
        last = len(await reader.fetch("forget_audit", age, _FORGOTTEN))
        gone += last
    return gone


def meant(ids: Sequence[UUID]) -> dict[str, Any]:
    """How `what` names jobs: at most a hundred, and then how many there are."""
    shown: dict[str, Any] = {"ids": [str(id) for id in ids[:NAMED]]}
    return shown if len(ids) <= NAMED else shown | {"jobs": len(ids)}


def _found(note: Noted, told: Mapping[UUID, Change]) -> list[UUID]:
    """Whoever was named is found by it whatever became of him; what a filter found only if it happened."""
    by_name = "ids" in note.what
    return [id for id, change in told.items() if by_name or change.happened]


def _entry(row: dict[str, Any]) -> AuditEntry:
    for name in ("what", "refused"):
        try:
            said = orjson.loads(row[name] or "{}")
        except ValueError:  # half of a surrogate pair is JSON to PostgreSQL
            said = None
        row[name] = said if isinstance(said, dict) else {}  # plain SQL may have written anything
    row["refused"] = {reason: number for reason, number in row["refused"].items() if type(number) is int}
    return AuditEntry(**row)


def _text(value: Mapping[str, Any]) -> str:
    return orjson.dumps(value, default=str).decode()
