"""Which jobs are meant: by their ids, or by what they have in common. The one home of what a filter may say."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, TypedDict
from uuid import UUID

from jobqueue.base.errors import InvalidOption
from jobqueue.base.job import JobState, JsonValue
from jobqueue.base.looking.search import Inside
from jobqueue.base.names import check_name
from jobqueue.base.steering import LEGAL, Action
from jobqueue.store import steering
from jobqueue.store.connection.executor import Executor
from jobqueue.store.flows.bundles import find_members
from jobqueue.store.looking.listing import Wanted, find_ids
from jobqueue.tasks.options import Unique, check_id, stored_key

PAGE = 500
"""Jobs that are changed by one statement."""
_SHOWN = frozenset({"state", "queue", "task", "origin", "bundle", "bundled", "key", "error", "fingerprint", "reason"})
"""What the audit shows of a filter. Of another it says only that there was one: its value may be part of a payload."""


class Filter(TypedDict, total=False):
    """Which jobs are meant: those for which all that is given holds."""

    state: JobState | str | Sequence[JobState | str] | None
    queue: str | None
    task: str | None
    origin: str | None
    bundle: UUID | str | None
    """Of this bundle: its members, and its callbacks."""
    bundled: bool | None
    """False: of no bundle, so that members of any are spared; True: of some."""
    key: str | None
    """The job that holds this unique key of `task` now; no other filter beside the two."""
    error: str | None
    """The class of the last error, with or without its module: `CardDeclined` finds `shop.errors.CardDeclined`."""
    fingerprint: str | None
    """Of a group of failures, see `errors`."""
    args: Mapping[str, JsonValue] | None
    """Values in the arguments by their paths: `{"order.id": 88123, "items.0.sku": "abc"}`. Compared as they are
    written: a number by its digits, a string without its quotes."""
    text: str | None
    """A part of the arguments as JSON, the last error's message, the message of its progress, or its unique key; no
    matter which letters are capitals."""
    reason: str | None
    """Why it ended: `attempts`, `fatal`, `expired`, ..."""


_NAMES = ("queue", "task", "origin", "key")
_INSIDE = ("error", "fingerprint", "args", "text", "reason")


async def pages(
    executor: Executor, action: Action, ids: Sequence[UUID], which: Mapping[str, object]
) -> AsyncIterator[Sequence[UUID]]:
    """The jobs that are meant, a bounded page at a time."""
    given = check_meant(ids, which)
    bundled = given.pop("bundled", None)
    if by_key := "key" in given:
        ids = await steering.holders(executor, [stored_key(given["task"], Unique(given["key"]), "")])
    if ids or by_key:
        for start in range(0, len(ids), PAGE):
            yield ids[start : start + PAGE]
        return
    async for page in _pages_by_filter(executor, action, given):
        yield page if bundled is None else await steering.bundled(executor, page, bundled)


def check_meant(ids: Sequence[UUID], which: Mapping[str, object]) -> dict[str, Any]:
    """The filters that are given. Raises InvalidOption."""
    given: dict[str, Any] = {name: value for name, value in which.items() if value is not None}
    if unknown := sorted(set(which) - set(Filter.__annotations__)):
        raise InvalidOption(unknown[0], f"is no filter; these are: {', '.join(Filter.__annotations__)}")
    if bool(ids) == bool(given):
        raise InvalidOption("ids", "give ids, or at least one filter, not both")
    if any(not isinstance(id, UUID) for id in ids):
        raise InvalidOption("ids", "must be UUIDs, as in handle.id")
    check_filters(**{name: value for name, value in given.items() if name in _NAMES})
    inside_of(given)
    bundled = given.get("bundled")
    if bundled is not None and (not isinstance(bundled, bool) or "bundle" in given):
        raise InvalidOption("bundled", "must be True or False, and stand without bundle=")
    if "key" in given and set(given) != {"key", "task"}:
        raise InvalidOption("key", "a key is one of a task: give task= with it, and no other filter")
    return given


def wanted_by(action: Action, given: Mapping[str, Any]) -> Wanted:
    """The jobs of a filter that are looked for. Raises InvalidOption."""
    # Without a state only jobs are meant to which it can be done: not every job that the archive remembers.
    legal = [state for state, change in LEGAL[action].items() if change.happened]
    if action is Action.RETRY:
        legal = [JobState.DEAD]  # to run again what was completed, or cancelled, is seldom what is meant
    states = states_of(given["state"]) if "state" in given else legal
    inside = inside_of(given)
    return Wanted(frozenset(states), given.get("queue"), given.get("task"), given.get("origin"), inside=inside)


def _pages_by_filter(executor: Executor, action: Action, given: dict[str, Any]) -> AsyncIterator[Sequence[UUID]]:
    wanted = wanted_by(action, given)
    if "bundle" in given:
        return find_members(executor, check_id(given["bundle"], "bundle"), wanted, PAGE)
    return find_ids(executor, wanted, PAGE)


def inside_of(given: Mapping[str, Any]) -> Inside:
    """What is to be in the jobs of a filter. Raises InvalidOption."""
    return Inside(**{name: given[name] for name in _INSIDE if name in given})


def check_filters(**names: str | None) -> None:
    """Refuse names that none of our jobs can have. Raises InvalidOption."""
    for option, name in names.items():
        if name is not None:
            check_name(option, name)


def states_of(given: JobState | str | Sequence[JobState | str]) -> Sequence[JobState]:
    """The states that are named, one or several. Raises InvalidOption."""
    try:
        return [JobState(state) for state in ([given] if isinstance(given, str) else given)]
    except (ValueError, TypeError):
        raise InvalidOption("state", f"must be one of {', '.join(JobState)}") from None


def shown(which: Mapping[str, Any]) -> dict[str, Any]:
    """A filter as the audit tells of it."""
    given = {name: value for name, value in which.items() if value is not None}
    return {name: plain(value) if name in _SHOWN else True for name, value in given.items()}


def plain(value: Any) -> Any:
    """As JSON has it."""
    if isinstance(value, bool):
        return value
    if isinstance(value, Mapping):
        return dict(value)
    return str(value) if isinstance(value, str | UUID) else [str(each) for each in value]
