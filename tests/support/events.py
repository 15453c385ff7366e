"""The table of all log events, as `jobqueue/base/log.py` has it for users."""

import re
from dataclasses import dataclass
from functools import cache

from jobqueue.base import log

ROW = re.compile(r"^\| (?P<name>[a-z]+\.[a-z_]+) \| (?P<level>[a-z]+) \| (?P<fields>.*?) \|$")
BOUND = "worker"
"""Stands in the lines of those parts that know their worker."""


@dataclass(frozen=True)
class Event:
    """One row: what is logged, at which level, with which facts."""

    level: str
    fields: frozenset[str]

    def fits(self, level: str, fields: set[str]) -> bool:
        """Whether a line with these fields is such an event."""
        return level == self.level and fields - {BOUND} == self.fields - {BOUND} and self.fields & {BOUND} <= fields


@cache
def table() -> dict[str, Event]:
    """Return the events by name."""
    found = [row for line in (log.__doc__ or "").splitlines() if (row := ROW.match(line))]
    events = {row["name"]: Event(row["level"], frozenset(names_of(row["fields"]))) for row in found}
    assert len(events) == len(found) >= 30, "the table has a row twice, or cannot be read"
    return events


def names_of(cell: str) -> list[str]:
    """`job_id, jobs: how many, ...` are names with commas; after a colon or a bracket follow words."""
    names = re.split(r"[:(]", cell)[0]
    return [name.strip() for name in names.split(",")]
