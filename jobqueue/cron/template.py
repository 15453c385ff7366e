"""The job of a schedule without its moment: as it is stored, and as it is made for a planned time."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson

from jobqueue.base.errors import InvalidOption
from jobqueue.base.flows.limit import schedule_gate
from jobqueue.base.flows.schedule import Schedule, Timing, lateness, origin_of, planned_id
from jobqueue.base.job import NewJob
from jobqueue.base.moments import EARLIEST, LATEST
from jobqueue.store.flows.schedules import NewSchedule

_KEPT = (
    "priority", "max_attempts", "timeout", "budget", "expires", "meta", "follow", "key", "key_scope", "key_period",
    "on_conflict",
)  # fmt: skip


def new_schedule(name: str, job: NewJob[Any], timing: Timing) -> NewSchedule:
    """What is stored of a job that shall run at planned times. Raises InvalidOption for what one job alone can have."""
    for option, said in (("delay", job.delay is not None), ("at", job.at is not None), ("id", job.resent)):
        if said:
            raise InvalidOption(option, "belongs to one job: a schedule makes a job for each planned time")
    if job.bundle is not None:
        raise InvalidOption("job", "is a member of a bundle: schedule a job that makes one")
    options = {name: getattr(job, name) for name in _KEPT} | {"gates": list(job.gates)}
    if job.on_conflict == "raise":  # there is nobody to raise it to
        options["on_conflict"] = "skip"
    return NewSchedule(name, job.task, job.queue, job.args, orjson.dumps(options).decode(), timing)


def planned_job(schedule: Schedule, planned: datetime) -> NewJob[None]:
    """The job of a planned time; always the same one. Raises InvalidOption if the row says what cannot be."""
    late = timedelta(seconds=lateness(schedule.name, planned, schedule.timing.jitter))
    at = min(max(planned + late, EARLIEST), LATEST)
    return _job(schedule, planned_id(schedule.name, planned), at)


def triggered_job(schedule: Schedule, id: UUID) -> NewJob[None]:
    """A job for now, beside what is planned. Raises as `planned_job` does."""
    return _job(schedule, id, None)


def _job(schedule: Schedule, id: UUID, at: datetime | None) -> NewJob[None]:
    said = orjson.loads(schedule.options_json)
    if not isinstance(said, dict):  # plain SQL may have written anything
        raise InvalidOption("options", "of its row are no object")
    options = {name: said[name] for name in _KEPT if name in said}
    own = [schedule_gate(schedule.name)] if schedule.timing.overlap == "queue" else []
    return NewJob(
        id=id,
        task=schedule.task,
        args=schedule.args_json,
        queue=schedule.queue,
        at=at,
        origin=origin_of(schedule.name),
        resent=True,  # its planned time may have been fired before, by a backfill or a schedule of this name
        gates=(*own, *map(str, said.get("gates", ()))),
        **options,
    )
