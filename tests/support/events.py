"""The table of all log events, as `jobqueue/base/log.py` has it for users."""

import re
from dataclasses import dataclass
from functools import cache

from jobqueue.base import log

ROW = re.compile(r"^\| (?P<name>[a-z]+\.[a-z_]+) \| (?P<levels>[a-z, ]+) \| (?P<fields>.*?) \|$")
BOUND = "worker"
"""Stands in the lines of those parts that know their worker."""


@dataclass(frozen=True)
class Event:
    """One row: what is logged, at which levels, with which facts; after some of them stands a question mark."""

    levels: frozenset[str]
    fields: frozenset[str]
    optional: frozenset[str] = frozenset()

    def fits(self, level: str, fields: set[str]) -> bool:
        """Whether a line with these fields is such an event."""
        needed = fields - self.optional - {BOUND} == self.fields - {BOUND}
        return level in self.levels and needed and self.fields & {BOUND} <= fields


@cache
def table() -> dict[str, Event]:
    """Return the events by name."""
    found = [row for line in (log.__doc__ or "").splitlines() if (row := ROW.match(line))]
    events = {row["name"]: event_of(row["levels"], names_of(row["fields"])) for row in found}
    assert len(events) == len(found) >= 30, "the table has a row twice, or cannot be read"
    return events


def event_of(levels: str, names: list[str]) -> Event:
    optional = {name.removesuffix("?") for name in names if name.endswith("?")}
    return Event(
        frozenset(levels.split(", ")), frozenset(set(names) - {f"{o}?" for o in optional}), frozenset(optional)
    )


def names_of(cell: str) -> list[str]:
    """`job_id, jobs: how many, ...` are names with commas; after a colon or a bracket follow words."""
    names = re.split(r"[:(]", cell)[0]
    return [name.strip() for name in names.split(",")]
