"""Reads what there is to tell of a job."""

from uuid import UUID

from jobqueue.store.connection.executor import Reader
from jobqueue.store.flows.events import events_of_job
from jobqueue.store.flows.phases import list_phases
from jobqueue.store.flows.signals import unread_signals
from jobqueue.store.looking.lookup import find_job
from jobqueue.store.looking.overview import beside_job, place_in_line, waits_for
from jobqueue.store.workers import list_workers
from jobqueue.telling.lines import MOST
from jobqueue.telling.story import Story

_NAMED = 5
"""Of the jobs that one waits for, so many are named."""


async def read_story(reader: Reader, id: UUID, *, payload: bool) -> Story | None:
    """The story of this job; None if there is no such job. `payload`: with what its phases gave."""
    job = await find_job(reader, id)
    if job is None:
        return None
    events = await events_of_job(reader, id, job.created_at)
    waits = await waits_for(reader, id, _NAMED)
    phases = await list_phases(reader, id, payload=payload)
    signals = await unread_signals(reader, id)
    beside, workers = await beside_job(reader, id), await list_workers(reader)
    return Story(job, beside, workers, events, waits, phases, signals, await place_in_line(reader, id, MOST))
