"""Bulk actions: what workers do to all jobs of a filter, page by page."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from jobqueue.base.acting.bulk import Bulk, BulkState
from jobqueue.base.errors import BulkNotFound
from jobqueue.telling.story import REASONS
from jobqueue.web.dashboard.reading.view import Model, View

_PAGE, _PAGES = 50, 10
_OPEN = frozenset({"state", "queue", "task", "origin", "bundle", "bundled", "key", "error", "fingerprint"})
"""What anybody may see of a filter; the rest may be a part of a payload."""


class BulkRow(Model):
    """A bulk action."""

    id: UUID
    at: datetime
    """When it was asked for: jobs that came later, or ended later, are not touched."""
    who: str | None
    via: str | None
    action: str
    filter: dict[str, Any]
    """Which jobs are meant, as far as it may be seen."""
    hidden: list[str]
    """The names of the other filters that are set: their values may be parts of payloads."""
    to: dict[str, Any]
    state: BulkState
    matched: int
    """Jobs found and dealt with so far."""
    changed: int
    refused: dict[str, int]
    finished_at: datetime | None
    error: str | None
    """The class of what has ended it, if it has failed."""


class Bulks(Model):
    """A page of them, the newest first."""

    bulks: list[BulkRow]
    next: UUID | None


async def read_bulks(view: View, *, before: UUID | None = None) -> Bulks:
    """A page of bulk actions. Who sees some queues only sees those that are about one of them;
    then a page may have fewer than fit, and a `next`. Raises DatabaseError."""
    seen: list[BulkRow] = []
    for _ in range(_PAGES):
        page = await view.site.app.bulks.list(before=before, limit=_PAGE)
        for bulk in page:
            if _is_seen(view, bulk) and len(seen) < _PAGE:
                seen.append(_row(view, bulk))
        if len(seen) == _PAGE:
            return Bulks(bulks=seen, next=seen[-1].id)
        if len(page) < _PAGE:
            return Bulks(bulks=seen, next=None)
        before = page[-1].id
    return Bulks(bulks=seen, next=before)


async def read_bulk(view: View, id: UUID) -> BulkRow:
    """One, as it stands now. Raises BulkNotFound, also for one that may not be seen, and DatabaseError."""
    bulk = await view.site.app.bulks.get(id)
    if not _is_seen(view, bulk):
        raise BulkNotFound(id)
    return _row(view, bulk)


def _is_seen(view: View, bulk: Bulk) -> bool:
    if view.access.queues is None:
        return True
    queue, to = bulk.filter.get("queue"), bulk.to.get("to")
    return isinstance(queue, str) and view.access.sees(queue) and (to is None or view.access.sees(str(to)))


def _row(view: View, bulk: Bulk) -> BulkRow:
    shown = {name: value for name, value in bulk.filter.items() if _may_show(view, name, value)}
    return BulkRow.of(
        bulk, filter=shown, hidden=sorted(bulk.filter.keys() - shown.keys()), refused=_numbers(bulk.refused)
    )


def _may_show(view: View, name: str, value: object) -> bool:
    """What is redacted is so by a job, and here is none: then it stays hidden."""
    said = name in _OPEN or (name == "reason" and value in REASONS)
    return said or (view.access.payloads and view.site.redact is None)


def _numbers(refused: Mapping[str, object]) -> dict[str, int]:
    """Plain SQL may have written anything."""
    return {reason: number for reason, number in refused.items() if isinstance(number, int)}
