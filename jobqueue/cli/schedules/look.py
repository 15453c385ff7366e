"""`schedules`: list and show them, and when they come next."""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from jobqueue.base.errors import InvalidOption
from jobqueue.base.flows.schedule import Schedule, Source, origin_of
from jobqueue.base.job import Job
from jobqueue.cli.place import Place
from jobqueue.cli.schedules.meant import ask, ask_about
from jobqueue.cli.schedules.words import document, facts, planned_table, row, sentences, will_fire
from jobqueue.cli.terminal.failures import ExitCode, tell
from jobqueue.cli.terminal.output import write, write_facts, write_heading, write_json, write_table
from jobqueue.cron.schedules import Schedules, upcoming
from jobqueue.store.looking.listing import JobPage
from jobqueue.store.workers import list_workers
from jobqueue.tasks.jobs import Jobs

_SHOWN = 5
"""Planned times and jobs."""


def list_schedules(place: Place, source: Source | None, after: str, limit: int, as_json: bool) -> ExitCode:
    """A page of schedules by name."""
    page = asyncio.run(ask(place, lambda schedules: schedules.list(after=after, source=source, limit=limit)))
    if as_json:
        write_json([document(schedule) for schedule in page])
    elif page:
        headers = ("name", "state", "next", "last", "cron", "task")
        write_table(headers, map(row, page), apart=("name", "cron", "task"))
    else:
        tell("no such schedules" if source or after else "no schedules; `@app.cron` or `app.schedules.put` make some")
    if len(page) == limit and sys.stdout.isatty():
        tell(f"more, perhaps: --after '{page[-1].name}'")
    return ExitCode.OK


def show_schedule(place: Place, name: str, payload: bool, as_json: bool) -> ExitCode:
    """All that is known of one: why it does not run if it does not, its next times and its last jobs."""
    told = asyncio.run(_told(place, name))
    schedule = told.schedule
    if as_json:
        jobs = [{"id": job.id, "state": job.state, "planned_at": job.planned_at} for job in told.jobs]
        write_json(document(schedule, payload) | {"planned": told.planned, "jobs": jobs})
        return ExitCode.OK
    write(f"schedule {schedule.name}  {schedule.state}")
    for sentence in [*sentences(schedule, told.alive), *([f"cannot be fired: {told.wrong}"] if told.wrong else [])]:
        write(f"  {sentence}")
    write_facts(facts(schedule) | ({"args": schedule.args_json} if payload else {}))
    if told.planned:
        write_heading("next")
        headers, rows = planned_table(schedule, told.planned)
        write_table(headers, rows, indent="  ")
    if told.jobs:
        write_heading("last jobs")
        write_table(("id", "state", "planned", "error"), map(_job_row, told.jobs), apart=("error",), indent="  ")
    if told.jobs.next is not None:
        tell(f"more jobs, perhaps: jobs list --origin '{origin_of(name)}'")
    return ExitCode.OK


def show_next(place: Place, name: str, many: int, as_json: bool) -> ExitCode:
    """Its next planned times."""

    async def look(schedules: Schedules) -> tuple[Schedule, Sequence[datetime]]:
        return await schedules.get(name), await schedules.next(name, many)

    schedule, planned = asyncio.run(ask_about(place, name, look))
    if as_json:
        write_json(planned)
    elif planned:
        headers, rows = planned_table(schedule, planned)
        write_table(headers, rows)
    if schedule.state != "active" and not as_json:
        tell(f"schedule {name}: {', '.join(sentences(schedule, alive=True))}")
    return ExitCode.OK


@dataclass(frozen=True, slots=True)
class _Told:
    """What was found about one. `wrong`: why its times cannot be told."""

    schedule: Schedule
    planned: list[datetime]
    wrong: str | None
    jobs: JobPage
    alive: bool


async def _told(place: Place, name: str) -> _Told:
    schedule = await ask_about(place, name, lambda schedules: schedules.get(name))
    jobs = await place.ask(Jobs, lambda jobs: jobs.list(origin=origin_of(schedule.name), limit=_SHOWN))
    async with place.database() as (_, database):
        alive = any(worker.alive for worker in await list_workers(database))
    planned, wrong = _planned(schedule)
    return _Told(schedule, planned, wrong, jobs, alive)


def _planned(schedule: Schedule) -> tuple[list[datetime], str | None]:
    try:
        return (upcoming(schedule, _SHOWN) if will_fire(schedule) else []), None
    except InvalidOption as error:  # plain SQL has written it, and no worker has come to it
        return [], str(error)


def _job_row(job: Job) -> tuple[object, ...]:
    planned = "" if job.planned_at is None else f"{job.planned_at:%Y-%m-%d %H:%M:%S}"
    return job.id, job.state, planned, (job.error and job.error.error_class) or job.reason
