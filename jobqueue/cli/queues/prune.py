"""`prune`: removes old finished jobs now, as workers do hourly, or by other ages. Says first, or afterwards, which."""

import asyncio
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import date
from enum import StrEnum

from jobqueue.base.job import JobState
from jobqueue.cli.moments import seconds
from jobqueue.cli.place import Place
from jobqueue.cli.terminal.asking import agreed, somebody_to_ask
from jobqueue.cli.terminal.failures import ExitCode, Refusal, tell
from jobqueue.cli.terminal.output import write_json, write_table
from jobqueue.cli.terminal.user import this_user
from jobqueue.store.acting.audit import Noted
from jobqueue.store.connection.pool import Database
from jobqueue.store.looking.overview import count_archive
from jobqueue.store.upkeep import NO_AGES, Ages, Day, archive_days, drop_days, prune_day, prune_excess, shortest_keeps


@dataclass(frozen=True, slots=True)
class Order:
    """What to remove. Without ages: whatever settings and queues say."""

    ages: Ages
    queue: str | None

    @classmethod
    def of(cls, completed: str | None, other: str | None, queue: str | None) -> "Order":
        """From the words on the command line. Raises Refusal."""
        ages = Ages(seconds("--completed", completed), seconds("--other", other))
        if queue is not None and ages == NO_AGES:
            raise Refusal("--queue: say for which age, with --completed or --other", ExitCode.USAGE)
        return cls(ages, queue)

    @property
    def what(self) -> dict[str, object]:
        """As the audit tells of it: ages in seconds."""
        said = {"completed": self.ages.completed, "other": self.ages.other, "queue": self.queue}
        return {name: value for name, value in said.items() if value is not None}


class How(StrEnum):
    """Why jobs are removed."""

    WHOLE_DAY = "whole day"
    BY_AGE = "by age"
    BY_NUMBER = "by number"


@dataclass(frozen=True, slots=True)
class Removed:
    """Jobs of one day and outcome. `about`: their number is an estimate; `how` they are chosen."""

    day: date
    state: JobState
    jobs: int
    about: bool
    how: How


@dataclass(frozen=True, slots=True)
class Report:
    """What was, or would be, removed, and which days somebody held on to."""

    removed: list[Removed]
    locked: list[Day]

    @property
    def total(self) -> str:
        """The number of jobs, in words."""
        jobs, about = sum(part.jobs for part in self.removed), any(part.about for part in self.removed)
        return f"{'about ' if about else ''}{jobs} finished {'job' if jobs == 1 else 'jobs'}"


def prune(place: Place, order: Order, *, dry_run: bool, yes: bool, as_json: bool) -> ExitCode:
    """Remove old finished jobs. Without `yes` it asks first, if there is somebody to be asked."""
    if not dry_run and not yes:
        if not somebody_to_ask():
            raise Refusal("prune removes jobs for good: give --yes, or --dry-run to see which", ExitCode.USAGE)
        would = asyncio.run(_pruned(place, order, dry=True))
        if would.removed and not _agreed(would, as_json):
            tell("nothing was removed")
            return ExitCode.ERROR
    report = asyncio.run(_pruned(place, order, dry=dry_run))
    if as_json:
        locked = [{"day": day.day, "kind": day.kind} for day in report.locked]
        write_json({"dry_run": dry_run, "removed": [asdict(part) for part in report.removed], "locked": locked})
        return ExitCode.OK
    if report.removed:
        _write(report)
    verb = "would remove" if dry_run else "removed"
    tell(f"{verb} {report.total}" if report.removed else "nothing is old enough to be removed")
    for day in report.locked:
        tell(f"{day.day} ({day.kind}) is in use; left for the next time")
    return ExitCode.OK


async def _pruned(place: Place, order: Order, *, dry: bool) -> Report:
    async with place.database() as (_, database):
        await database.check()
        if dry:
            return await _prune(database, place, order, dry=True)
        note = Noted(this_user(), "archive.prune", order.what)
        await _note(database, note, 0)
        report = await _prune(database, place, order, dry=False)
        await _note(database, note, sum(part.jobs for part in report.removed))
        return report


async def _note(database: Database, note: Noted, jobs: int) -> None:
    """In the audit: before it begins, and how many it were. There is one connection, which is not kept meanwhile."""
    session = database.session()
    try:
        await note.add(session, jobs, jobs)
        note.keep()
    finally:
        await session.close()


async def _prune(database: Database, place: Place, order: Order, *, dry: bool) -> Report:
    if order.ages != NO_AGES:
        drop, rows = (NO_AGES if order.queue else order.ages), order.ages
    else:
        drop = Ages(place.settings.keep_completed, place.settings.keep_other)
        rows = await shortest_keeps(database)
    days = await archive_days(database, drop=drop, prune=rows)
    whole = [day for day in days if day.whole]
    counts = await count_archive(database) if whole else []
    dropped, locked = (whole, []) if dry else await drop_days(database, whole)
    removed = [
        Removed(day.day, state, jobs, not exact, How.WHOLE_DAY)
        for day in dropped
        for leaf, state, jobs, exact in counts
        if leaf == day.leaf
    ]
    for day in days:
        if day.part and day not in dropped:
            gone: Counter[JobState] = await prune_day(database, day, order.ages, order.queue, dry=dry)
            removed += [Removed(day.day, state, jobs, False, How.BY_AGE) for state, jobs in sorted(gone.items())]
    if order.ages == NO_AGES:
        for day, gone in await prune_excess(database, [day for day in days if day not in dropped], dry=dry):
            removed += [Removed(day.day, state, jobs, False, How.BY_NUMBER) for state, jobs in sorted(gone.items())]
    return Report(removed, locked)


def _agreed(would: Report, as_json: bool) -> bool:
    if not as_json:
        _write(would)
    return agreed(f"remove {would.total} for good?")


def _write(report: Report) -> None:
    rows = [
        (part.day, part.state, f"~{part.jobs}" if part.about else part.jobs, part.how)
        for part in sorted(report.removed, key=lambda part: (part.day, part.state))
    ]
    write_table(("day", "outcome", "jobs", "how"), rows, right=("jobs",))
