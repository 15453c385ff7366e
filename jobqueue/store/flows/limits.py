"""Limits: what code declares, what is changed by hand, who stands in line; and the gates that let jobs go.

Gates are `limit`, or `limit` and a key with a line feed between; `~` in front: no place is held there.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

from jobqueue.store.connection.executor import Executor, Reader, named
from jobqueue.store.connection.session import Session

LimitValue: TypeAlias = int | float | None


@dataclass(frozen=True, slots=True)
class LimitRow:
    """What a limit says: how many at once, how many (`count`) in so many seconds (`per`), or both."""

    name: str
    concurrency: int | None = None
    count: int | None = None
    per: float | None = None
    burst: int = 1
    ordered: bool = False


@dataclass(frozen=True, slots=True)
class LimitState:
    """A limit as it is now, over all its keys."""

    row: LimitRow
    """What counts: as declared, then as changed by hand."""
    declared: LimitRow
    changed: Mapping[str, LimitValue] = field(default_factory=dict)
    """What was changed by hand."""
    declared_by: str | None = None
    declared_at: datetime | None = None
    changed_at: datetime | None = None
    held: int = 0
    """Places that jobs hold, ready or running."""
    waiting: int = 0
    """Jobs in its lines."""
    gates: int = 0
    """Lines in which somebody waits."""
    oldest: float | None = None
    """For how many seconds the one has waited that has waited longest of those that come next."""


@dataclass(frozen=True, slots=True)
class GateState:
    """One line of a limit."""

    gate: str
    key: str | None
    held: int
    waiting: int
    oldest: float | None
    """For how many seconds the next one has waited."""
    free_in: float | None = None
    """Of a rate: in how many seconds the next one may start."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """What one look at the gates has done."""

    jobs: int
    """How many went through a gate."""
    ready: int
    """How many of them may be claimed now."""
    busy: bool
    """Others look at some of these gates just now."""
    next_in: float | None
    """Seconds until the next look; below 0: so long ago."""
    any_limit: bool
    by_limit: Mapping[str, int]
    """How many each limit has let through."""


async def declare(executor: Executor, rows: Sequence[LimitRow], by: str, *, always: bool = False) -> list[str]:
    """Code says its limits; the last one counts. Those that are news. `always` as of `insert_all`."""
    columns = [list(column) for column in zip(*(_values(row) for row in rows), strict=True)]
    return [row[0] for row in await executor.fetch("declare_limits", *columns, by, always)] if rows else []


async def change(executor: Executor, name: str, changed: Mapping[str, LimitValue], *, always: bool = False) -> bool:
    """Change a limit by hand, beyond what was changed before: `concurrency`, or `count`, `per` and `burst`.

    What goes on is not touched. False if nobody has declared it.
    """
    return bool(await executor.fetch("change_limit", name, json.dumps(dict(changed)), always))


async def reset(executor: Executor, name: str, *, always: bool = False) -> bool:
    """What was declared counts again. False if nobody has declared it."""
    return bool(await executor.fetch("change_limit", name, None, always))


async def read_limits(reader: Reader, name: str | None = None) -> list[LimitState]:
    """All limits, or one if it was ever declared, by name."""
    return [_state(named("read_limits", row)) for row in await reader.fetch("read_limits", name)]


async def waiting_at_limits(reader: Reader, most: int) -> dict[str, int]:
    """How many wait at each limit, counted up to `most`: cheap, however many there are."""
    return {name: min(waiting, most) for name, waiting in await reader.fetch("waiting_at_limits", most)}


async def lines(reader: Reader, name: str, limit: int, key: str | None = None) -> list[GateState]:
    """The lines of a limit, the longest first; one of them, with a key."""
    rows = [named("gate_lines", row) for row in await reader.fetch("gate_lines", name, key, limit)]
    return [_gate(row) for row in rows]


async def recount(executor: Executor, name: str) -> int:
    """Count the places of a limit anew; at how many gates that was wrong. Reads all unfinished jobs."""
    async with executor.transaction():
        await executor.fetch("lock_gates", name)
        corrected: int = (await executor.fetch("recount_gates", name))[0][0]
    return corrected


async def note_age(reader: Reader) -> float:
    """For how many seconds a gate has wanted a look, at the longest."""
    age: float = (await reader.fetch("note_age"))[0][0]
    return age


async def admit(session: Session, room: int, horizon: float) -> Admitted:
    """Let go whom the gates let through, of at most so many notes; rates up to `horizon` seconds ahead."""
    rows = await session.fetch("admit", room, horizon)
    if not rows:
        return Admitted(0, 0, False, None, False, {})
    row = rows[0]
    by_limit = json.loads(row["by_limit"]) if row["by_limit"] else {}
    return Admitted(row["admitted"], row["ready"], row["busy"], row["next_in"], row["any_limit"], by_limit)


async def note_lines(session: Session, after: str, room: int) -> str | None:
    """Have a look taken at a page of lines that nobody would look at again; where the next page begins, if any does."""
    rows = await session.fetch("note_lines", after, room)
    return rows[0]["next"] if rows else None


async def forget_gates(session: Session, after: str, room: int, idle: float) -> str | None:
    """Remove, of a page of gates, those that were not used for so many seconds; where the next one begins, if any."""
    rows = await session.fetch("forget_gates", after, room, idle)
    return rows[0]["next"] if rows else None


def _values(row: LimitRow) -> tuple[str, int | None, int | None, float | None, int, bool]:
    return row.name, row.concurrency, row.count, row.per, row.burst, row.ordered


def _state(row: Mapping[str, Any]) -> LimitState:
    declared, changed = json.loads(row["declared"]), json.loads(row["changed"] or "{}")
    return LimitState(
        _row(row["name"], declared | changed), _row(row["name"], declared), changed, row["declared_by"],
        row["declared_at"], row["changed_at"], row["held"], row["waiting"], row["gates"], row["oldest"],
    )  # fmt: skip


def _row(name: str, said: Mapping[str, Any]) -> LimitRow:
    """What plain SQL has left out, or written as no number, is not said."""
    concurrency, count, per, burst = (_number(said.get(key)) for key in ("concurrency", "count", "per", "burst"))
    return LimitRow(name, concurrency, count, per, burst or 1, ordered=said.get("ordered") is True)


def _number(value: Any) -> Any:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _gate(row: Mapping[str, Any]) -> GateState:
    _, line_feed, key = row["gate"].partition("\n")
    return GateState(
        row["gate"], key if line_feed else None, row["held"], row["waiting"], row["oldest"], row["free_in"]
    )
