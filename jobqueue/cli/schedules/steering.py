"""`schedules pause`, `resume`, `trigger`, `backfill` and `delete`. Moments are the database's."""

import asyncio
from dataclasses import asdict
from datetime import datetime, timedelta

from jobqueue.base.flows.schedule import Schedule
from jobqueue.cli.place import Place
from jobqueue.cli.schedules.meant import ask_about
from jobqueue.cli.schedules.words import document, next_of
from jobqueue.cli.terminal.asking import agreed, somebody_to_ask
from jobqueue.cli.terminal.failures import ExitCode, Refusal, tell
from jobqueue.cli.terminal.output import write, write_json
from jobqueue.cli.terminal.user import this_user
from jobqueue.cron.schedules import Backfilled, Schedules
from jobqueue.telling.spans import moment


def pause_schedule(place: Place, name: str, length: float | None, until: datetime | None, as_json: bool) -> ExitCode:
    """Fire it no more until it is resumed, for so many seconds, or until then."""

    async def pause(schedules: Schedules) -> Schedule:
        now = _clock(await schedules.get(name))
        end = until if length is None else now + timedelta(seconds=length)
        if end is not None and end <= now:
            raise Refusal("--until: this time is over", ExitCode.USAGE)
        return await schedules.pause(name, end, by=this_user())

    schedule = asyncio.run(ask_about(place, name, pause))
    end = moment(schedule.paused_until, schedule.read_at) or "it is resumed"
    _tell(schedule, f"is paused until {end}; its jobs go on", as_json)
    return ExitCode.OK


def resume_schedule(place: Place, name: str, as_json: bool) -> ExitCode:
    """Fire it again, also one that was broken."""

    async def resume(schedules: Schedules) -> tuple[Schedule, Schedule]:
        return await schedules.get(name), await schedules.resume(name, by=this_user())

    before, after = asyncio.run(ask_about(place, name, resume))
    rested = before.paused or before.broken is not None
    _tell(after, f"is {'resumed' if rested else 'not paused'}; {_what_comes(after)}", as_json)
    return ExitCode.OK


def trigger_schedule(place: Place, name: str, as_json: bool) -> ExitCode:
    """Store a job of it now."""
    job = asyncio.run(ask_about(place, name, lambda schedules: schedules.trigger(name, by=this_user())))
    if as_json:
        write_json({"schedule": name, "job": job})
    else:
        write(f"job {job}")
    return ExitCode.OK


def backfill_schedule(place: Place, name: str, since: datetime, until: datetime | None, as_json: bool) -> ExitCode:
    """Store the jobs of planned times that have none."""

    async def backfill(schedules: Schedules) -> Backfilled:
        end = until or _clock(await schedules.get(name))
        if end <= since:
            raise Refusal("--since: must be before --until, which is now unless it is given", ExitCode.USAGE)
        return await schedules.backfill(name, since, end, by=this_user())

    done = asyncio.run(ask_about(place, name, backfill))
    if as_json:
        write_json({"schedule": name, **asdict(done)})
    elif done.stored or done.known:
        known = f"; {done.known} planned {'time' if done.known == 1 else 'times'} had theirs" if done.known else ""
        write(f"stored {done.stored} {'job' if done.stored == 1 else 'jobs'}{known}")
    else:
        write("no planned time lies there")
    return ExitCode.OK


def delete_schedule(place: Place, name: str, yes: bool, as_json: bool) -> ExitCode:
    """Remove it, after a question. Its jobs stay."""
    schedule = asyncio.run(ask_about(place, name, lambda schedules: schedules.get(name)))
    if schedule.source == "code" and schedule.declared:
        raise Refusal(f"schedule {name!r} is in the code of a worker: remove it there, or pause it")
    if not yes:
        if not somebody_to_ask():
            raise Refusal("schedules delete is for good, and there is no terminal to ask: give --yes", ExitCode.USAGE)
        if not agreed(f"delete schedule {name!r} ({schedule.timing.cron}, task {schedule.task})? Its jobs stay"):
            tell("nothing was deleted")
            return ExitCode.ERROR
    asyncio.run(ask_about(place, name, lambda schedules: schedules.delete(name, by=this_user())))
    if as_json:
        write_json({"schedule": name, "deleted": True})
    else:
        write(f"schedule {name} is deleted; jobs that it has stored stay")
    return ExitCode.OK


def _clock(schedule: Schedule) -> datetime:
    assert schedule.read_at is not None  # noqa: S101 - whoever reads a row reads the clock
    return schedule.read_at


def _what_comes(schedule: Schedule) -> str:
    when = next_of(schedule)
    return "no planned time is left" if when is None else f"next {moment(schedule.next_at, schedule.read_at)}"


def _tell(schedule: Schedule, what: str, as_json: bool) -> None:
    if as_json:
        write_json(document(schedule))
    else:
        write(f"schedule {schedule.name} {what}")
