"""Which planned times of a schedule are fired now, which are left out, and which comes next. No I/O."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice, takewhile

from jobqueue.base.flows.cron import Cron
from jobqueue.base.flows.schedule import Schedule

GRACE = timedelta(seconds=60)
"""A planned time that is fired later than this was missed."""
PAGE = 100
"""Planned times of one schedule that one transaction fires."""
MOST_MISSED = 1_000
"""Missed times that `all` makes up for: the latest ones. `backfill` stores the others."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a look at a schedule that is due has come to."""

    fire: list[datetime]
    next: datetime | None
    """The first that is not dealt with; in the past if there is more than a page."""
    missed: list[datetime] = field(default_factory=list)
    """Those that are left out, the first and the last of them if they are very many."""
    count: int = 0
    """How many those are; of very many at least so many."""


def plan(schedule: Schedule, now: datetime) -> Plan:
    """From `schedule.next_at`, which is due, up to now. Raises InvalidOption if the row has no sound times."""
    timing, first = schedule.timing, schedule.next_at
    cron = Cron(timing.cron, timing.tz)
    until = now if timing.ends_at is None else min(now, timing.ends_at)
    assert first is not None  # noqa: S101 - it is due
    if first > until:  # it ends before
        return Plan([], None)
    late = min(now - GRACE, until)
    fresh, following = _split(cron.after(max(first, late)), until)
    if first >= late:
        fire, left_out, count = [first, *fresh], list[datetime](), 0  # whatever the expression says of the first
    else:
        missed = [first, *islice(takewhile(late.__ge__, cron.after(first)), MOST_MISSED)]
        fire, left_out, count = _by_policy(schedule, cron, fresh, missed, late)
    if timing.ends_at is not None and following is not None and following > timing.ends_at:
        following = None
    return Plan(fire[:PAGE], fire[PAGE] if len(fire) > PAGE else following, left_out, count)


def _split(times: Iterator[datetime], until: datetime) -> tuple[list[datetime], datetime | None]:
    """Those up to `until`, and the one that follows."""
    found: list[datetime] = []
    for time in times:
        if time > until:
            return found, time
        found.append(time)
    return found, None


def _by_policy(
    schedule: Schedule, cron: Cron, fresh: list[datetime], missed: list[datetime], late: datetime
) -> tuple[list[datetime], list[datetime], int]:
    """What is fired; and of those that were missed the first and last that are not, and how many."""
    policy, whole = schedule.timing.missed, len(missed) <= MOST_MISSED

    def last(most: int, until: datetime = late) -> list[datetime]:
        return missed[-most:] if whole else cron.latest(missed[0] - datetime.resolution, until, most)

    if not missed or (policy == "all" and whole):
        return missed + fresh, [], 0
    if policy == "all":
        made_up = last(MOST_MISSED)
        return made_up + fresh, [missed[0], *last(1, made_up[0] - datetime.resolution)], MOST_MISSED
    if policy == "once" and not fresh:
        *before, latest = last(2)
        return [latest], [missed[0], *before], len(missed) - 1
    return fresh, [missed[0], *last(1)], len(missed)
