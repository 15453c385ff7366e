"""Who did what."""

from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from jobqueue.base.errors import InvalidOption
from jobqueue.web.dashboard.pages.sheet import sheet, view_of
from jobqueue.web.dashboard.reading.acting.audit import read_audit
from jobqueue.web.dashboard.site import Site

_NAMES = ("who", "action", "job")
_DIGITS = 19


async def audit(site: Site, request: Request) -> Response:
    """The newest first; of somebody, of an action, about a job."""
    said = {name: request.query_params.get(name, "").strip() or None for name in _NAMES}
    before = request.query_params.get("before", "")
    seen = await read_audit(
        view_of(site, request), who=said["who"], action=said["action"], job=_id(said["job"]),
        before=int(before) if before.isdecimal() and len(before) < _DIGITS else None,
    )  # fmt: skip
    return sheet(site, request, "audit.html", active="audit", title="Audit", seen=seen, said=said)


def _id(text: str | None) -> UUID | None:
    try:
        return None if text is None else UUID(text)
    except ValueError:
        raise InvalidOption("job", "must be the id of a job") from None
