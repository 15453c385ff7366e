"""Groups the failures of the latest dead jobs: how many failed alike, where, and since when.

It reads so many dead jobs and no more, and says back to when that is. No message is read: those are like payloads.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from jobqueue.store.connection.executor import Executor, named
from jobqueue.store.looking.lookup import as_uuid

ROOM = 20_000
"""Dead jobs that are looked at: some 200 ms."""
PATIENCE = 2.0
"""Seconds after which no other job is looked at."""
GROUPS = 100
_BUCKETS = 20


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """Dead jobs of one task whose last errors are alike."""

    fingerprint: str
    """What they have in common, as a filter takes it: `app.jobs.retry(fingerprint=group.fingerprint)`."""
    task: str
    error_class: str
    """Empty if they ended without any error, see `reasons`."""
    place: str | None
    """Where the latest of them failed, as `AttemptError.code_place`; the line is not part of the fingerprint."""
    count: int
    first: datetime
    """When the first of them ended, in the window."""
    last: datetime
    queues: tuple[str, ...]
    reasons: tuple[str, ...]
    sample: UUID
    """The job among them that was deferred last."""
    trend: tuple[int, ...] = field(repr=False)
    """How many ended in each twentieth of the window, the oldest first."""


class ErrorGroups(list[ErrorGroup]):
    """The groups of a window, the largest first, at most as many as were asked for."""

    since: datetime | None = None
    """When the oldest dead job of the window ended; None if there is none."""
    read_at: datetime
    """When the window ends: when it was read, by the database's clock."""
    looked: int = 0
    """How many dead jobs it has, those of other queues included."""
    whole: bool = True
    """True if there are no older dead jobs in the archive."""


async def error_groups(
    executor: Executor,
    *,
    room: int = ROOM,
    queues: Collection[str] | None = None,
    limit: int = GROUPS,
    patience: float = PATIENCE,
) -> ErrorGroups:
    """The failures of the latest `room` dead jobs, in groups; of fewer, once `patience` seconds are over.

    `queues`: only those in them.
    """
    rows = await executor.fetch(
        "error_groups", room, patience, None if queues is None else sorted(queues), limit, _BUCKETS
    )
    found = [named("error_groups", row) for row in rows]
    groups = ErrorGroups(_group(row) for row in found if row["fingerprint"] is not None)
    for name in ("since", "read_at", "looked", "whole"):
        setattr(groups, name, found[0][name])
    return groups


def _group(row: dict[str, Any]) -> ErrorGroup:
    values = {name: row[name] for name in ("fingerprint", "task", "place", "first", "last")}
    trend = dict(zip(row["buckets"], row["counts"], strict=True))
    return ErrorGroup(
        **values,
        error_class=row["class"],
        count=row["jobs"],
        queues=tuple(row["queues"]),
        reasons=tuple(row["reasons"]),
        sample=as_uuid(row["sample"]),
        trend=tuple(trend.get(bucket, 0) for bucket in range(_BUCKETS)),
    )
