"""What has happened lately: charts and percentiles, read from what workers have noted by the minute and by the hour.

Each is one statement that reads some thousand short rows, never a job. Steps begin at whole multiples of their length
since 1970, UTC, and the last one is under way: its numbers grow, a minute late.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from jobqueue.base.errors import InvalidOption
from jobqueue.base.history import Deferred, DepthPoint, Rates, Spark, Sparks, Times, added, quantile
from jobqueue.base.moments import check_time, plain_seconds
from jobqueue.store.connection.executor import Reader, named

_MINUTE, _HOUR = 60, 3600
_MOST_STEPS = 3_000
_BY_MINUTE = timedelta(days=2)
"""So long back the minutes of one queue or task can be asked for."""
_TIMES_BY_MINUTE, _SPARKS_BY_MINUTE = timedelta(hours=1), timedelta(hours=3)
"""So long back those of all queues are read; beyond, hours."""
_TIMES_BACK, _SPARKS_BACK = timedelta(days=2), timedelta(days=7)
"""So long back all queues can be asked for: more would take longer than a page may."""
_SLACK = timedelta(minutes=10)
"""Whoever says just these has begun to ask a moment ago, and not every clock is right."""
_ALL = ""
"""In place of a queue: the rows that are of all together."""
_TIMES = 1_000


async def rates(
    database: Reader,
    since: datetime,
    until: datetime | None = None,
    *,
    step: int,
    queue: str | None = None,
    task: str | None = None,
) -> list[Rates]:
    """What was claimed and how it ended, per step, of the fleet or of one queue or task; zeros where nothing was.

    `step` in whole minutes, or whole hours for what is older than two days. Raises InvalidOption.
    """
    since, grain = _checked(since, step, until)
    place = _ALL if queue is None and task is None else queue
    rows = await database.fetch("rates", since, until, float(step), place, task, grain)
    return [Rates(**named("rates", row)) for row in rows]


async def deferred(database: Reader, since: datetime, *, step: int) -> list[Deferred]:
    """How many jobs were stored, per step, within the last two days. Raises InvalidOption."""
    since, _ = _checked(since, step, by_hour=False)
    return [Deferred(**named("deferred", row)) for row in await database.fetch("deferred", since, float(step))]


async def depths(database: Reader, queue: str | None, since: datetime, *, step: int) -> list[DepthPoint]:
    """How long a queue was, or all together, at the highest of each step, within the last two days.

    Zero as well if more than 200 queues were longer. Raises InvalidOption.
    """
    since, _ = _checked(since, step, by_hour=False)
    rows = await database.fetch("depths", _ALL if queue is None else queue, since, float(step))
    return [DepthPoint(**named("depths", row)) for row in rows]


async def percentiles(
    database: Reader, since: datetime, *, queue: str | None = None, task: str | None = None
) -> list[Times]:
    """How long jobs waited and ran, by queue and task, and of each queue in all: the busiest 1 000 pairs at most.

    From further back than an hour whole hours count, so that it may begin a little before `since`. Raises InvalidOption
    if that is more than two days ago, and neither queue nor task is named.
    """
    since = check_time("since", since)
    back = datetime.now(UTC) - since
    if queue is None and task is None:
        _refuse_long_ago(back, _TIMES_BACK)
    grain, length = ("minute", _MINUTE) if back <= _TIMES_BY_MINUTE + _SLACK else ("hour", _HOUR)
    rows = await database.fetch("times", _floor(since, length), queue, task, grain, _TIMES)
    pairs = [named("times", row) for row in rows]
    by_queue: dict[str, list[dict[str, Any]]] = {}
    for pair in pairs:
        by_queue.setdefault(pair["queue"], []).append(pair)
    found: list[Times] = []
    for theirs in by_queue.values():
        found.append(_times(None, theirs))
        found += [_times(pair["task"], [pair]) for pair in theirs]
    return found


async def sparks(database: Reader, since: datetime, *, step: int, room: int = 200) -> Sparks:
    """Small charts of the queues and of the tasks that have ended most, at most `room` of each. Raises InvalidOption.

    At most seven days; of what is further back than three hours, `step` must be in whole hours.
    """
    since, grain = _checked(since, step, minutes=_SPARKS_BY_MINUTE)
    _refuse_long_ago(datetime.now(UTC) - since, _SPARKS_BACK)
    rows = [named("sparks", row) for row in await database.fetch("sparks", since, float(step), grain, room)]
    last = next(row["last"] for row in rows if row["places"] is None)
    queues, tasks = dict[str, Spark](), dict[str, Spark]()
    for row in rows:
        if row["places"] is not None:
            into, name = (tasks, row["task"]) if row["queue"] is None else (queues, row["queue"])
            into[name] = Spark(_line(row, "completed", last), _line(row, "failed", last))
    return Sparks(since, float(step), queues, tasks)


def _checked(
    since: datetime,
    step: int,
    until: datetime | None = None,
    *,
    by_hour: bool = True,
    minutes: timedelta = _BY_MINUTE,
) -> tuple[datetime, str]:
    """The first step's begin, and which rows to read."""
    since, given = check_time("since", since), plain_seconds("step", step)
    if not given >= _MINUTE or given % _MINUTE:
        raise InvalidOption("step", "must be a whole number of minutes, in seconds: 60, 120, ...")
    until = datetime.now(UTC) if until is None else check_time("until", until)
    if (until - since).total_seconds() > step * _MOST_STEPS:
        raise InvalidOption("step", f"must be longer: at most {_MOST_STEPS} steps are given")
    if by_hour and step % _HOUR and datetime.now(UTC) - since > minutes + _SLACK:
        hours = minutes.total_seconds() / _HOUR
        raise InvalidOption("step", f"must be in whole hours, in seconds, for what is older than {hours:g} hours")
    return _floor(since, step), "hour" if by_hour and step % _HOUR == 0 else "minute"


def _refuse_long_ago(back: timedelta, limit: timedelta) -> None:
    if back > limit + timedelta(hours=2):
        raise InvalidOption("since", f"must be within the last {limit.days} days, if it is about all queues")


def _floor(moment: datetime, step: int) -> datetime:
    return datetime.fromtimestamp(moment.timestamp() // step * step, UTC)


def _times(task: str | None, pairs: Sequence[Mapping[str, Any]]) -> Times:
    wait = added([number or 0 for number in pair["wait"]] for pair in pairs)
    run = added([number or 0 for number in pair["run"]] for pair in pairs)
    return Times(
        pairs[0]["queue"], task, sum(pair["runs"] for pair in pairs), sum(pair["failed"] for pair in pairs),
        quantile(wait, 0.5), quantile(wait, 0.95), quantile(run, 0.5), quantile(run, 0.95),
    )  # fmt: skip


def _line(row: Mapping[str, Any], column: str, last: int) -> tuple[int, ...]:
    numbers = [0] * (max(0, last) + 1)
    for place, number in zip(row["places"], row[column], strict=True):
        if 0 <= place <= last:
            numbers[place] += number
    return tuple(numbers)
