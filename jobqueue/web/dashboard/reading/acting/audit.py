"""Who did what."""

from datetime import datetime
from typing import Any
from uuid import UUID

from jobqueue.base.acting.audit import AuditEntry
from jobqueue.telling.story import REASONS
from jobqueue.web.dashboard.reading.view import Model, View

_PAGE = 50


class AuditRow(Model):
    """One call that changed something, or was to."""

    id: int
    at: datetime
    who: str
    via: str | None
    action: str
    what: dict[str, Any]
    matched: int
    changed: int
    refused: dict[str, int]


class Audit(Model):
    """A page of them, the newest first."""

    entries: list[AuditRow]
    next: int | None


async def read_audit(
    view: View, *, who: str | None = None, action: str | None = None, job: UUID | None = None, before: int | None = None
) -> Audit:
    """A page of the audit. Who sees some queues only sees what he did himself. Raises InvalidOption."""
    if view.access.queues is not None:
        who = view.access.user
    page = await view.site.app.audit.list(who=who, action=action, job=job, before=before, limit=_PAGE)
    return Audit(entries=[_row(view, each) for each in page], next=page.next)


def _row(view: View, entry: AuditEntry) -> AuditRow:
    """A task's own words for why a job ended, by which somebody has searched, are a part of a payload."""
    row, meant = AuditRow.of(entry), entry.what.get("filter")
    if view.access.payloads or not isinstance(meant, dict) or meant.get("reason", "fatal") in REASONS:
        return row
    return row.model_copy(update={"what": {**entry.what, "filter": {**meant, "reason": True}}})
