"""What may be said about a job beside its arguments, checked where it is said.

Precedence: call beats task beats router beats settings. None means "not said": it never takes back what was said.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias, get_args
from uuid import UUID

from jobqueue.base.codec import encode, fingerprint
from jobqueue.base.errors import InvalidOption, InvalidPayload
from jobqueue.base.flows.limit import Key, Limit, check_key
from jobqueue.base.job import KeyScope, OnConflict
from jobqueue.base.moments import Seconds, check_moment, check_seconds
from jobqueue.base.names import ATTEMPTS, check_name, check_whole
from jobqueue.base.retry import RetryPolicy

META_BYTES = 64 << 10
PRIORITIES = (-(2**15), 2**15 - 1)
MOST_LIMITS = 4

Limits: TypeAlias = Limit | Sequence[Limit] | None
"""The limits of a task; an empty list is none, also where its router has some."""
FairBy: TypeAlias = str | Callable[..., Key] | None
"""The key whose jobs take turns in a queue, as that of a `Limit`."""


@dataclass(frozen=True, slots=True)
class Unique:
    """At most one job with this key at a time; a further defer answers with the job that holds it (`duplicate`).

    Keys belong to their task. Without `key` it is a hash of the arguments as they will arrive: a default that is
    spelt out differs from one that is left out, and sets have no order; give a key where that matters. Scopes:
    `waiting` (until it starts), `unfinished` (until it has ended), `period` (`period` seconds from the defer on, ended
    or not).

    `on_conflict` says what a further defer does: `skip` nothing, `raise` DuplicateJob, with nothing of the call stored;
    `replace` gives the holder the new arguments (and `meta`, if given), `move` the new due time (`delay` or `at`, else
    now), from which what is left of `expires` and `budget` counts, `replace+move` both: a debounce. The holder keeps
    its id, attempts and history. One that runs or has ended is left alone: `handle.conflict` says `skipped` then. Where
    arguments must never be lost, the scope is `waiting`: from the holder's start on the key is free, and a new job is
    stored.
    """

    key: str | None = None
    scope: KeyScope = "unfinished"
    period: Seconds | None = None
    on_conflict: OnConflict = "skip"

    def __post_init__(self) -> None:
        if self.key is not None:
            check_name("unique", self.key)
        if self.scope not in get_args(KeyScope):
            raise InvalidOption("unique", f"scope must be one of {', '.join(get_args(KeyScope))}")
        if (self.scope == "period") != (self.period is not None):
            raise InvalidOption("unique", 'scope="period" and period= belong together')
        check_seconds("unique", self.period)
        if self.on_conflict not in get_args(OnConflict):
            rule = f"on_conflict must be one of {', '.join(get_args(OnConflict))}"
            raise InvalidOption("unique", f"{rule}, not {self.on_conflict!r}")

    @property
    def seconds(self) -> float | None:
        """The period in seconds."""
        return check_seconds("unique", self.period)


class TaskOptions:
    """What the decorator says about all jobs of a task. Raises InvalidOption, which names the option."""

    __slots__ = (
        "budget",
        "expires",
        "fair",
        "follow",
        "limit",
        "max_attempts",
        "priority",
        "queue",
        "retry",
        "timeout",
        "unique",
    )

    def __init__(
        self,
        *,
        queue: str | None = None,
        priority: int = 0,
        retry: RetryPolicy | None = None,
        max_attempts: int | None = None,
        timeout: Seconds | None = None,
        budget: Seconds | None = None,
        expires: Seconds | None = None,
        unique: Unique | str | None = None,
        limit: Limits = None,
        fair: FairBy = None,
        follow: bool = False,
    ) -> None:
        if retry is not None and not callable(retry):
            raise InvalidOption("retry", "must be a policy such as exponential(), or any (job, error) -> seconds")
        self.queue = check_queue(queue)
        self.priority = check_whole("priority", priority, PRIORITIES) or 0
        self.retry = retry
        self.max_attempts = check_whole("max_attempts", max_attempts, ATTEMPTS)
        self.timeout = check_seconds("timeout", timeout)
        self.budget = check_seconds("budget", budget)
        self.expires = check_seconds("expires", expires)
        self.unique = check_unique(unique)
        self.limit = check_limits(limit)
        self.fair = check_fair(fair)
        self.follow = bool(_check_flag("follow", follow))


class DeferOptions:
    """What `task.options(...)` says about one job. Raises InvalidOption, which names the option."""

    __slots__ = (
        "at",
        "budget",
        "connection",
        "delay",
        "expires",
        "follow",
        "id",
        "max_attempts",
        "meta",
        "origin",
        "priority",
        "queue",
        "resources",
        "signals",
        "timeout",
        "unique",
    )

    def __init__(
        self,
        *,
        delay: Seconds | None = None,
        at: datetime | None = None,
        queue: str | None = None,
        priority: int | None = None,
        max_attempts: int | None = None,
        timeout: Seconds | None = None,
        budget: Seconds | None = None,
        expires: Seconds | None = None,
        unique: Unique | str | None = None,
        origin: str | None = None,
        meta: dict[str, Any] | None = None,
        follow: bool | None = None,
        id: UUID | str | None = None,
        connection: object | None = None,
        resources: object | None = None,
        signals: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        self.delay, self.at = check_moment(delay, at)
        self.queue = check_queue(queue)
        self.priority = check_whole("priority", priority, PRIORITIES)
        self.max_attempts = check_whole("max_attempts", max_attempts, ATTEMPTS)
        self.timeout = check_seconds("timeout", timeout)
        self.budget = check_seconds("budget", budget)
        self.expires = check_seconds("expires", expires)
        self.unique = check_unique(unique)
        self.origin = None if origin is None else check_name("origin", origin)
        self.meta = _check_meta(meta)
        self.follow = _check_flag("follow", follow)
        self.id = None if id is None else check_id(id)
        self.connection = connection
        self.resources = resources
        self.signals = _check_signals(signals)

    def merge(self, later: "DeferOptions") -> "DeferOptions":
        """Both together; what `later` says wins. `delay` and `at` say the same thing, so each replaces the other."""
        both = copy(self)
        if later.delay is not None or later.at is not None:
            both.delay, both.at = None, None
        for option in self.__slots__:
            said = getattr(later, option)
            if said is not None:
                setattr(both, option, said)
        return both


def check_aliases(aliases: Iterable[str]) -> tuple[str, ...]:
    """Former names of a task; one alone would be taken for its letters."""
    if isinstance(aliases, str):
        raise InvalidOption("aliases", f"must be a list of names: [{aliases!r}]")
    return tuple(check_name("aliases", alias) for alias in aliases)


def check_queue(queue: str | None, option: str = "queue") -> str | None:
    """A queue's name; `*` is what a worker calls all of them."""
    if queue == "*":
        raise InvalidOption(option, "'*' means all queues of a worker; a job goes to one, by name")
    return None if queue is None else check_name(option, queue)


def queue_named(option: str, queue: str | None) -> str:
    """A queue's name where one must be given."""
    name = check_queue(queue, option)
    if name is None:
        raise InvalidOption(option, "must be the name of a queue")
    return name


def _check_flag(option: str, value: bool | None) -> bool | None:
    if not isinstance(value, bool | None):
        raise InvalidOption(option, "must be True or False")
    return value


def check_limits(limit: Limits) -> tuple[Limit, ...] | None:
    """The limits of a task; None if nothing is said of them."""
    given: object = limit
    if given is None:
        return None
    listed = []
    for each in given if isinstance(given, list | tuple) else [given]:
        if not isinstance(each, Limit):
            raise InvalidOption("limit", f"must be Limit(...), or a list of them, not {type(each).__name__}")
        listed.append(each)
    if len(listed) > MOST_LIMITS:
        raise InvalidOption("limit", f"a task has at most {MOST_LIMITS} limits, not {len(listed)}")
    if sum(each.rate is not None for each in listed) > 1:
        raise InvalidOption("limit", "one limit of a task at most has a rate, which tells its jobs their moment")
    return tuple(listed)


def check_fair(fair: FairBy) -> FairBy:
    """The key of a fair order."""
    check_key("fair", fair)
    return fair


def check_unique(unique: Unique | str | None) -> Unique | None:
    """A text is short for a key."""
    given: object = unique
    if not isinstance(given, Unique | str | None):
        raise InvalidOption("unique", f"must be Unique(...) or a key as text, not {type(given).__name__}")
    return Unique(given) if isinstance(given, str) else given


def _check_signals(signals: Mapping[str, Sequence[Any]] | None) -> Mapping[str, Sequence[Any]] | None:
    for name, payloads in (signals or {}).items():
        if not isinstance(payloads, list | tuple):
            raise InvalidOption("signals", f"must be lists of payloads by name: signals={{{name!r}: [...]}}")
    return signals


def _check_meta(meta: dict[str, Any] | None) -> str | None:
    if meta is None:
        return None
    given: object = meta
    if not isinstance(given, dict):
        raise InvalidOption("meta", f"must be a dict, not {type(given).__name__}")
    try:
        return encode(meta, "meta", META_BYTES, setting="meta")
    except InvalidPayload as error:
        place, rule = error.path, error.rule
    raise InvalidOption("meta", f"{place}: {rule}" if place else rule)


def check_id(id: UUID | str, option: str = "id") -> UUID:
    """A UUID, or the text of one."""
    if isinstance(id, UUID):
        return id
    try:
        return UUID(id)
    except (ValueError, AttributeError, TypeError):
        pass
    raise InvalidOption(option, "must be a UUID, or the text of one")


def stored_key(task: str, unique: Unique, args: str) -> str:
    """The key as the database has it, at most 201 characters. Task names have no line breaks, so no two keys meet."""
    return f"{task}\n{fingerprint(args) if unique.key is None else unique.key}"


NOTHING_SAID = DeferOptions()
