"""What is around every page: the menu, and who looks. Or a part of a page alone, if that is asked for."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeAlias

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from jobqueue.base.errors import DatabaseError, InvalidOption
from jobqueue.base.version import VERSION
from jobqueue.store.schema.migrate import migrations
from jobqueue.web.dashboard.access.guard import access_of
from jobqueue.web.dashboard.access.mounted import base
from jobqueue.web.dashboard.reading.recent import menu_counts
from jobqueue.web.dashboard.reading.view import View
from jobqueue.web.dashboard.showing.rendering import UnknownBlock, render
from jobqueue.web.dashboard.showing.static import static_path
from jobqueue.web.dashboard.site import Site

_DID = "jobqueue.did"
_DIGITS = 19
LEAVES = "jobqueue.leaves"
"""In a request's scope: whoever sent it has logged in here, and may log out."""
Page: TypeAlias = Callable[[Site, Request], Awaitable[Response]]

MENU = (
    ("overview", "Overview", "/"),
    ("queues", "Queues", "/queues"),
    ("jobs", "Jobs", "/jobs"),
    ("errors", "Errors", "/errors"),
    ("tasks", "Tasks", "/tasks"),
    ("workers", "Workers", "/workers"),
    ("schedules", "Schedules", "/schedules"),
    ("bundles", "Bundles", "/bundles"),
    ("limits", "Limits", "/limits"),
    ("webhooks", "Webhooks", "/webhooks"),
    ("audit", "Audit", "/audit"),
)


async def note_what_was_done(site: Site, request: Request) -> None:
    """After an act the query's `did` names its row in the audit: the page shows it, to whoever did it."""
    number = request.query_params.get("did", "")
    if number.isdecimal() and len(number) < _DIGITS:
        with suppress(DatabaseError):  # the page may have something to show all the same
            found = await site.app.audit.list(who=access_of(request).user, before=int(number) + 1, limit=1)
            request.scope[_DID] = found[0] if found and found[0].id == int(number) else None


def view_of(site: Site, request: Request) -> View:
    """Who looks."""
    return View(site, access_of(request))


def sheet(
    site: Site, request: Request, template: str, *, active: str, title: str, status: int = 200, **values: object
) -> Response:
    """A page; or only the parts of it that the query's `part` names, for a page that renews itself.

    In the template there are `base` (the root of all links), `access`, `can` (operate) beside what is given.
    """
    access = access_of(request)
    around: dict[str, object] = {
        "base": base(request.scope),
        "site": site,
        "version": VERSION,
        "menu": MENU,
        "counts": menu_counts(view_of(site, request)),
        "migration": migrations()[-1].name[:4],
        "active": active,
        "title": title,
        "access": access,
        "can": access.operate,
        "leaves": request.scope.get(LEAVES, False),
        "static": static_path,
        "path": request.url.path,
        "query": request.url.query,
        "did": request.scope.get(_DID),
    }
    parts = [name for name in request.query_params.get("part", "").split(",") if name]
    try:
        return HTMLResponse(render(template, around | values, parts), status)
    except UnknownBlock:
        raise InvalidOption("part", "this page has no such part") from None


def led_to(request: Request, path: str) -> Response:
    """On to another page of ours."""
    return RedirectResponse(base(request.scope) + path, 303)


def missing(site: Site, request: Request, active: str, kind: str, name: str) -> Response:
    """A page that says that there is no such thing, or none that may be seen: the two look the same."""
    return sheet(
        site, request, "missing.html", active=active, title=f"No such {kind}", status=404, kind=kind, name=name
    )
