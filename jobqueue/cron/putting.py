"""Puts schedules: new ones, or other words for those that there are."""

from collections.abc import Sequence
from datetime import datetime

from jobqueue.base.flows.limit import SCHEDULE
from jobqueue.base.flows.schedule import Schedule, Source
from jobqueue.store.connection.executor import Executor
from jobqueue.store.flows import schedules
from jobqueue.store.flows.limits import LimitRow, declare
from jobqueue.store.flows.schedules import NewSchedule

_ONE_BY_ONE, _BY = LimitRow(SCHEDULE, 1, ordered=True), "schedules"


async def put(executor: Executor, source: Source, new: Sequence[NewSchedule]) -> dict[str, bool]:
    """Store them, in the transaction of the executor; for each that could be, whether that changed anything.

    What one has been through stays; its next time is the one that it had, unless it is to run at other times.
    """
    found, now = await schedules.lock(executor, [each.name for each in new])
    changed = [each for each in new if not _says(found.get(each.name), each)]
    nexts = {each.name: next_of(each, found.get(each.name), now) for each in changed}
    if any(each.timing.overlap == "queue" for each in changed):
        await declare(executor, [_ONE_BY_ONE], _BY)
    stored = await schedules.put(executor, source, changed, nexts)
    same = {each.name for each in new if each not in changed and found[each.name].source == source}
    return dict.fromkeys(same, False) | dict.fromkeys(stored, True)


def next_of(new: NewSchedule, before: Schedule | None, now: datetime) -> datetime | None:
    """When it is due next."""
    if before is not None and before.broken is None and _same_times(before, new):
        return before.next_at
    if before is not None and before.paused_at is not None:
        return None if before.paused_until is None else new.timing.next(max(now, before.paused_until))
    return new.timing.next(now)


def _same_times(before: Schedule, new: NewSchedule) -> bool:
    one, other = before.timing, new.timing
    return (one.cron, one.tz, one.starts_at, one.ends_at) == (other.cron, other.tz, other.starts_at, other.ends_at)


def _says(before: Schedule | None, new: NewSchedule) -> bool:
    """Whether it is there, and says just this."""
    return (
        before is not None
        and before.broken is None
        and (before.task, before.queue, before.args_json, before.options_json, before.timing)
        == (new.task, new.queue, new.args, new.options, new.timing)
    )
