"""Bulk actions: stored, done a page at a time with the row locked, watched, cancelled."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from jobqueue.base.acting.audit import By
from jobqueue.base.acting.bulk import Bulk, BulkState
from jobqueue.store.connection.executor import Executor, Reader, named
from jobqueue.store.looking.lookup import as_uuid

_HIGHEST = UUID(int=2**128 - 1)
_FORGOTTEN = 500


@dataclass(slots=True)
class Taken:
    """One whose row is locked for this transaction: what is to be done, and how far it has come."""

    id: UUID
    at: datetime
    action: str
    filter: Mapping[str, Any]
    to: Mapping[str, Any]
    matched: int
    changed: int
    refused: Counter[str]
    place: Mapping[str, Any] | None
    """Where the next page begins; None: there is none."""
    locked: list[UUID]
    """Jobs that others had locked."""
    round: int
    """How often those were tried again."""
    audit_id: int | None


async def create(
    executor: Executor, id: UUID, by: By | None, action: str, filter: str, target: str, audit_id: int | None
) -> None:
    """Store one; workers are told."""
    who = (None, None) if by is None else (by.who, by.via)
    await executor.fetch("create_bulk", id, *who, action, filter, target, audit_id)


async def any_left(reader: Reader) -> bool:
    """Whether there is one that is not done."""
    return bool((await reader.fetch("any_bulk"))[0][0])


async def take(executor: Executor) -> dict[str, Any] | None:
    """One that is due, for this transaction: its id, and what else `read` reads."""
    rows = await executor.fetch("take_bulk")
    return named("take_bulk", rows[0]) if rows else None


async def move(executor: Executor, bulk: Taken, state: BulkState, pause: float) -> None:
    """A page is done; it goes on in so many seconds."""
    await executor.fetch(
        "move_bulk", bulk.id, state, bulk.matched, bulk.changed, text(bulk.refused) if bulk.refused else None,
        text(bulk.place), bulk.locked, bulk.round, pause,
    )  # fmt: skip


async def postpone(executor: Executor, id: UUID, pause: float) -> None:
    """It goes on in so many seconds; others go first."""
    await executor.fetch("postpone_bulk", id, pause)


async def end(executor: Executor, id: UUID, state: BulkState, error: str | None = None) -> bool:
    """It goes no further; False if it had ended."""
    return bool(await executor.fetch("end_bulk", id, state, error))


async def find(reader: Reader, id: UUID) -> Bulk | None:
    """One, as it stands now."""
    rows = await reader.fetch("find_bulk", id)
    return _bulk(named("find_bulk", rows[0])) if rows else None


async def page(reader: Reader, before: UUID | None, room: int, *, unfinished: bool) -> list[Bulk]:
    """Some, the newest first."""
    name = "unfinished_bulks" if unfinished else "list_bulks"
    return [_bulk(named(name, row)) for row in await reader.fetch(name, before or _HIGHEST, room)]


async def older(reader: Reader, ids: Sequence[UUID], moment: datetime) -> list[UUID]:
    """Those of these unfinished jobs that were there at this moment."""
    return sorted(as_uuid(row[0]) for row in await reader.fetch("older_than", list(ids), moment)) if ids else []


async def forget_bulks(reader: Reader, age: float) -> None:
    """Remove those that ended more than so many seconds ago."""
    while len(await reader.fetch("forget_bulks", age, _FORGOTTEN)) == _FORGOTTEN:
        pass


def read(row: dict[str, Any]) -> Taken:
    """What `take` gave. Raises ValueError, or TypeError, if plain SQL has written what cannot be done."""
    filter, target, place = (orjson.loads(row[name]) for name in ("filter", "target", "place"))
    return Taken(
        as_uuid(row["id"]), row["at"], row["action"], dict(filter), dict(target), row["matched"], row["changed"],
        Counter(_mapping(row["refused"])), None if place is None else dict(place),
        [as_uuid(id) for id in row["locked"] or ()], row["round"], row["audit_id"],
    )  # fmt: skip


def text(value: Mapping[str, Any] | None) -> str:
    """As JSON; times as ISO has them."""
    return orjson.dumps(value, default=str).decode()


def _bulk(row: dict[str, Any]) -> Bulk:
    for name in ("filter", "target", "refused"):
        row[name] = _mapping(row[name])
    row["id"], row["state"] = as_uuid(row["id"]), BulkState(row["state"])
    return Bulk(to=row.pop("target"), **row)


def _mapping(said: str | None) -> dict[str, Any]:
    try:
        value = orjson.loads(said or "{}")
    except ValueError:  # half of a surrogate pair is JSON to PostgreSQL
        return {}
    return value if isinstance(value, dict) else {}  # plain SQL may have written anything
