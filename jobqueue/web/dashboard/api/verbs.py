"""What is done to queues, tasks, schedules, limits, bundles, webhooks and bulk actions, for programs.

The verbs are those of the forms: a body is turned into the fields that a form would have.
"""

import json
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field, JsonValue
from starlette.datastructures import QueryParams

from jobqueue.base.errors import InvalidOption
from jobqueue.web.dashboard.acting import deferring, verbs
from jobqueue.web.dashboard.reading.acting.bulks import BulkRow, read_bulk
from jobqueue.web.dashboard.reading.tasks import find_task
from jobqueue.web.dashboard.reading.view import Model, View


class Done(Model):
    """What was done."""

    action: str
    subject: str


class Pause(Model):
    """For how long: so many minutes, or until a moment; neither: until it is resumed."""

    minutes: Annotated[float, Field(gt=0)] | None = None
    until: AwareDatetime | None = None


class Keep(Model):
    """How long jobs that have ended stay, as 90, 12h or 7d, and how many at most; what is left out is the default."""

    completed: str | None = None
    other: str | None = None
    most_completed: int | None = None
    most_other: int | None = None


class Backfill(Model):
    """The planned times that are meant."""

    since: AwareDatetime
    until: AwareDatetime


class LimitSet(Model):
    """How many at once; or how many in so many seconds."""

    concurrency: int | None = None
    count: int | None = None
    per: float | None = None
    burst: int | None = None


class Defer(Model):
    """A job to store."""

    args: Annotated[dict[str, JsonValue], Field(default_factory=dict)]
    delay: str | None = None
    """As 90, 12h or 7d."""
    at: AwareDatetime | None = None
    queue: str | None = None
    priority: int | None = None


class Deferred(Model):
    """The job that was stored; of a duplicate the one that was there."""

    id: UUID
    duplicate: bool


async def pause_queue(view: View, name: str, how: Pause) -> Done:
    """Workers take no jobs from this queue. Raises InvalidOption, DatabaseError."""
    return await _do(view, "queues/pause", "queue", name, how)


async def resume_queue(view: View, name: str) -> Done:
    """Workers take jobs from this queue again. Raises InvalidOption, DatabaseError."""
    return await _do(view, "queues/resume", "queue", name)


async def keep_queue(view: View, name: str, how: Keep) -> Done:
    """Say how long this queue's jobs stay once they have ended. Raises InvalidOption, DatabaseError."""
    return await _do(view, "queues/keep", "queue", name, how)


async def pause_schedule(view: View, name: str, how: Pause) -> Done:
    """No jobs are made by this schedule. Raises InvalidOption, DatabaseError."""
    return await _do(view, "schedules/pause", "name", name, how)


async def resume_schedule(view: View, name: str) -> Done:
    """Jobs are made by this schedule again. Raises InvalidOption, DatabaseError."""
    return await _do(view, "schedules/resume", "name", name)


async def trigger_schedule(view: View, name: str) -> Done:
    """Make a job of this schedule now. Raises InvalidOption, DatabaseError."""
    return await _do(view, "schedules/trigger", "name", name)


async def backfill_schedule(view: View, name: str, how: Backfill) -> Done:
    """Make a job for each planned time that has none. Raises InvalidOption, DatabaseError."""
    return await _do(view, "schedules/backfill", "name", name, how)


async def delete_schedule(view: View, name: str) -> Done:
    """Delete this schedule; the jobs that it has made stay. Raises InvalidOption, DatabaseError."""
    return await _do(view, "schedules/delete", "name", name)


async def set_limit(view: View, name: str, how: LimitSet) -> Done:
    """Set this limit, above what the code says. Raises InvalidOption, DatabaseError."""
    return await _do(view, "limits/set", "name", name, how)


async def change_limit(view: View, name: str, verb: Literal["reset", "recount"]) -> Done:
    """Have this limit as the code says, or count anew who holds a place. Raises InvalidOption, DatabaseError."""
    return await _do(view, f"limits/{verb}", "name", name)


async def change_bundle(view: View, id: UUID, verb: Literal["cancel", "retry", "close", "delete"]) -> Done:
    """Do this to a bundle and its jobs. Raises BundleNotFound, DatabaseError."""
    return await _do(view, f"bundles/{verb}", "id", str(id))


async def change_webhook(view: View, id: UUID, verb: Literal["pause", "resume", "test", "redeliver", "delete"]) -> Done:
    """Do this to a webhook. Raises WebhookNotFound, DatabaseError."""
    return await _do(view, f"webhooks/{verb}", "id", str(id))


async def cancel_bulk(view: View, id: UUID) -> BulkRow:
    """Go no further with a bulk action; what was done stands. Raises BulkNotFound, DatabaseError."""
    await _do(view, "bulk/cancel", "id", str(id))
    return await read_bulk(view, id)


async def defer_task(view: View, name: str, what: Defer) -> Deferred | None:
    """Store a job of this task. Raises InvalidOption, InvalidPayload, DuplicateJob, DatabaseError."""
    task = find_task(view, name)
    if task is None:
        return None
    said = {each: text for each, text in _fields(what).items() if each != deferring.WHOLE}
    entry = deferring.read_entry(task, said | {deferring.WHOLE: json.dumps(what.args)}, view.access)
    for option, rule in entry.errors.items():
        raise InvalidOption(option, rule)
    job = await deferring.send(view, entry)
    return Deferred(id=job.id, duplicate=job.duplicate)


async def _do(view: View, verb: str, field: str, subject: str, how: Model | None = None) -> Done:
    form = QueryParams({field: subject} | ({} if how is None else _fields(how)))
    await verbs.act(view, verb, form)
    return Done(action=verb, subject=subject)


def _fields(how: Model) -> dict[str, str]:
    said = how.model_dump(mode="json", exclude_none=True)
    return {name: str(value) for name, value in said.items()}
