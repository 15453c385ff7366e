"""What is done to jobs: to those named, or to all that match; what it would do first."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import anyio
from starlette.datastructures import QueryParams

from jobqueue.base.acting.bulk import Bulk
from jobqueue.base.errors import InvalidOption, JobNotFound, JobQueueError
from jobqueue.base.steering import Action, Change, Changes
from jobqueue.store import steering
from jobqueue.tasks.acting.filters import pages
from jobqueue.tasks.acting.steering import check_target
from jobqueue.tasks.options import check_id
from jobqueue.web.dashboard.acting.form import moment_of, number_of, text_of, whole_of
from jobqueue.web.dashboard.acting.telling import tell
from jobqueue.web.dashboard.reading.filters import check_may_search, filters_of, queues_of
from jobqueue.web.dashboard.reading.view import View

AT_ONCE = 10_000
"""More jobs than this are changed in the background, by workers."""
NAMED = 1_000
"""Ids in one request."""
_PATIENCE = 4.0
_SLACK = 10
"""A tenth more jobs than were agreed to, or so many, are no surprise."""
ACTIONS = {
    "retry": Action.RETRY, "cancel": Action.CANCEL, "reschedule": Action.RESCHEDULE, "move": Action.MOVE,
    "priority": Action.SET_PRIORITY, "delete": Action.DELETE,
}  # fmt: skip
"""The verbs as they stand in URLs."""
_WORDS = {action: verb for verb, action in ACTIONS.items()}


@dataclass(frozen=True, slots=True)
class Meant:
    """Jobs that are meant: by their ids, or by a filter."""

    ids: tuple[UUID, ...] = ()
    which: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Preview:
    """What an action would do now."""

    outcomes: Mapping[Change, int]
    first: Sequence[UUID]
    """Some of those to which it would happen."""
    more: bool
    """There are more than were counted."""

    @property
    def changed(self) -> int:
        """To how many it would happen."""
        return sum(number for change, number in self.outcomes.items() if change.happened)

    @property
    def refused(self) -> dict[Change, int]:
        """The others, by reason."""
        return {change: number for change, number in self.outcomes.items() if not change.happened}


class ManyMore(JobQueueError):
    """Raised when many more jobs match by now than somebody has agreed to; nothing was done."""

    def __init__(self, agreed: int, would: Preview) -> None:
        super().__init__(f"{would.changed} jobs or more match by now, not {agreed}: nothing was done, look again")
        self.would = would


def action_of(verb: str) -> Action:
    """The action of a URL. Raises InvalidOption."""
    if verb not in ACTIONS:
        raise InvalidOption("action", f"must be one of {', '.join(ACTIONS)}")
    return ACTIONS[verb]


def meant_of(view: View, params: QueryParams) -> Meant:
    """Which jobs a form or a URL means. Raises InvalidOption, and MayNotSearch."""
    ids = tuple(dict.fromkeys(check_id(text) for text in params.getlist("id")))
    if len(ids) > NAMED:
        raise InvalidOption("id", f"at most {NAMED} jobs can be named at once; use a filter")
    if ids:
        return Meant(ids)
    filters = filters_of(params)
    return by_filter(view, filters.which())


def by_filter(view: View, which: Mapping[str, Any]) -> Meant:
    """Jobs by a filter; of somebody who sees some queues only it must name one. Raises InvalidOption, MayNotSearch."""
    check_may_search(view.access, which)
    if view.access.queues is not None and (len(queues_of(view.access, which) or ()) != 1 or "queue" not in which):
        raise InvalidOption("queue", "must name one of your queues")
    if not which:
        raise InvalidOption("id", "no job is named, and no filter is set")
    return Meant(which=which)


def target_of(action: Action, params: QueryParams) -> dict[str, Any]:
    """What an action needs beside the jobs. Raises InvalidOption."""
    if action is Action.MOVE:
        return check_target(action, to=text_of(params, "to"))
    if action is Action.SET_PRIORITY:
        return check_target(action, priority=whole_of(params, "priority"))
    if action is Action.RESCHEDULE:
        return check_target(action, delay=number_of(params, "delay"), at=moment_of(params, "at"))
    return {"from_start": True} if action is Action.RETRY and params.get("from_start") else {}


async def preview(view: View, action: Action, meant: Meant) -> Preview:
    """What it would do to them now; it counts up to AT_ONCE jobs, for some seconds. Raises DatabaseError."""
    outcomes: Counter[Change] = Counter()
    first: list[UUID] = []
    more = False
    meant = await seen(view, meant)
    async with view.site.looker.turn(), view.site.session() as session:
        with anyio.move_on_after(_PATIENCE) as scope:
            async for page in pages(session, action, meant.ids, meant.which):
                found = await steering.look(session, action, page)
                outcomes.update(found.values())
                first += [id for id, change in found.items() if change.happened][: 20 - len(first)]
                if more := outcomes.total() >= AT_ONCE:
                    break
    return Preview(outcomes, first, more or scope.cancelled_caught)


async def act(
    view: View,
    action: Action,
    meant: Meant,
    to: Mapping[str, Any],
    *,
    agreed: int | None = None,
    background: bool = False,
) -> Changes | Bulk:
    """Do it; in the `background` if that is asked for, or if a filter matches more than AT_ONCE by now.

    `agreed`: to so many jobs it was to happen. Raises ManyMore if it is many more by now, and what `app.jobs` does.
    """
    if "to" in to and not view.access.sees(to["to"]):
        raise InvalidOption("to", "is none of your queues")
    meant = await seen(view, meant)
    many = not meant.ids and "key" not in meant.which  # a key means one job
    if many and not background:
        would = await preview(view, action, meant)
        if agreed is not None and would.changed > agreed + max(_SLACK, agreed // 10):
            raise ManyMore(agreed, would)
        background = would.more
    if many and background:
        done: Changes | Bulk = await view.site.app.jobs.bulk(action, by=view.by, **to, **meant.which)
    else:
        done = await view.site.app.jobs.steer(action, meant.ids, meant.which, to, by=view.by)
    tell(view, f"jobs/{_WORDS[action]}")
    return done


async def seen(view: View, meant: Meant) -> Meant:
    """Without jobs of queues that this user does not see. Raises JobNotFound if none is left."""
    if view.access.queues is None or not meant.ids:
        return meant
    async with view.site.session() as session:
        queues = await steering.queues_of(session, meant.ids)
    left = [id for id in meant.ids if id in queues and view.access.sees(queues[id])]
    if not left:
        raise JobNotFound(meant.ids[0])
    return Meant(tuple(left))
