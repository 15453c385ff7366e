"""Limits for the whole fleet: how many jobs at once, how many in a time, in which order; and the names of their gates.

A limit is a rule. A gate is a limit for one key, a job with limits passes its gates one after the other: `limit`, or
`limit` and the key on the next line. `~` stands before a gate at which no place is held: of a limit that has a rate
only, and of the fair order. All jobs pass gates in one order, so that none holds a place that another waits for in a
circle: ordered ones, for what comes before them could change the order; then keyed ones, those for all, a rate last; by
name where that is all the same.
"""

import inspect
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any, TypeAlias
from uuid import UUID

from jobqueue.base.errors import InvalidOption
from jobqueue.base.moments import Seconds, check_seconds, plain_seconds
from jobqueue.base.names import check_name, check_whole

Key: TypeAlias = str | int | UUID | None
"""What the key of a job may be; None if it is not limited."""

MOST = 1_000_000
KEY_LENGTH = 200
FAIR = "fair:"
"""Begins the name of a queue's fair order, so no limit's."""
SCHEDULE = "schedule:"
"""The limit of schedules whose jobs come one after the other: the next one begins when that before has ended."""
NO_PLACE = "~"


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` starts in any span of `per` (seconds, or a timedelta), one after the other at even distances.

    `burst` of them may come at once; the others are then further apart, so that no span ever has more than `count`.
    Raises InvalidOption.
    """

    count: int
    per: Seconds
    burst: int = 1

    def __post_init__(self) -> None:
        _whole("count", self.count, 1, MOST)
        check_seconds("per", plain_seconds("per", self.per))
        _whole("burst", self.burst, 1, self.count)

    @property
    def seconds(self) -> float:
        """`per` in seconds."""
        return plain_seconds("per", self.per)

    @property
    def every(self) -> float:
        """Seconds between two starts, of those beyond the burst."""
        return self.seconds / (self.count - self.burst + 1)

    def __str__(self) -> str:
        burst = f", {self.burst} at once" if self.burst > 1 else ""
        return f"{self.count} in {self.seconds:g} s{burst}"


class Turn(IntEnum):
    """When a job comes to a gate, among its others."""

    ORDERED = 0
    KEYED = 1
    SHARED = 2
    RATED = 3


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `concurrency` jobs at once in all workers together, or `rate` in a time, or both.

    With a `key` each key has as much for itself: a path in the arguments as JSON, such as "mail.tenant", or a function
    of the arguments; None means that the job is not limited. Tasks that name one limit (`name`) share it; without a
    name each task has its own. `ordered`: one after the other in the order of their defers, and what fails holds the
    others up until its retries are over; needs a concurrency of 1, and a rate beside it is a limit of its own.
    Raises InvalidOption.

        smtp = Limit(50, rate=Rate(100, per=60), name="smtp")

        @app.task(limit=[Limit(3, key="mail.tenant"), smtp])
        async def send_mail(mail: Mail) -> None: ...
    """

    concurrency: int | None = None
    _: KW_ONLY
    rate: Rate | None = None
    key: str | Callable[..., Key] | None = None
    name: str | None = None
    ordered: bool = False

    def __post_init__(self) -> None:
        given: dict[str, object] = {"rate": self.rate, "key": self.key}
        if self.concurrency is None and given["rate"] is None:
            raise InvalidOption("limit", "needs a concurrency, Limit(5), or a rate, Limit(rate=Rate(100, per=60))")
        if self.concurrency is not None:
            _whole("concurrency", self.concurrency, 1, MOST)
        if not isinstance(given["rate"], Rate | None):
            raise InvalidOption("rate", f"must be Rate(count, per), not {type(given['rate']).__name__}")
        if not isinstance(self.ordered, bool):
            raise InvalidOption("ordered", "must be True or False")
        if self.ordered and self.concurrency != 1:
            raise InvalidOption("ordered", "is for one job at a time: Limit(1, ordered=True), perhaps with a key")
        if self.ordered and self.rate is not None:
            raise InvalidOption("ordered", "has no rate: give both, limit=[Limit(1, ordered=True), Limit(rate=...)]")
        if self.name is not None:
            check_limit_name("name", self.name)
        check_key("key", self.key)

    @property
    def turn(self) -> Turn:
        """When a job comes to its gate."""
        if self.ordered:
            return Turn.ORDERED
        if self.rate is not None:
            return Turn.RATED
        return Turn.SHARED if self.key is None else Turn.KEYED

    @property
    def rule(self) -> tuple[object, ...]:
        """What must be the same wherever its name is used; paths to the key may differ."""
        rate = None if self.rate is None else (self.rate.count, self.rate.seconds, self.rate.burst)
        return self.concurrency, rate, self.ordered, self.key is not None

    def gate(self, name: str, key: str | None = None) -> str:
        """The name of its gate, for jobs with this key, where the limit is called so."""
        placed = name if self.concurrency is not None else f"{NO_PLACE}{name}"
        return placed if key is None else f"{placed}\n{key}"


def fair_gate(queue: str, key: str) -> str:
    """Where a job gets its place in the fair order of its queue."""
    return f"{NO_PLACE}{FAIR}{queue}\n{key}"


def schedule_gate(schedule: str) -> str:
    """Where the jobs of a schedule that must not overlap come one after the other."""
    return f"{SCHEDULE}\n{schedule}"


def parts_of(gate: str) -> tuple[str, str | None]:
    """The name of a gate's limit, and the key."""
    name, line, key = gate.removeprefix(NO_PLACE).partition("\n")
    return name, key if line else None


def say_gate(gate: str) -> str:
    """A gate as people read it: `smtp`, or `smtp of acme`, in one line."""
    name, key = parts_of(gate)
    if name == SCHEDULE:
        return f"schedule {key}"
    return name if key is None else f"{name} of {key}"


def without_key(gate: str) -> str:
    """The gate of all keys: what stands behind the name is a part of the arguments. A schedule's is its own name."""
    name, key = parts_of(gate)
    return gate if key is None or name == SCHEDULE else name


def check_limit_name(option: str, name: str) -> str:
    """A limit's name: as that of a queue, but it does not look like what stands before one. Raises InvalidOption."""
    check_name(option, name)
    if name.startswith((NO_PLACE, FAIR, SCHEDULE)):
        words = f"{NO_PLACE!r}, {FAIR!r} or {SCHEDULE!r}"
        raise InvalidOption(option, f"a limit's name must not begin with {words}: give it another one")
    return name


def check_key(option: str, key: str | Callable[..., Key] | None) -> None:
    """Refuse what is neither a path nor a function. Whether it fits the arguments, its task says."""
    given: object = key
    if isinstance(given, str):
        if not all(given.split(".")):
            raise InvalidOption(option, 'a path is names with dots between them: "tenant", "mail.tenant"')
    elif given is not None and not callable(given):
        raise InvalidOption(option, f'must be a path such as "mail.tenant", or a function, not {type(given).__name__}')
    elif inspect.iscoroutinefunction(given):
        raise InvalidOption(option, "must be a plain function: it is called where a job is made, and waits for nothing")


def key_text(key: Any) -> str | None:
    """A key as part of a gate's name, None without one. Raises ValueError with the rule, which does not quote it."""
    if key is None:
        return None
    if isinstance(key, bool) or not isinstance(key, str | int | UUID):
        raise ValueError(f"must be text, a whole number, a UUID or None, not {type(key).__name__}")
    text = str.__str__(key) if isinstance(key, str) else str(int(key)) if isinstance(key, int) else str(key)
    if len(text) > KEY_LENGTH:
        raise ValueError(f"must have at most {KEY_LENGTH} characters")
    if "\0" in text or not _is_unicode(text):
        raise ValueError("must be text that PostgreSQL can store: no NUL, no half of a surrogate pair")
    return text


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _whole(option: str, value: object, least: int, most: int) -> None:
    given: Any = value
    if check_whole(option, given, (least, most)) is None:
        raise InvalidOption(option, f"must be a whole number from {least} to {most}")


@dataclass(frozen=True, slots=True)
class Rule:
    """What was said of a limit; None for what it does not have."""

    concurrency: int | None = None
    rate: Rate | None = None


@dataclass(frozen=True, slots=True)
class LimitLine:
    """Who has passed, and who waits, at one gate of a limit."""

    key: str | None
    held: int
    """Jobs that have a place: they run, are ready, or wait at a later gate."""
    waiting: int
    oldest_wait: float | None = None
    """For how many seconds the first in line has waited since it was due; None if nobody waits."""
    next_in: float | None = None
    """Of a rate: in how many seconds the next one may start."""


@dataclass(frozen=True, slots=True)
class LimitStats:
    """A limit as it stood when it was read."""

    name: str
    concurrency: int | None
    """What holds now: as changed by hand, or else as declared."""
    rate: Rate | None
    ordered: bool
    declared: Rule
    """What the code of the worker that started last says."""
    changed: Rule | None
    """What `app.limits.set` has said since; None if nothing, or after `reset`."""
    held: int
    waiting: int
    busiest: tuple[LimitLine, ...] = ()
    """The keys with the longest lines, the longest first."""
    oldest_wait: float | None = None
    """For how many seconds the one has waited, since it was due, that has waited longest of those that come next."""
    declared_by: str | None = None
    """The app of that worker."""
    declared_at: datetime | None = None
    changed_at: datetime | None = None
