"""Who did what."""

from starlette.requests import Request
from starlette.responses import Response

from jobqueue.web.dashboard.acting.form import id_of, whole_of, word_of
from jobqueue.web.dashboard.pages.sheet import sheet, view_of
from jobqueue.web.dashboard.reading.acting.audit import read_audit
from jobqueue.web.dashboard.site import Site

_NAMES = ("who", "action", "job")


async def audit(site: Site, request: Request) -> Response:
    """The newest first; of somebody, of an action, about a job."""
    params = request.query_params
    said = {name: word_of(params, name) for name in _NAMES}
    seen = await read_audit(
        view_of(site, request), who=said["who"], action=said["action"], job=id_of(params, "job"),
        before=whole_of(params, "before"),
    )  # fmt: skip
    return sheet(site, request, "audit.html", active="audit", title="Audit", seen=seen, said=said)
