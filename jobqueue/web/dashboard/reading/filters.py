"""Which jobs are meant: filters as they stand in a URL, for lists, and for what is done to all that match."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from jobqueue.base.errors import InvalidOption
from jobqueue.base.job import JobState
from jobqueue.base.looking.search import Search, read_search
from jobqueue.tasks.options import check_id
from jobqueue.telling.story import REASONS
from jobqueue.web.dashboard.access.access import Access, NotAllowed
from jobqueue.web.dashboard.reading.view import Model

TEXTS = ("q", "queue", "task", "origin", "error", "fingerprint", "bundle", "key", "reason")
"""Filters that are one text each, in the order of the page."""
_LENGTH = 1_000
"""Characters of one filter; each has a limit of its own beside."""


class MayNotSearch(NotAllowed):
    """Raised for a search in payloads by somebody who may not see them: its answers would tell what is in them."""

    def __init__(self) -> None:
        super().__init__("you may not search in arguments and messages, which you may not see; search by names")


class Filters(Model):
    """Filters; each empty for any."""

    state: tuple[JobState, ...] = ()
    q: str | None = None
    """The search box: an id or a part of one, `queue:mail`, `args.to:ada`, or any text."""
    queue: str | None = None
    task: str | None = None
    origin: str | None = None
    error: str | None = None
    fingerprint: str | None = None
    bundle: str | None = None
    key: str | None = None
    reason: str | None = None
    args: tuple[tuple[str, str], ...] = ()
    """Paths in the arguments, and the values there: `args=order.id=88123` in a URL."""

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Name and value of each that is set, as they stand in a URL."""
        yield from (("state", state.value) for state in self.state)
        yield from ((name, value) for name in TEXTS if (value := getattr(self, name)) is not None)
        yield from (("args", f"{path}={value}") for path, value in self.args)

    def query(self, *without: tuple[str, str]) -> str:
        """The query of a URL that has them, without some."""
        return urlencode([pair for pair in self.pairs() if pair not in without])

    def search(self) -> Search:
        """What the search box says. Raises InvalidOption."""
        return read_search(self.q or "")

    def which(self) -> dict[str, Any]:
        """What `app.jobs.list`, `app.jobs.retry` and the like take, of those that are set. Raises InvalidOption."""
        said = {name: value for name in TEXTS if name != "q" and (value := getattr(self, name)) is not None}
        if "bundle" in said:
            said["bundle"] = check_id(said["bundle"], "bundle")
        if self.state:
            said["state"] = list(self.state)
        if self.args:
            said["args"] = dict(self.args)
        search = self.search()
        found = search.filters if search.id is None else {"text": search.id}
        if both := sorted(name for name in said.keys() & found.keys() if said[name] != found[name]):
            raise InvalidOption(both[0], "is in the search box, and in a filter beside it: say it once")
        return said | found


def filters_of(params: QueryParams) -> Filters:
    """The filters of a URL; a field that was left empty is none. Raises InvalidOption."""
    said: dict[str, Any] = {name: text for name in TEXTS if (text := params.get(name, "").strip())}
    if long := [name for name, text in said.items() if len(text) > _LENGTH]:
        raise InvalidOption(long[0], f"must have at most {_LENGTH} characters")
    args = [text.partition("=") for text in params.getlist("args") if text.strip()]
    if any(not equals for _, equals, _ in args):
        raise InvalidOption("args", "must be a path and a value: order.id=88123")
    states = [_state(name) for name in params.getlist("state") if name]
    return Filters(state=tuple(dict.fromkeys(states)), args=tuple((path, value) for path, _, value in args), **said)


def check_may_search(access: Access, which: Mapping[str, Any]) -> None:
    """Refuse a search in what may not be seen. Raises MayNotSearch."""
    if access.payloads:
        return
    if "args" in which or "text" in which or which.get("reason", "fatal") not in REASONS:  # a task's own words
        raise MayNotSearch


def queues_of(access: Access, which: Mapping[str, Any]) -> Sequence[str] | None:
    """The queues that are meant, of those that may be seen; None for all there are."""
    if access.queues is None:
        return [which["queue"]] if "queue" in which else None
    return [queue for queue in sorted(access.queues) if which.get("queue", queue) == queue]


def _state(name: str) -> JobState:
    try:
        return JobState(name)
    except ValueError:
        raise InvalidOption("state", f"must be one of {', '.join(JobState)}") from None
