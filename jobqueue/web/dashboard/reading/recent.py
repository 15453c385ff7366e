"""The last hour by the minute, from what workers have noted: charts, and what has gone wrong lately."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlencode

from jobqueue.base.flows.webhook import Webhook
from jobqueue.base.looking.history import Deferred, Rates, Sparks, Times
from jobqueue.base.looking.stuck import WAITS
from jobqueue.store.connection.session import Session
from jobqueue.store.flows import webhooks
from jobqueue.store.looking.history import deferred, percentiles, rates, sparks
from jobqueue.store.looking.overview import StuckJob, oldest_snapshot, put_aside, stuck_now
from jobqueue.web.dashboard.reading.overview import Attention
from jobqueue.web.dashboard.reading.view import Model, View

_KEY = "recent"
_KEPT = 10.0
"""Seconds for which one reading serves all."""
_HOUR, _QUARTER, _LATELY = timedelta(hours=1), timedelta(minutes=15), timedelta(minutes=5)
_MINUTE = 60
_COUNTED = 1_000
_FAILING, _ENOUGH = 0.2, 10
"""A queue fails if so many of its attempts do, of at least so many."""
_TRIES = 3
"""A receiver of webhooks fails if so many tries in a row did: a single one says nothing yet."""
_OLD = 600.0
"""Seconds after which somebody's open transaction is a matter of concern."""


class Point(Model):
    """One minute, in jobs a second."""

    at: datetime
    deferred: float | None
    """None for a user who sees some queues only: it is counted for all together."""
    completed: float
    retried: float
    dead: float

    @property
    def failed(self) -> float:
        """Attempts that failed, whatever became of their jobs."""
        return self.retried + self.dead


class Recent(Model):
    """What has happened lately."""

    points: list[Point]
    completed: dict[str, list[int]]
    """By queue: jobs completed in each of the last 15 minutes."""
    failed: dict[str, list[int]]
    runs: int
    """Attempts that ended in the last 5 minutes."""
    failures: int
    """Of them, those that failed."""
    wait_p95: float | None
    """Seconds that jobs of the slowest queue waited, but for the slowest twentieth of them."""
    slowest: str | None
    attention: list[Attention]

    @property
    def latest(self) -> Point | None:
        """The last whole minute."""
        return self.points[-2] if len(self.points) > 1 else None


@dataclass(frozen=True, slots=True)
class _Read:
    """One reading, for all."""

    rates: list[Rates]
    deferred: list[Deferred]
    sparks: Sparks
    times: list[Times]
    aside: Mapping[str, int]
    stuck: list[StuckJob]
    webhooks: list[Webhook]
    snapshot: float | None


NOTHING = Recent(points=[], completed={}, failed={}, runs=0, failures=0, wait_p95=None, slowest=None, attention=[])
"""Of an hour that could not be read."""


async def read_recent(view: View) -> Recent:
    """The last hour, as this user may see it. Raises DatabaseError."""

    async def read(session: Session) -> _Read:
        return _Read(
            await rates(session, _HOUR, step=_MINUTE),
            await deferred(session, _HOUR, step=_MINUTE),
            await sparks(session, _QUARTER, step=_MINUTE),
            await percentiles(session, _LATELY),
            await put_aside(session, _COUNTED),
            await stuck_now(session),
            await webhooks.read(session),
            await oldest_snapshot(session),
        )

    return _as_seen(view, await view.site.looker.kept(_KEY, _KEPT, read))


def menu_counts(view: View) -> dict[str, int]:
    """How many there are, for the menu: of what was read already, since each page has it and none may pay for it."""
    everything, last, found = view.access.queues is None, view.site.looker.last, view.site.looker.peek(_KEY)
    counts = {"tasks": sum(view.access.sees(task.queue) for task in view.site.app.registry)}
    if last is not None:
        counts["queues"] = sum(view.access.sees(each.queue) for each in last.queues)
    if last is not None and everything:
        counts["workers"] = sum(each.alive for each in last.workers)
    if isinstance(found, _Read) and everything:
        counts["errors"] = sum(each.dead for each in found.rates)
    return counts


def _as_seen(view: View, found: _Read) -> Recent:
    times = [each for each in found.times if each.task is None and view.access.sees(each.queue)]
    slowest = max(times, key=lambda each: each.wait_p95 or 0.0, default=None)
    seen = {name: each for name, each in found.sparks.queues.items() if view.access.sees(name)}
    everything = view.access.queues is None
    return Recent(
        points=_points(found) if everything else [],
        completed={name: list(each.completed) for name, each in seen.items()},
        failed={name: list(each.failed) for name, each in seen.items()},
        runs=sum(each.runs for each in times),
        failures=sum(each.failed for each in times),
        wait_p95=None if slowest is None else slowest.wait_p95,
        slowest=None if slowest is None else slowest.queue,
        attention=[*_failing(times), *(_of_the_whole(found) if everything else ())],
    )


def _points(found: _Read) -> list[Point]:
    stored = {each.at: each.jobs for each in found.deferred}
    return [
        Point(
            at=each.at,
            deferred=stored.get(each.at, 0) / _MINUTE,
            completed=each.completed / _MINUTE,
            retried=each.retried / _MINUTE,
            dead=each.dead / _MINUTE,
        )
        for each in found.rates
    ]


def _failing(times: list[Times]) -> list[Attention]:
    return [
        Attention(
            kind="failing", subject=each.queue, number=each.failed, share=each.failed / each.runs,
            href=f"/errors?{urlencode({'queue': each.queue})}",
        )
        for each in times
        if each.runs >= _ENOUGH and each.failed >= _FAILING * each.runs
    ]  # fmt: skip


def _of_the_whole(found: _Read) -> list[Attention]:
    told = [_stuck(each) for each in found.stuck]
    told += [
        Attention(
            kind="aside", subject=task, number=jobs, href=f"/jobs?{urlencode({'state': 'scheduled', 'task': task})}"
        )
        for task, jobs in found.aside.items()
    ]
    told += [
        Attention(
            kind="disabled" if each.state == "disabled" else "receiver", subject=each.host or "?",
            number=each.failures, href=f"/webhooks/{each.id}",
        )
        for each in found.webhooks
        if each.state == "disabled" or (each.state == "failing" and each.failures >= _TRIES)
    ]  # fmt: skip
    if found.snapshot is not None and found.snapshot > _OLD:
        told.append(Attention(kind="snapshot", subject="PostgreSQL", number=1, seconds=found.snapshot, href="/workers"))
    return told


def _stuck(each: StuckJob) -> Attention:
    place = "" if each.job_id is None else f"#stuck-{each.job_id}"
    return Attention(
        kind="starved" if each.how == WAITS else "stuck", subject=each.task or "a worker", number=1,
        seconds=each.seconds,
        href=f"/workers/{each.worker_id}{place}",
    )  # fmt: skip
