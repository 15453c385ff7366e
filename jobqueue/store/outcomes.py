"""Attempts end: a batch of outcomes in one fenced statement each for the finished and the returned.

Every row is matched by (id, fence). A row that does not match is refused: somebody else holds the job, or this very
claim has written its outcome already and only the answer was lost.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias
from uuid import UUID

import orjson

from jobqueue.base.job import AttemptError
from jobqueue.base.outcome import Cancelled, Dead, Done, Outcome, PutAside, Released, Rescued, Retried, Snoozed
from jobqueue.store.connection.executor import Executor
from jobqueue.store.connection.faults import DATABASE_ERRORS, Fault, classify
from jobqueue.store.connection.pool import STATEMENT_LIMIT
from jobqueue.store.schema.statements import statement
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
_COMPLETED, _CANCELLED = Done("null"), Cancelled("requested")
_NOBODY = 0
"""The fence of a job that nobody has claimed."""
_ASIDE_FIRST, _ASIDE_CAP, _ASIDE_SHARE = 1.0, 60.0, 0.25


async def write(session: Executor, batch: Sequence[Ended]) -> set[UUID]:
    """Write a batch; the ids that were written, now or by an earlier try of this same batch."""
    return set(await write_each(session, batch))


async def write_each(session: Executor, batch: Sequence[Ended]) -> dict[UUID, Outcome]:
    """As `write`, with the outcome that each job got: one that was asked to end gets no further run."""
    ordered = sorted(batch, key=lambda ended: ended.id)  # every writer locks in id order
    final = [ended for ended in ordered if isinstance(ended.outcome, Done | Cancelled | Dead)]
    back = [ended for ended in ordered if not isinstance(ended.outcome, Done | Cancelled | Dead)]
    written, over = set[UUID](), dict[UUID, Outcome]()
    if back:
        rows = await session.fetch("return_jobs", *_columns([_returning(ended) for ended in back]))
        written = {row["id"] for row in rows if not row["cancelled"]}
        asked = {row["id"] for row in rows if row["cancelled"]}
        written |= await _done_before(session, "already_returned", back, written | asked)
        over = await _over_before(session, [ended for ended in back if ended.id not in written | asked])
        final += [replace(ended, outcome=_instead_of(ended.outcome)) for ended in back if ended.id in asked]
    outcomes = over | {ended.id: ended.outcome for ended in back if ended.id in written}
    if final:
        finished = await _finish(session, final)
        outcomes |= {ended.id: ended.outcome for ended in final if ended.id in finished}
    return outcomes


def _instead_of(outcome: Outcome) -> Cancelled:
    return replace(_CANCELLED, error=outcome.error) if isinstance(outcome, Retried | Rescued) else _CANCELLED


async def complete_on(connection: Any, schema: str, ended: Ended) -> bool:
    """Finish a job inside the transaction that this connection is in; False if its claim is lost."""
    values = _columns([_finishing(ended)])
    return bool(await connection.fetch(statement("finish_jobs", schema), *values, timeout=STATEMENT_LIMIT))


async def holds_still(connection: Any, schema: str, id: UUID, fence: int) -> bool:
    """Whether this claim still holds; it stays so until the connection's transaction ends."""
    return bool(await connection.fetch(statement("holds_still", schema), id, fence, timeout=STATEMENT_LIMIT))


async def was_completed(executor: Executor, id: UUID, fence: int) -> bool:
    """Whether this very claim has finished its job."""
    return bool(await _before(executor, "already_finished", [(id, fence)]))


async def finish_waiting(executor: Executor, ids: Sequence[UUID], outcome: Cancelled) -> set[UUID]:
    """End jobs that nobody has claimed; those that were ended so."""
    rows = [_finishing(Ended(id, _NOBODY, outcome)) for id in sorted(ids)]
    return await _finish_rows(executor, rows) if rows else set()


async def _finish(session: Executor, final: list[Ended]) -> set[UUID]:
    written = await _finish_rows(session, [_finishing(ended) for ended in final])
    return written | await _done_before(session, "already_finished", final, written)


async def _finish_rows(session: Executor, rows: list[Row]) -> set[UUID]:
    try:
        return await _fetch(session, "finish_jobs", rows)
    except DATABASE_ERRORS as error:
        if classify(error) is not Fault.NO_PARTITION:
            raise
    await session.fetch("extend_archive", 7)
    return await _fetch(session, "finish_jobs", rows)


async def _over_before(session: Executor, refused: list[Ended]) -> dict[UUID, Outcome]:
    """Which of these this very claim has ended, and how: by an earlier try, or in its handler's own transaction."""
    rows = await _before(session, "already_finished", [(ended.id, ended.fence) for ended in refused])
    return {id: _COMPLETED if state == "completed" else _CANCELLED for id, state in rows}


async def _done_before(session: Executor, name: str, batch: list[Ended], written: set[UUID]) -> set[UUID]:
    """Which of the refused outcomes this very claim has written before: then only the answer was lost."""
    rows = await _before(session, name, [(ended.id, ended.fence) for ended in batch if ended.id not in written])
    return {row[0] for row in rows}


async def _before(session: Executor, name: str, refused: list[Row]) -> Sequence[Any]:
    rows = await session.fetch(name, *_columns(refused)) if refused else []
    if rows:
        await await_standby(session)
    return rows


async def _fetch(session: Executor, name: str, rows: list[Row]) -> set[UUID]:
    return {row[0] for row in await session.fetch(name, *_columns(rows))}  # by place: SQLAlchemy gives plain tuples


def _columns(rows: list[Row]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _finishing(ended: Ended) -> Row:
    match ended.outcome:
        case Done(result):
            return ended.id, ended.fence, "completed", result, None, None
        case Cancelled(reason, error):
            return ended.id, ended.fence, "cancelled", None, reason, error_json(error)
        case Dead(reason, error):
            return ended.id, ended.fence, "dead", None, reason, error_json(error)
    raise AssertionError(ended.outcome)


def _returning(ended: Ended) -> Row:
    """id, fence, delay, at, refund, keep, aside, queue, priority, error, lost."""
    head = (ended.id, ended.fence)
    match ended.outcome:
        case Retried(error, delay, at, queue, priority):
            return *head, delay or 0.0, at, 0, False, False, queue, priority, error_json(error), 0
        case Snoozed(delay, at):
            return *head, delay or 0.0, at, 1, False, False, None, None, None, 0
        case PutAside():
            wait = min(_ASIDE_CAP, max(_ASIDE_FIRST, ended.aside_for * _ASIDE_SHARE))
            return *head, wait, None, 1, False, True, None, None, None, 0
        case Released(lost):
            return *head, 0.0, None, 1, True, False, None, None, None, int(lost)
        case Rescued(error, delay):
            return *head, delay, None, 1, False, False, None, None, error_json(error), 0
    raise AssertionError(ended.outcome)


def error_json(error: AttemptError | None) -> str | None:
    """An error as JSON, to be appended to the job's history. The statement adds time and worker."""
    if error is None:
        return None
    return orjson.dumps(
        {
            "class": error.error_class,
            "message": error.message,
            "traceback": error.traceback,
            "data": error.data,
            "attempt": error.attempt,
        }
    ).decode()
