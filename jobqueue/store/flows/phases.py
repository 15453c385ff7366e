"""Phases of jobs: recorded by whoever has the claim, found again by the next, and shown."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from jobqueue.base.flows.phase import Found, Phase, Record, Waking, state_of
from jobqueue.base.job import WorkerId
from jobqueue.store.connection.executor import Executor, Reader
from jobqueue.store.connection.pool import STATEMENT_LIMIT
from jobqueue.store.dated import fetch_dated
from jobqueue.store.looking.lookup import as_uuid
from jobqueue.store.schema.statements import statement

MOST_PHASES = 10_000
"""Of one job: all are read when a run comes to its first phase."""
FITTING = 16_384
"""Bytes up to which a result is read with the others."""

Claimed: TypeAlias = tuple[UUID, int]
"""A job and the fence of its claim."""
Key: TypeAlias = tuple[int, str]
"""The fence of a claim and the name of a phase: a job may run here twice, if one run has lost its claim."""


class Stood(NamedTuple):
    """Where a job stood when its worker died."""

    phase: str
    place: int
    seconds: float
    """Since it began."""
    over: bool
    """It had ended, and nothing that began after it is on record."""
    progress: str | None
    """The last report of the handler, as JSON text."""


_Row: TypeAlias = tuple[object, ...]


async def load_phases(executor: Executor, ids: Sequence[UUID]) -> dict[UUID, list[Found]]:
    """What earlier runs of these jobs have left; jobs without phases are not among them."""
    found = defaultdict[UUID, list[Found]](list)
    for id, *rest in await executor.fetch("load_phases", list(ids), FITTING):
        found[as_uuid(id)].append(Found(*rest))
    return found


async def phase_result(executor: Executor, id: UUID, name: str) -> str | None:
    """The result of a completed phase as JSON text; None if there is none."""
    rows = await executor.fetch("phase_result", id, name)
    return rows[0][0] if rows else None


async def record_phases(
    executor: Executor, worker: WorkerId, records: Sequence[tuple[Claimed, Record]]
) -> dict[Key, Waking | None]:
    """Store the last word of each phase, each once; those that are stored, with until when it sleeps.

    What is not among them is of a claim that is lost, or of a job that another transaction has locked.
    """
    rows = await fetch_dated(executor, "record_phases", *_columns([_row(*each) for each in records]), worker)
    return {(fence, name): None if at is None else Waking(at, sleeps) for fence, name, at, sleeps in rows}


async def record_on(connection: Any, schema: str, worker: WorkerId, claim: Claimed, record: Record) -> bool:
    """Store a phase with the transaction that this connection is in; False if the claim is lost.

    The caller holds the share of the job's row, so nobody can have locked it.
    """
    sql = statement("record_phases", schema, late=True)
    return bool(await connection.fetch(sql, *_columns([_row(claim, record)]), worker, timeout=STATEMENT_LIMIT))


async def phases_under_way(executor: Executor, expired: Sequence[tuple[UUID, UUID]]) -> dict[UUID, Stood]:
    """Where these jobs stood when the workers that had them died: by job, for those of which anything is on record."""
    if not expired:
        return {}
    ids, workers = zip(*expired, strict=True)
    rows = await executor.fetch("phases_under_way", list(ids), list(workers))
    return {as_uuid(id): Stood(*rest) for id, *rest in rows}


async def list_phases(executor: Reader, id: UUID, *, payload: bool) -> list[Phase]:
    """All phases of a job in the order in which they began, with their results if `payload` says so."""
    rows = await executor.fetch("list_phases", id, MOST_PHASES, payload)
    return [_phase(*row) for row in rows]


def _row(claim: Claimed, record: Record) -> _Row:
    return (
        *claim, record.name, record.kind, record.place, record.attempt, record.took, record.over, record.sleeps,
        record.until, record.result, record.error,
    )  # fmt: skip


def _columns(rows: Sequence[_Row]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _phase(
    name: str, kind: Any, signal: str | None, place: int, attempt: int, current: bool, worker: Any, began_at: Any,
    ended_at: Any, wake_at: Any, size: int | None, result: str | None, error: str | None, job: str | None,
) -> Phase:  # fmt: skip
    over, failed = ended_at is not None, error is not None
    state = state_of(kind, job, over=over, failed=failed, current=current)
    by = None if worker is None else as_uuid(worker)
    return Phase(name, kind, state, place, attempt, by, began_at, ended_at, wake_at, signal, size, result, error)
