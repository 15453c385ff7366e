"""What is done to queues, schedules, limits, bundles, webhooks and bulk actions: one table, a line for each verb."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from starlette.datastructures import QueryParams

from jobqueue.base.errors import InvalidOption
from jobqueue.base.flows.limit import Rate
from jobqueue.base.moments import LONGEST
from jobqueue.tasks.options import check_id
from jobqueue.web.dashboard.access.access import NotAllowed
from jobqueue.web.dashboard.acting.form import length_of, moment_of, number_of, text_of, whole_of
from jobqueue.web.dashboard.acting.telling import tell
from jobqueue.web.dashboard.reading.acting.bulks import read_bulk
from jobqueue.web.dashboard.reading.view import View

_MINUTE = 60.0


class NotYours(NotAllowed):
    """Raised when somebody who sees some queues only is to change what belongs to others too."""

    def __init__(self, subject: str) -> None:
        super().__init__(f"{subject} may belong to queues that you do not see; ask somebody who sees them all")


Doing = Callable[[View, QueryParams], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Verb:
    """Something that can be done."""

    do: Doing
    asks: str | None = None
    """What is asked first; None: it is done at once, and can be undone as easily."""


async def _pause(view: View, form: QueryParams) -> None:
    minutes = number_of(form, "minutes")
    seconds = None if minutes is None else minutes * _MINUTE
    await view.site.app.queues.pause(_queue(view, form), moment_of(form, "until"), seconds=seconds, by=view.by)


async def _resume(view: View, form: QueryParams) -> None:
    await view.site.app.queues.resume(_queue(view, form), by=view.by)


async def _keep(view: View, form: QueryParams) -> None:
    await view.site.app.queues.keep(
        _queue(view, form), completed=length_of(form, "completed"), other=length_of(form, "other"),
        most_completed=whole_of(form, "most_completed"), most_other=whole_of(form, "most_other"), by=view.by,
    )  # fmt: skip


async def _pause_schedule(view: View, form: QueryParams) -> None:
    name, minutes, until = await _schedule(view, form), number_of(form, "minutes"), moment_of(form, "until")
    if minutes is not None:
        if until is not None:
            raise InvalidOption("minutes", "give either minutes or a time")
        now = (await view.site.app.schedules.get(name)).read_at or datetime.now(UTC)
        until = now + timedelta(minutes=_positive("minutes", minutes))
    await view.site.app.schedules.pause(name, until, by=view.by)


async def _resume_schedule(view: View, form: QueryParams) -> None:
    await view.site.app.schedules.resume(await _schedule(view, form), by=view.by)


async def _trigger(view: View, form: QueryParams) -> None:
    await view.site.app.schedules.trigger(await _schedule(view, form), by=view.by)


async def _backfill(view: View, form: QueryParams) -> None:
    since, until = moment_of(form, "since"), moment_of(form, "until")
    if since is None or until is None:
        raise InvalidOption("since" if since is None else "until", "must not be empty")
    await view.site.app.schedules.backfill(await _schedule(view, form), since, until, by=view.by)


async def _delete_schedule(view: View, form: QueryParams) -> None:
    await view.site.app.schedules.delete(await _schedule(view, form), by=view.by)


async def _set_limit(view: View, form: QueryParams) -> None:
    _whole(view, "a limit")
    count, per = whole_of(form, "count"), number_of(form, "per")
    rate = None if count is None or per is None else Rate(count, per, whole_of(form, "burst") or 1)
    concurrency = whole_of(form, "concurrency")
    await view.site.app.limits.set(text_of(form, "name"), concurrency=concurrency, rate=rate, by=view.by)


async def _reset_limit(view: View, form: QueryParams) -> None:
    _whole(view, "a limit")
    await view.site.app.limits.reset(text_of(form, "name"), by=view.by)


async def _recount(view: View, form: QueryParams) -> None:
    _whole(view, "a limit")
    await view.site.app.limits.recount(text_of(form, "name"), by=view.by)


def _of_bundle(verb: str) -> Doing:
    async def do(view: View, form: QueryParams) -> None:
        _whole(view, "a bundle")
        await getattr(view.site.app.bundles, verb)(check_id(text_of(form, "id")), by=view.by)

    return do


def _of_webhook(verb: str) -> Doing:
    async def do(view: View, form: QueryParams) -> None:
        _whole(view, "a webhook")
        await getattr(view.site.app.webhooks, verb)(check_id(text_of(form, "id")), by=view.by)

    return do


async def _cancel_bulk(view: View, form: QueryParams) -> None:
    await view.site.app.bulks.cancel((await read_bulk(view, check_id(text_of(form, "id")))).id, by=view.by)


VERBS: Mapping[str, Verb] = {
    "queues/pause": Verb(_pause),
    "queues/resume": Verb(_resume),
    "queues/keep": Verb(_keep),
    "schedules/pause": Verb(_pause_schedule),
    "schedules/resume": Verb(_resume_schedule),
    "schedules/trigger": Verb(_trigger),
    "schedules/backfill": Verb(_backfill, "Store a job for each planned time that has none?"),
    "schedules/delete": Verb(_delete_schedule, "Delete this schedule? Jobs that it has made stay."),
    "limits/set": Verb(_set_limit),
    "limits/reset": Verb(_reset_limit),
    "limits/recount": Verb(_recount),
    "bundles/cancel": Verb(_of_bundle("cancel"), "Cancel this bundle, and all its jobs that have not ended?"),
    "bundles/retry": Verb(_of_bundle("retry"), "Run the dead and cancelled jobs of this bundle again?"),
    "bundles/close": Verb(_of_bundle("close"), "Close this bundle? No job can be added to it any more."),
    "bundles/delete": Verb(_of_bundle("delete"), "Delete this bundle, and its jobs with their results?"),
    "bulk/cancel": Verb(_cancel_bulk),
    "webhooks/pause": Verb(_of_webhook("pause")),
    "webhooks/resume": Verb(_of_webhook("resume")),
    "webhooks/test": Verb(_of_webhook("test")),
    "webhooks/redeliver": Verb(_of_webhook("redeliver"), "Send all deliveries again that are dead?"),
    "webhooks/delete": Verb(_of_webhook("delete"), "Delete this webhook, and what waits to be delivered to it?"),
}
"""By subject and verb, as they stand in URLs."""


def verb_of(name: str) -> Verb:
    """The verb of this name. Raises InvalidOption."""
    if name not in VERBS:
        raise InvalidOption("action", "there is no such action")
    return VERBS[name]


async def act(view: View, name: str, form: QueryParams) -> None:
    """Do it. Raises InvalidOption, NotYours, and what the App does."""
    await verb_of(name).do(view, form)
    tell(view, name)


def _positive(name: str, minutes: float) -> float:
    if not 0 < minutes * _MINUTE <= LONGEST:
        raise InvalidOption(name, "must be above 0, and at most ten years")
    return minutes


def _queue(view: View, form: QueryParams) -> str:
    queue = text_of(form, "queue")
    if not view.access.sees(queue):
        raise InvalidOption("queue", "is none of yours")
    return queue


async def _schedule(view: View, form: QueryParams) -> str:
    name = text_of(form, "name")
    if view.access.queues is not None and not view.access.sees((await view.site.app.schedules.get(name)).queue):
        raise NotYours("this schedule")
    return name


def _whole(view: View, subject: str) -> None:
    """What spans queues is only for those who see all of them. Raises NotYours."""
    if view.access.queues is not None:
        raise NotYours(subject)
