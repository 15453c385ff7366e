"""What can be asked: one row each, below `/api/v1`."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from jobqueue.web.dashboard.api.jobs import change_jobs, list_jobs
from jobqueue.web.dashboard.reading.audit import read_audit
from jobqueue.web.dashboard.reading.bundles import read_bundles
from jobqueue.web.dashboard.reading.job import read_job, read_payload
from jobqueue.web.dashboard.reading.limits import read_limit, read_limits
from jobqueue.web.dashboard.reading.overview import read_overview
from jobqueue.web.dashboard.reading.queues import read_queue, read_queues
from jobqueue.web.dashboard.reading.schedules import read_schedule, read_schedules
from jobqueue.web.dashboard.reading.tasks import read_task, read_tasks
from jobqueue.web.dashboard.reading.webhooks import read_webhook, read_webhooks
from jobqueue.web.dashboard.reading.workers import read_worker, read_workers

Answer: TypeAlias = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Row:
    """A reader or a verb: an async function of a View, and of what a request says.

    Its parameters named in `path` come from there. The one of a POST whose type is a Model is the body; all others come
    from the query, but for those that are `hidden`. The first line of its docstring describes it, its return type is
    what is sent: a Model, or a list of some. None is 404.
    """

    method: str
    path: str
    answer: Answer
    payloads: bool = False
    """Only for those who may see payloads: else it would tell what they may not see."""
    hidden: tuple[str, ...] = ()


ROWS: tuple[Row, ...] = (
    Row("GET", "/overview", read_overview),
    Row("GET", "/queues", read_queues),
    Row("GET", "/queues/{name:path}", read_queue),
    Row("GET", "/jobs", list_jobs),
    Row("GET", "/jobs/{id}", read_job),
    Row("POST", "/jobs/{id}/payload", read_payload, payloads=True),  # each look is in the audit
    Row("POST", "/jobs:{action}", change_jobs),
    Row("GET", "/tasks", read_tasks),
    Row("GET", "/tasks/{name:path}", read_task),
    Row("GET", "/workers", read_workers),
    Row("GET", "/workers/{id}", read_worker),
    Row("GET", "/schedules", read_schedules),
    Row("GET", "/schedules/{name:path}", read_schedule, hidden=("show",)),
    Row("GET", "/limits", read_limits),
    Row("GET", "/limits/{name:path}", read_limit),
    Row("GET", "/bundles", read_bundles),
    Row("GET", "/webhooks", read_webhooks),
    Row("GET", "/webhooks/{id}", read_webhook),
    Row("GET", "/audit", read_audit),
)
