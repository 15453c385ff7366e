"""Limits: what they say, who holds a place, who waits. Keys come from arguments, so they need `payloads`."""

from datetime import datetime
from uuid import UUID

from jobqueue.base.errors import UnknownLimit
from jobqueue.base.flows.limit import SCHEDULE, LimitLine, LimitStats, Rate
from jobqueue.base.names import check_name
from jobqueue.store.connection.session import Session
from jobqueue.store.looking.holding import NextInLine, first_in_line, running_jobs
from jobqueue.store.looking.overview import RunningJob
from jobqueue.tasks.limits import limits_now, lines_now
from jobqueue.web.dashboard.reading.overview import RunningRow, running_row
from jobqueue.web.dashboard.reading.view import Model, View

_LINES = 100
_JOBS, _NEXT = 50, 20
_KEPT = 3.0
"""Seconds for which one count of all who wait serves all."""


class RateSeen(Model):
    """So many starts in so many seconds."""

    count: int
    per: float
    burst: int


class LimitRow(Model):
    """A limit."""

    name: str
    concurrency: int | None
    rate: RateSeen | None
    ordered: bool
    by_hand: bool
    """It was changed by hand, and `reset` takes that back."""
    declared_concurrency: int | None
    declared_rate: RateSeen | None
    held: int
    waiting: int
    oldest_wait: float | None
    declared_by: str | None
    declared_at: datetime | None
    changed_at: datetime | None


class LineSeen(Model):
    """The line of one key."""

    key: str | None
    """None: it has none, or may not be seen."""
    keyed: bool
    held: int
    waiting: int
    oldest_wait: float | None
    next_in: float | None


class Waiting(Model):
    """A job in a line."""

    id: UUID
    task: str
    queue: str
    waits: float


class LimitSeen(Model):
    """One limit with its lines."""

    limit: LimitRow
    users: list[str]
    """What in this app's code has it: `task send_mail`, `queue reports`."""
    lines: list[LineSeen]
    more: bool
    """There may be more lines than are shown."""
    key: str | None
    """The key whose line is shown in full."""
    holders: list[RunningRow]
    waiting: list[Waiting]


async def read_limits(view: View) -> list[LimitRow]:
    """All that may be seen, by name. Raises DatabaseError."""
    found = await all_limits(view)
    return [limit_row(each) for each in found if may_see(view, each.name)]


async def all_limits(view: View) -> list[LimitStats]:
    """All there are, whoever asks. Raises DatabaseError."""
    return await view.site.looker.kept("limits", _KEPT, limits_now)


async def read_limit(view: View, name: str, key: str | None = None) -> LimitSeen | None:
    """One of them, with the line of a key in full; None if it may not be seen. Raises UnknownLimit,
    InvalidOption, DatabaseError."""
    check_name("name", name)
    if not may_see(view, name):
        return None
    key = key if view.access.payloads else None
    queues = view.queues

    async def now(session: Session) -> tuple[LimitStats, list[LimitLine], list[RunningJob], list[NextInLine]]:
        stats = next(iter(await limits_now(session, name)), None)
        if stats is None:
            raise UnknownLimit(name)
        holders = await running_jobs(session, _JOBS, queues=queues, limit=name)
        waiting = await first_in_line(session, name, key, _NEXT)
        return stats, await lines_now(session, name, _LINES), holders, waiting

    stats, lines, holders, waiting = await view.site.looker.kept(("limit", name, key, queues), _KEPT, now)
    return LimitSeen(
        limit=limit_row(stats),
        users=_users(view, name),
        lines=[_line(view, each) for each in lines],
        more=len(lines) == _LINES,
        key=key,
        holders=[running_row(view, each) for each in holders],
        waiting=[Waiting.of(each) for each in waiting if view.access.sees(each.queue)],
    )


def limit_row(each: LimitStats) -> LimitRow:
    """A limit without its keys."""
    return LimitRow.of(
        each,
        rate=_rate(each.rate),
        by_hand=each.changed is not None,
        declared_concurrency=each.declared.concurrency,
        declared_rate=_rate(each.declared.rate),
    )


def may_see(view: View, name: str) -> bool:
    """Whoever sees some queues only sees the limits that nothing else has: by their name, or by this app's code."""
    if view.access.queues is None:
        return not name.startswith(SCHEDULE)
    queues = _queues_of(view, name)
    return bool(queues) and all(view.access.sees(queue) for queue in queues)


def _queues_of(view: View, name: str) -> set[str]:
    registry = view.site.app.registry
    tasks = {task.queue for task in registry if task.gates and any(each.name == name for each in task.gates.limits)}
    queues = {queue for queue, limit in registry.of_queues.items() if limit.name == name}
    kind, slash, queue = name.partition("/")
    return tasks | queues | ({queue} if kind == "queue" and slash else set())


def _users(view: View, name: str) -> list[str]:
    registry = view.site.app.registry
    named = [*registry.of_queues.values(), *(each for task in registry if task.gates for each in task.gates.limits)]
    return sorted({each.of for each in named if each.name == name})


def _rate(rate: Rate | None) -> RateSeen | None:
    return None if rate is None else RateSeen(count=rate.count, per=rate.seconds, burst=rate.burst)


def _line(view: View, each: LimitLine) -> LineSeen:
    return LineSeen.of(each, key=each.key if view.access.payloads else None, keyed=each.key is not None)
