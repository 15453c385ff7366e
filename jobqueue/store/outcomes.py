"""Attempts end: a batch of outcomes in one fenced statement each for the finished and the returned.

Every row is matched by (id, fence, worker). A row that does not match is refused: somebody else holds the job, or this
very claim has written its outcome already and only the answer was lost.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias
from uuid import UUID

import orjson

from jobqueue.base.job import AttemptError, JsonValue, WorkerId
from jobqueue.base.outcome import (
    Cancelled,
    Dead,
    Done,
    LinedUp,
    Outcome,
    PutAside,
    Released,
    Rescued,
    Retried,
    Snoozed,
    Suspended,
)
from jobqueue.store.connection.executor import Executor
from jobqueue.store.connection.joined import join
from jobqueue.store.connection.pool import STATEMENT_LIMIT
from jobqueue.store.dated import fetch_dated
from jobqueue.store.looking.lookup import as_uuid
from jobqueue.store.standby import await_standby


@dataclass(frozen=True, slots=True)
class Ended:
    """One attempt's outcome on its way to the database."""

    id: UUID
    fence: int
    outcome: Outcome
    aside_for: float = 0.0
    """Seconds since the job was first put aside; its next look comes later the longer that is."""


Row: TypeAlias = tuple[object, ...]
_Finish: TypeAlias = tuple[UUID, int, str, str | None, str | None, str | None]
"""id, fence, state, result, reason, error."""
_COMPLETED, _CANCELLED = Done("null"), Cancelled("requested")
_FINAL = Done | Cancelled | Dead
_NOBODY = 0
"""The fence of a job that nobody has claimed."""
_NEVER_HEARS = 2**31 - 1
"""As many signals as no job is ever sent."""
_ASIDE_FIRST, _ASIDE_CAP, _ASIDE_SHARE = 1.0, 60.0, 0.25


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a batch of outcomes."""

    outcomes: Mapping[UUID, Outcome]
    """The outcome that each job got, now or by an earlier try: one that was asked to end gets no further run."""
    bundles: Collection[UUID] = ()
    """Bundles that have something to add up by now."""
    needed: Collection[UUID] = ()
    """Those of the jobs that others wait for."""
    busy: Collection[UUID] = ()
    """Jobs whose rows another transaction has locked: nothing is written of them yet, their claims hold."""


@dataclass(slots=True)
class News:
    """Whom it concerns that jobs have ended."""

    bundles: set[UUID] = field(default_factory=set)
    needed: set[UUID] = field(default_factory=set)
    """Those of the jobs that others wait for."""


async def write(session: Executor, worker: WorkerId | None, batch: Sequence[Ended]) -> Written:
    """Write the outcomes of this worker's claims; None: of jobs that nobody has claimed.

    What is in neither part of the answer is refused: another has the job.
    """
    ordered = sorted(batch, key=lambda ended: ended.id)
    final = [ended for ended in ordered if isinstance(ended.outcome, _FINAL)]
    back = [ended for ended in ordered if not isinstance(ended.outcome, _FINAL)]
    outcomes, news = dict[UUID, Outcome](), News()
    if back:
        outcomes, asked = await _return(session, worker, back)
        final += [replace(ended, outcome=_instead_of(ended.outcome)) for ended in back if ended.id in asked]
    if final:
        finished, news = await _finish(session, worker, final)
        outcomes |= {ended.id: ended.outcome for ended in final if ended.id in finished}
    left = [ended for ended in ordered if ended.id not in outcomes]
    busy = await still_claimed(session, worker, _claims(left)) if left else ()
    return Written(outcomes, news.bundles, news.needed, busy)


async def _return(
    session: Executor, worker: WorkerId | None, back: list[Ended]
) -> tuple[dict[UUID, Outcome], set[UUID]]:
    """What was given back, or had ended before; and the jobs that are to end instead."""
    rows = await fetch_dated(session, "return_jobs", *_columns([_returning(ended) for ended in back]), worker)
    written = {row["id"] for row in rows if not row["cancelled"]}
    asked = {row["id"] for row in rows if row["cancelled"]}
    written |= await _done_before(session, "already_returned", worker, back, written | asked)
    over = await _over_before(session, worker, [ended for ended in back if ended.id not in written | asked])
    return over | {ended.id: ended.outcome for ended in back if ended.id in written}, asked


def _instead_of(outcome: Outcome) -> Cancelled:
    return replace(_CANCELLED, error=outcome.error) if isinstance(outcome, Retried | Rescued) else _CANCELLED


async def complete_on(executor: Executor, worker: WorkerId, ended: Ended) -> News | None:
    """Finish a job inside the transaction of a handler's; None if its claim is lost.

    Waits, within the statement's limit, for whoever has the row locked.
    """
    values = [*_joined([_finishing(ended)]), worker]
    async with asyncio.timeout(STATEMENT_LIMIT):
        told = await executor.fetch("finish_jobs", *values)
    if not told and await holds_still(executor, worker, ended.id, ended.fence, alone=True):
        async with asyncio.timeout(STATEMENT_LIMIT):
            told = await executor.fetch("finish_jobs", *values)  # the row is locked by ourselves now
    return _told(told)[1] if told else None


async def holds_still(executor: Executor, worker: WorkerId, id: UUID, fence: int, *, alone: bool = False) -> bool:
    """Whether this claim still holds; it stays so until the executor's transaction ends.

    `alone`: waits for whoever shares the row as well, as phases do that are recorded beside.
    """
    async with asyncio.timeout(STATEMENT_LIMIT):
        return bool(await executor.fetch("holds_alone" if alone else "holds_still", id, fence, worker))


async def was_completed(executor: Executor, worker: WorkerId, id: UUID, fence: int) -> bool:
    """Whether this very claim has finished its job."""
    return bool(await _before(executor, "already_finished", [(id, fence)], worker))


async def finish_waiting(executor: Executor, ids: Sequence[UUID], outcome: Cancelled) -> tuple[set[UUID], News]:
    """End jobs that nobody has claimed, or locked; those that were ended so."""
    rows = [_finishing(Ended(id, _NOBODY, outcome)) for id in sorted(ids)]
    return await _finish_rows(executor, None, rows) if rows else (set(), News())


async def _finish(session: Executor, worker: WorkerId | None, final: list[Ended]) -> tuple[set[UUID], News]:
    """Those that are ended, now or by an earlier try."""
    written, news = await _finish_rows(session, worker, [_finishing(ended) for ended in final])
    return written | await _done_before(session, "already_finished", worker, final, written), news


async def _finish_rows(session: Executor, worker: WorkerId | None, rows: list[_Finish]) -> tuple[set[UUID], News]:
    ended, news = _told(await fetch_dated(session, "finish_jobs", *_joined(rows), worker))
    return {row[0] for row in rows} if None in ended else {id for id in ended if id is not None}, news


def _told(rows: Sequence[Any]) -> tuple[set[UUID | None], News]:
    """What finish_jobs says: those that have ended, None for all of them; and whom it concerns."""
    ended, news = set[UUID | None](), News()
    for id, bundle, needed in rows:
        if bundle is not None:
            news.bundles.add(as_uuid(bundle))
        elif needed is not None:
            news.needed.add(as_uuid(needed))
        else:
            ended.add(id)
    return ended, news


async def _over_before(session: Executor, worker: WorkerId | None, refused: list[Ended]) -> dict[UUID, Outcome]:
    """Which of these this very claim has ended, and how: by an earlier try, or in its handler's own transaction."""
    rows = await _before(session, "already_finished", _claims(refused), worker)
    return {id: _COMPLETED if state == "completed" else _CANCELLED for id, state in rows}


async def _done_before(
    session: Executor, name: str, worker: WorkerId | None, batch: list[Ended], written: set[UUID]
) -> set[UUID]:
    """Which of the refused outcomes this very claim has written before: then only the answer was lost."""
    refused = _claims([ended for ended in batch if ended.id not in written])
    return {row[0] for row in await _before(session, name, refused, worker)}


async def _before(session: Executor, name: str, refused: list[Row], worker: WorkerId | None) -> Sequence[Any]:
    rows = await session.fetch(name, *_columns(refused), worker) if refused else []
    if rows:
        await await_standby(session)
    return rows


async def still_claimed(executor: Executor, worker: WorkerId | None, claims: Sequence[Row]) -> set[UUID]:
    """Which of these claims, by id and fence, hold: what could not be written for them waits for a lock."""
    found = await executor.fetch("still_claimed", *_columns(claims), worker)
    return {as_uuid(row[0]) for row in found}  # by place: SQLAlchemy gives plain tuples


def _claims(batch: Sequence[Ended]) -> list[Row]:
    return [(ended.id, ended.fence) for ended in batch]


def _columns(rows: Sequence[Row]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _joined(rows: list[_Finish]) -> list[object]:
    """Texts of a column each: at hundreds of rows a list costs the driver six times as much."""
    ids, fences, states, results, reasons, errors = zip(*rows, strict=True)
    told = list(reasons) if any(reason is not None for reason in reasons) else None  # a handler's own words
    return [join(ids), join(fences), join(states), join(results), told, join(errors)]


def _finishing(ended: Ended) -> _Finish:
    match ended.outcome:
        case Done(result):
            return ended.id, ended.fence, "completed", result, None, None
        case Cancelled(reason, error):
            return ended.id, ended.fence, "cancelled", None, reason, error_json(error)
        case Dead(reason, error):
            return ended.id, ended.fence, "dead", None, reason, error_json(error)
    raise AssertionError(ended.outcome)


def _returning(ended: Ended) -> Row:
    """id, fence, delay, at, refund, keep, aside, queue, priority, error, lost, seen, gates."""
    head = (ended.id, ended.fence)
    match ended.outcome:
        case Retried(error, delay, at, queue, priority):
            return *head, delay or 0.0, at, 0, False, False, queue, priority, error_json(error), 0, None, None
        case Snoozed(delay, at):
            return *head, delay or 0.0, at, 1, False, False, None, None, None, 0, None, None
        case Suspended(at, seen):
            return *head, 0.0, at, 1, False, False, None, None, None, 0, _NEVER_HEARS if seen is None else seen, None
        case PutAside():
            wait = min(_ASIDE_CAP, max(_ASIDE_FIRST, ended.aside_for * _ASIDE_SHARE))
            return *head, wait, None, 1, False, True, None, None, None, 0, None, None
        case Released(lost):
            return *head, 0.0, None, 1, True, False, None, None, None, int(lost), None, None
        case LinedUp(gates):
            return *head, 0.0, None, 1, True, False, None, None, None, 0, None, orjson.dumps(gates).decode()
        case Rescued(error, delay):
            return *head, delay, None, 1, False, False, None, None, error_json(error), 0, None, None
    raise AssertionError(ended.outcome)


def error_json(error: AttemptError | None) -> str | None:
    """An error as JSON, to be appended to the job's history. The statement adds time and worker."""
    if error is None:
        return None
    told: dict[str, JsonValue] = {
        "class": error.error_class,
        "message": error.message,
        "traceback": error.traceback,
        "data": error.data,
        "attempt": error.attempt,
    }
    if error.code_place is not None:
        told["code_place"] = error.code_place
    if error.phase is not None:
        told |= {"phase": error.phase, "place": error.place}
    return orjson.dumps(told).decode()
