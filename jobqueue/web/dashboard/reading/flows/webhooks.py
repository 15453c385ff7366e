"""Webhooks, and what became of their deliveries."""

from datetime import datetime
from uuid import UUID

from jobqueue.base.errors import WebhookNotFound
from jobqueue.base.job import JobState
from jobqueue.web.dashboard.reading.jobs import searching
from jobqueue.web.dashboard.reading.view import Model, View

_PAGE = 50


class WebhookRow(Model):
    """A receiver that is told of events. Its URL may hold a secret: only its host is shown."""

    id: UUID
    host: str
    events: list[str]
    task: str | None
    queue: str | None
    origin: str | None
    state: str
    failures: int
    failing_since: datetime | None
    disabled_reason: str | None
    rotated_at: datetime | None
    created_at: datetime


class DeliveryRow(Model):
    """One event for one receiver."""

    id: UUID
    event: str
    state: JobState
    tries: int
    status: int | None
    error: str | None
    """None without `payloads`."""
    next_try: datetime | None
    ended_at: datetime | None


class WebhookPage(Model):
    """A webhook and a page of its deliveries, the newest first."""

    webhook: WebhookRow
    deliveries: list[DeliveryRow]
    next: UUID | None


async def read_webhooks(view: View) -> list[WebhookRow]:
    """All, the oldest first; none for who sees some queues only."""
    if view.access.queues is not None:
        return []
    return [WebhookRow.of(each) for each in await view.site.app.webhooks.list()]


async def read_webhook(
    view: View, id: UUID, *, state: JobState | None = None, after: UUID | None = None
) -> WebhookPage:
    """One, with its deliveries. Raises WebhookNotFound, InvalidOption."""
    if view.access.queues is not None:
        raise WebhookNotFound(id)
    webhook = await view.site.app.webhooks.get(id)
    async with searching(view, goes_on=after is not None) as patience:
        page = await view.site.app.webhooks.deliveries(id, state=state, after=after, limit=_PAGE, patience=patience)
    rows = [DeliveryRow.of(each, error=each.error if view.access.payloads else None) for each in page]
    return WebhookPage(webhook=WebhookRow.of(webhook), deliveries=rows, next=page.next)
