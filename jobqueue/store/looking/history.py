"""What has happened lately: charts and percentiles, read from what workers have noted by the minute and by the hour.

Each is one statement that reads some thousand short rows, never a job. `since` says how far back it begins, in seconds
or as a timedelta: the clock is the database's. Steps begin at whole multiples of their length since 1970, UTC, so the
first may begin a little earlier; the last one is under way: its numbers grow, a minute late.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jobqueue.base.errors import InvalidOption
from jobqueue.base.looking.history import Deferred, DepthPoint, Rates, Spark, Sparks, Times, added, quantile
from jobqueue.base.moments import Seconds, check_delay, plain_seconds
from jobqueue.store.connection.executor import Reader, named

_MINUTE, _HOUR, _DAY = 60.0, 3_600.0, 86_400.0
_MOST_STEPS = 3_000
_BY_MINUTE = 2 * _DAY
"""So far back the minutes of one queue or task can be asked for."""
_TIMES_BY_MINUTE, _SPARKS_BY_MINUTE = _HOUR, 3 * _HOUR
"""So far back those of all queues are read; beyond, hours."""
_ALL_BACK = 2 * _DAY
"""So far back all queues can be asked for: more would take longer than a page may."""
_ALL = ""
"""In place of a queue: the rows that are of all together."""
_TIMES = 1_000


async def rates(
    database: Reader,
    since: Seconds,
    until: Seconds = 0,
    *,
    step: Seconds,
    queue: str | None = None,
    task: str | None = None,
) -> list[Rates]:
    """What was claimed and how it ended, per step, of the fleet or of one queue or task; zeros where nothing was.

    It ends `until` seconds ago. `step` in whole minutes, or whole hours for what is more than two days back. Raises
    InvalidOption.
    """
    back, length = _checked(since, step)
    grain = _grain(back, length, _BY_MINUTE)
    place = _ALL if queue is None and task is None else queue
    rows = await database.fetch("rates", back, check_delay("until", until), length, place, task, grain)
    return [Rates(**named("rates", row)) for row in rows]


async def deferred(database: Reader, since: Seconds, *, step: Seconds) -> list[Deferred]:
    """How many jobs were stored, per step, within the last two days. Raises InvalidOption."""
    back, length = _checked(since, step)
    _refuse_beyond(_BY_MINUTE, back, "the counter is not kept for longer")
    return [Deferred(**named("deferred", row)) for row in await database.fetch("deferred", back, length)]


async def depths(database: Reader, queue: str | None, since: Seconds, *, step: Seconds) -> list[DepthPoint]:
    """How long a queue was, or all together, at the highest of each step, within the last two days.

    Zero as well if more than 200 queues were longer. Raises InvalidOption.
    """
    back, length = _checked(since, step)
    _refuse_beyond(_BY_MINUTE, back, "depths are not kept for longer")
    rows = await database.fetch("depths", _ALL if queue is None else queue, back, length)
    return [DepthPoint(**named("depths", row)) for row in rows]


async def percentiles(
    database: Reader, since: Seconds, *, queue: str | None = None, task: str | None = None
) -> list[Times]:
    """How long jobs waited and ran, by queue and task, and of each queue in all: the busiest 1 000 pairs at most.

    From further back than an hour whole hours count. Raises InvalidOption if that is more than two days, and neither
    queue nor task is named.
    """
    back = check_delay("since", since)
    if queue is None and task is None:
        _refuse_beyond(_ALL_BACK, back, "name a queue or a task for more")
    grain = "minute" if back <= _TIMES_BY_MINUTE else "hour"
    pairs = [named("times", row) for row in await database.fetch("times", back, queue, task, grain, _TIMES)]
    by_queue: dict[str, list[dict[str, Any]]] = {}
    for pair in pairs:
        by_queue.setdefault(pair["queue"], []).append(pair)
    found: list[Times] = []
    for theirs in by_queue.values():
        found.append(_times(None, theirs))
        found += [_times(pair["task"], [pair]) for pair in theirs]
    return found


async def sparks(database: Reader, since: Seconds, *, step: Seconds, room: int = 200) -> Sparks:
    """Small charts of the queues and of the tasks that have ended most, at most `room` of each. Raises InvalidOption.

    At most two days back; of what is further back than three hours, `step` must be in whole hours.
    """
    back, length = _checked(since, step)
    grain = _grain(back, length, _SPARKS_BY_MINUTE)
    _refuse_beyond(_ALL_BACK, back, "ask for the rates of one queue or task for more")
    rows = [named("sparks", row) for row in await database.fetch("sparks", back, length, grain, room)]
    (first,) = [row for row in rows if row["places"] is None]
    queues, tasks = dict[str, Spark](), dict[str, Spark]()
    for row in rows:
        if row is not first:
            into, name = (tasks, row["task"]) if row["queue"] is None else (queues, row["queue"])
            into[name] = Spark(_line(row, "completed", first["last"]), _line(row, "failed", first["last"]))
    return Sparks(first["since"], length, queues, tasks)


def _checked(since: Seconds, step: Seconds) -> tuple[float, float]:
    """How far back, and the length of a step."""
    back, length = check_delay("since", since), plain_seconds("step", step)
    if not _MINUTE <= length <= _BY_MINUTE or length % _MINUTE:
        raise InvalidOption("step", "must be a whole number of minutes, in seconds: 60, 120, ..., two days at most")
    if back > length * _MOST_STEPS:
        raise InvalidOption("step", f"must be longer: at most {_MOST_STEPS} steps are given")
    return back, length


def _grain(back: float, length: float, minutes: float) -> str:
    """Which rows to read."""
    if length % _HOUR == 0:
        return "hour"
    if back > minutes:
        hours = round(minutes / _HOUR)
        raise InvalidOption("step", f"must be in whole hours, in seconds, for what is more than {hours} hours back")
    return "minute"


def _refuse_beyond(limit: float, back: float, why: str) -> None:
    if back > limit:
        raise InvalidOption("since", f"must be at most {round(limit / _DAY)} days back: {why}")


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
