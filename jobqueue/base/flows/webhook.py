"""What a webhook is, and what became of its deliveries."""

from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urlsplit
from uuid import UUID

from jobqueue.base.job import Job, JobState

QUEUE = "webhooks"
"""The queue of all deliveries."""


def origin_of(webhook: UUID) -> str:
    """The origin of its deliveries, by which they are found."""
    return f"webhook:{webhook}"


@dataclass(frozen=True, slots=True)
class Webhook:
    """A receiver that is told of events, as it stood when it was read."""

    id: UUID
    url: str = field(repr=False)
    """May well hold a secret of the receiver's: no log and no error has more of it than `host`."""
    events: tuple[str, ...]
    """The types it is told of; none: all but those of webhooks."""
    task: str | None
    queue: str | None
    origin: str | None
    bundle_id: UUID | None
    job_id: UUID | None
    secret_env: str | None
    """The environment variable that has its secret; None: the secret is ours."""
    version: int
    """How many secrets it has had."""
    rotated_at: datetime | None
    failures: int
    """Tries that have failed since one succeeded."""
    failing_since: datetime | None
    paused_at: datetime | None
    disabled_reason: str | None
    """`gone`: the receiver answered 410; `failing`: every try has failed for three days."""
    created_at: datetime

    @property
    def host(self) -> str:
        """Where it is, without path and query."""
        return host_of(self.url)

    @property
    def state(self) -> str:
        """In a word: `disabled`, `paused`, `failing` or `active`."""
        if self.disabled_reason is not None:
            return "disabled"
        if self.paused_at is not None:
            return "paused"
        return "active" if self.failing_since is None else "failing"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one receiver: a job of the queue `webhooks`."""

    id: UUID
    """The job's, and what the receiver sees as `webhook-id`, the same for all tries."""
    event: str
    """The type of what is told; empty if plain SQL has written what cannot be read."""
    state: JobState
    """`completed`: the receiver has it; `dead`: it never will; `scheduled`: it is tried again at `next_try`."""
    tries: int
    status: int | None
    """What the receiver answered last; None if it did not."""
    error: str | None
    """How the last try failed, if it did."""
    next_try: datetime | None
    ended_at: datetime | None

    @classmethod
    def of(cls, job: Job, event: str) -> "Delivery":
        """From its job, read with its payload."""
        failure = job.error if job.state is not JobState.COMPLETED else None
        return cls(
            id=job.id,
            event=event,
            state=job.state,
            tries=job.attempt,
            status=_status(job.result if failure is None else failure.data),
            error=None if failure is None else failure.message,
            next_try=None if job.ended or job.running else job.due_at,
            ended_at=job.finished_at,
        )


class DeliveryPage(list[Delivery]):
    """Some deliveries, the newest first; `deliveries(id, after=page.next)` goes on, until `next` is None."""

    next: UUID | None = None


def host_of(url: str) -> str:
    """The host and port of a URL: all of it that may be told. Empty if plain SQL has written what cannot be read."""
    try:
        return urlsplit(url).netloc.rpartition("@")[2]
    except ValueError:
        return ""


def _status(data: object) -> int | None:
    status = data.get("status") if isinstance(data, dict) else None
    return status if isinstance(status, int) else None
