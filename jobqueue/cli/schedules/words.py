"""Schedules in words and as JSON values. Arguments are shown only on demand: they are the user's data."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from zoneinfo import ZoneInfo

import orjson

from jobqueue.base.flows.schedule import Schedule
from jobqueue.store.flows.schedules import Firing
from jobqueue.telling.spans import ago, duration, moment

_OPTIONS = ("priority", "max_attempts", "timeout", "budget", "expires", "key", "meta")
FIRINGS = 5
"""How many of those that come next are shown beside other things."""
FIRING_HEADERS = ("schedule", "next", "task")
_LATE = 2.0
"""Seconds from which on it is told that one is late."""


def document(schedule: Schedule, payload: bool = False) -> dict[str, object]:
    """A schedule as JSON values."""
    found: dict[str, object] = asdict(schedule)
    for name in ("timing", "args_json", "options_json"):
        del found[name]
    found |= {"state": schedule.state, "options": orjson.Fragment(schedule.options_json)} | asdict(schedule.timing)
    return found | ({"args": orjson.Fragment(schedule.args_json)} if payload else {})


def row(schedule: Schedule) -> tuple[object, ...]:
    """As the cells of a table: name, state, next, last, cron, task."""
    now = schedule.read_at
    return schedule.name, schedule.state, next_of(schedule), ago(schedule.last_at, now), times(schedule), schedule.task


def times(schedule: Schedule) -> str:
    """`0 7 * * * Europe/Vienna`."""
    timing = schedule.timing
    return timing.cron if timing.tz == "UTC" else f"{timing.cron} {timing.tz}"


def next_of(schedule: Schedule) -> str | None:
    """When it fires next: `in 5 min`, or `3 min late`; None if it does not."""
    if not will_fire(schedule):
        return None
    late = lateness(schedule)
    return ago(schedule.next_at, schedule.read_at) if late is None else f"{duration(late)} late"


def firing_row(firing: Firing) -> tuple[str, str, str]:
    """What fires next as the cells of a table: its schedule, when, its task."""
    seconds = firing.seconds
    when = f"{duration(-seconds)} late" if seconds <= -_LATE else f"in {duration(seconds)}" if seconds >= 1 else "now"
    return firing.name, when, firing.task


def lateness(schedule: Schedule) -> float | None:
    """For how many seconds it has been due; None if it is not, or not to be fired."""
    if schedule.next_at is None or schedule.read_at is None or not will_fire(schedule):
        return None
    late = (schedule.read_at - schedule.next_at).total_seconds()
    return late if late >= _LATE else None


def will_fire(schedule: Schedule) -> bool:
    """Whether its next planned time is one that a worker fires."""
    return schedule.next_at is not None and schedule.declared and schedule.broken is None


def sentences(schedule: Schedule, alive: bool) -> Iterator[str]:
    """What somebody wants to know who asks why it does not run. `alive`: some worker is."""
    match schedule.state:
        case "broken":
            yield f"cannot be fired: {schedule.broken}; mend what it says, then `schedules resume`"
        case "paused":
            yield f"paused until {moment(schedule.paused_until, schedule.read_at) or 'it is resumed'}"
        case "undeclared":
            yield (
                f"no worker has had it in its code since {moment(schedule.seen_at, schedule.read_at)}: it is not fired,"
                " and goes after a week"
            )
        case "ended":
            yield "no planned time is left"
    if (late := lateness(schedule)) is not None:
        yield f"{duration(late)} late" + ("" if alive else ": no worker is alive, and only workers fire")
    elif will_fire(schedule) and not alive:
        yield "no worker is alive, and only workers fire"


def facts(schedule: Schedule) -> dict[str, object]:
    """All that is known, but for arguments."""
    timing, now = schedule.timing, schedule.read_at
    code = "in the code of a worker"
    return {
        "task": schedule.task,
        "queue": schedule.queue,
        "cron": timing.cron,
        "tz": timing.tz,
        "said": f"{code}, last {ago(schedule.seen_at, now)}" if schedule.source == "code" else "stored",
        "missed": timing.missed,
        "overlap": timing.overlap,
        "jitter": f"up to {duration(timing.jitter)}" if timing.jitter else None,
        "starts": moment(timing.starts_at, now),
        "ends": moment(timing.ends_at, now),
        "next": moment(schedule.next_at, now) if will_fire(schedule) else None,
        "last": moment(schedule.last_at, now),
        "last job": schedule.last_job,
        "paused": moment(schedule.paused_at, now) if schedule.paused else None,
        "created": moment(schedule.created_at, now),
        "options": _options(schedule),
    }


def planned_table(
    schedule: Schedule, planned: Sequence[datetime]
) -> tuple[tuple[str, ...], list[tuple[str | None, ...]]]:
    """Headers and rows of planned times: in UTC, in the schedule's own zone if that is another, and how soon."""
    tz, now = schedule.timing.tz, schedule.read_at
    local = () if tz == "UTC" else (tz,)
    zone = None if tz == "UTC" else ZoneInfo(tz)
    rows = [
        (f"{time:%Y-%m-%d %H:%M:%S}", *(f"{time.astimezone(zone):%a %d %H:%M:%S %Z}" for _ in local), ago(time, now))
        for time in planned
    ]
    return ("UTC", *local, "when"), rows


def _options(schedule: Schedule) -> str | None:
    """Those of its jobs that say something."""
    said = orjson.loads(schedule.options_json)
    if not isinstance(said, dict):  # plain SQL may write anything
        return schedule.options_json
    shown = {name: said[name] for name in _OPTIONS if said.get(name) not in (None, 0)}
    return ", ".join(
        f"{name.replace('_', ' ')} {value if isinstance(value, str) else orjson.dumps(value).decode()}"
        for name, value in shown.items()
    )
