"""Where forms lead: a preview that asks, then the act itself, and back to where one was, with what was done."""

from collections.abc import Sequence
from contextlib import suppress

from starlette.datastructures import URL, QueryParams
from starlette.requests import Request
from starlette.responses import Response

from jobqueue.base.acting.audit import AuditEntry
from jobqueue.base.acting.bulk import Bulk
from jobqueue.base.errors import DatabaseError, InvalidOption, JobNotFound
from jobqueue.base.steering import Changes
from jobqueue.web.dashboard.access.access import NotAllowed
from jobqueue.web.dashboard.acting import jobs, verbs
from jobqueue.web.dashboard.acting.form import back_of, read_form, whole_of
from jobqueue.web.dashboard.pages.sheet import led_to, sheet, view_of
from jobqueue.web.dashboard.reading.filters import TEXTS
from jobqueue.web.dashboard.reading.view import View
from jobqueue.web.dashboard.site import Site

_TYPED = 1_000
"""Above so many jobs their number has to be typed."""
_ABOUT = ("id", "state", *TEXTS, "args")


async def ask(site: Site, request: Request) -> Response:
    """What would be done, and how much of it: nothing is changed."""
    view, params = view_of(site, request), request.query_params
    if not view.access.operate:  # to count what matches is dear, and leads him nowhere
        raise NotAllowed("you may look, but not change anything")
    name = _name(request)
    if name.startswith("jobs/"):
        return await _ask_about_jobs(site, request, view, params)
    verb = verbs.verb_of(name)
    return sheet(
        site, request, "confirm.html", active=name.partition("/")[0], title=name.partition("/")[2].capitalize(),
        name=name, asks=verb.asks or "Do this?", back=back_of(params), fields=_fields(params),
    )  # fmt: skip


async def act(site: Site, request: Request) -> Response:
    """Do it, and go back."""
    view, form = view_of(site, request), await read_form(request)
    name = _name(request)
    try:
        done: Changes | Bulk | None = None
        if name.startswith("jobs/"):
            done = await _act_on_jobs(view, name.partition("/")[2], form)
        else:
            await verbs.act(view, name, form)
    except jobs.ManyMore as error:
        return _ask(site, request, form, error.would, anew=True)
    except (InvalidOption, JobNotFound, verbs.NotYours) as error:
        return sheet(
            site, request, "refused.html", active="", title="Not done", status=400, why=str(error), back=back_of(form)
        )
    if isinstance(done, Bulk):
        more = "" if "background" in form else "?more=1"
        return led_to(request, f"/bulk/{done.id}{more}")
    return await _back(site, request, view, back_of(form))


async def _ask_about_jobs(site: Site, request: Request, view: View, params: QueryParams) -> Response:
    action, meant = jobs.action_of(request.path_params["verb"]), jobs.meant_of(view, params)
    return _ask(site, request, params, await jobs.preview(view, action, meant))


def _ask(
    site: Site, request: Request, params: QueryParams, would: jobs.Preview, *, anew: bool = False
) -> Response:  # fmt: skip
    """`anew`: it is asked again, for there are many more jobs than were agreed to."""
    verb = request.path_params["verb"]
    return sheet(
        site, request, "preview.html", active="jobs", title=f"{verb.capitalize()} jobs", verb=verb, would=would,
        back=back_of(params), fields=_fields(params, _ABOUT), by_filter="id" not in params,
        typed=would.changed > _TYPED, anew=anew, status=409 if anew else 200,
    )  # fmt: skip


async def _act_on_jobs(view: View, verb: str, form: QueryParams) -> Changes | Bulk:
    action, meant = jobs.action_of(verb), jobs.meant_of(view, form)
    to = jobs.target_of(action, form)
    if "typed" in form and form["typed"].strip() != form.get("count"):
        raise InvalidOption("typed", f"must be the number of jobs: {form.get('count', '')[:20]}")
    agreed, background = whole_of(form, "count"), "background" in form
    return await jobs.act(view, action, meant, to, agreed=agreed, background=background)


async def _back(site: Site, request: Request, view: View, back: str) -> Response:
    done: Sequence[AuditEntry] = ()
    with suppress(DatabaseError):  # it is done all the same
        done = await site.app.audit.list(who=view.by, limit=1)
    return led_to(request, str(URL(back).include_query_params(did=done[0].id)) if done else back)


def _name(request: Request) -> str:
    return f"{request.path_params['subject']}/{request.path_params['verb']}"


def _fields(params: QueryParams, only: tuple[str, ...] | None = None) -> list[tuple[str, str]]:
    """What a form carries on."""
    return [(name, value) for name, value in params.multi_items() if name != "back" and (only is None or name in only)]
