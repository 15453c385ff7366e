"""What can be asked: one row each, below `/api/v1`."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from jobqueue.web.dashboard.api import verbs
from jobqueue.web.dashboard.api.jobs import change_jobs, list_jobs
from jobqueue.web.dashboard.reading.acting.audit import read_audit
from jobqueue.web.dashboard.reading.acting.bulks import read_bulk, read_bulks
from jobqueue.web.dashboard.reading.errors import read_error, read_errors
from jobqueue.web.dashboard.reading.flows.bundles import read_bundle_jobs, read_bundles
from jobqueue.web.dashboard.reading.flows.limits import read_limit, read_limits
from jobqueue.web.dashboard.reading.flows.schedules import read_schedule, read_schedules
from jobqueue.web.dashboard.reading.flows.webhooks import read_webhook, read_webhooks
from jobqueue.web.dashboard.reading.job import read_job, read_payload
from jobqueue.web.dashboard.reading.overview import read_overview
from jobqueue.web.dashboard.reading.queues import read_queue, read_queues
from jobqueue.web.dashboard.reading.recent import read_recent
from jobqueue.web.dashboard.reading.tasks import read_task, read_tasks
from jobqueue.web.dashboard.reading.workers import read_worker, read_workers

Answer: TypeAlias = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Row:
    """A reader or a verb: an async function of a View, and of what a request says.

    Its parameters named in `path` come from there. The one of a POST whose type is a Model is the body; all others come
    from the query. The first line of its docstring describes it, its return type is what is sent: a Model, or a list of
    some. None is 404.
    """

    method: str
    path: str
    answer: Answer
    payloads: bool = False
    """Only for those who may see payloads: else it would tell what they may not see."""


ROWS: tuple[Row, ...] = (
    Row("GET", "/overview", read_overview),
    Row("GET", "/recent", read_recent),
    Row("GET", "/queues", read_queues),
    Row("GET", "/queues/{name:path}", read_queue),
    Row("POST", "/queues/{name:path}:pause", verbs.pause_queue),
    Row("POST", "/queues/{name:path}:resume", verbs.resume_queue),
    Row("POST", "/queues/{name:path}:keep", verbs.keep_queue),
    Row("GET", "/jobs", list_jobs),
    Row("GET", "/jobs/{id}", read_job),
    Row("POST", "/jobs/{id}/payload", read_payload, payloads=True),  # each look is in the audit
    Row("POST", "/jobs:{action}", change_jobs),
    Row("GET", "/errors", read_errors),
    Row("GET", "/errors/{fingerprint}", read_error),
    Row("GET", "/tasks", read_tasks),
    Row("GET", "/tasks/{name:path}", read_task),
    Row("POST", "/tasks/{name:path}:defer", verbs.defer_task),
    Row("GET", "/workers", read_workers),
    Row("GET", "/workers/{id}", read_worker),
    Row("GET", "/schedules", read_schedules),
    Row("GET", "/schedules/{name:path}", read_schedule),
    Row("POST", "/schedules/{name:path}:pause", verbs.pause_schedule),
    Row("POST", "/schedules/{name:path}:resume", verbs.resume_schedule),
    Row("POST", "/schedules/{name:path}:trigger", verbs.trigger_schedule),
    Row("POST", "/schedules/{name:path}:backfill", verbs.backfill_schedule),
    Row("POST", "/schedules/{name:path}:delete", verbs.delete_schedule),
    Row("GET", "/limits", read_limits),
    Row("GET", "/limits/{name:path}", read_limit),
    Row("POST", "/limits/{name:path}:set", verbs.set_limit),
    Row("POST", "/limits/{name:path}:{verb}", verbs.change_limit),
    Row("GET", "/bundles", read_bundles),
    Row("GET", "/bundles/{id}", read_bundle_jobs),
    Row("POST", "/bundles/{id}:{verb}", verbs.change_bundle),
    Row("GET", "/webhooks", read_webhooks),
    Row("GET", "/webhooks/{id}", read_webhook),
    Row("POST", "/webhooks/{id}:{verb}", verbs.change_webhook),
    Row("GET", "/audit", read_audit),
    Row("GET", "/bulks", read_bulks),
    Row("GET", "/bulks/{id}", read_bulk),
    Row("POST", "/bulks/{id}:cancel", verbs.cancel_bulk),
)
