"""What went wrong, as a page or as problem+json. What nobody foresaw is in the log by its class and place alone: its
text may quote a payload."""

import time
from http import HTTPStatus
from pathlib import PurePath

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobqueue.base import errors
from jobqueue.base.log import get_logger
from jobqueue.web.dashboard.access.access import NotAllowed
from jobqueue.web.dashboard.access.mounted import is_api
from jobqueue.web.dashboard.access.problem import problem
from jobqueue.web.dashboard.acting.jobs import ManyMore
from jobqueue.web.dashboard.pages.sheet import sheet
from jobqueue.web.dashboard.site import Site

log = get_logger(__name__)

_RETRY = {"retry-after": "5"}
_QUIET = 10.0
"""Seconds in which an outage is in the log once."""
_STATUS: tuple[tuple[tuple[type[Exception], ...], int], ...] = (
    ((errors.JobNotFound, errors.BundleNotFound, errors.ScheduleNotFound, errors.WebhookNotFound, errors.UnknownLimit,
      errors.BulkNotFound),
     404),
    ((errors.InvalidOption, errors.InvalidPayload), 400),
    ((errors.DuplicateJob, errors.BundleEnded, errors.TooManySignals, errors.LimitConflict, errors.KeyLocked,
      errors.QueueLocked, errors.ClaimLost, ManyMore), 409),
    ((errors.EventsLost,), 410),
    ((NotAllowed,), 403),
    ((errors.NotMigrated, errors.SchemaTooNew, errors.AppClosed, errors.ConfigurationError), 503),
)  # fmt: skip
_TITLES = {
    400: "That cannot be read", 403: "Not for you", 404: "Not here", 405: "Not in this way", 409: "Not now",
    500: "A fault of the dashboard", 503: "Out of service",
}  # fmt: skip
_DETAILS = {404: "There is nothing under this address.", 405: "This address does not take that method."}
_PHRASES = frozenset(each.phrase for each in HTTPStatus)


class Faults:
    """ASGI middleware: whatever is raised behind it becomes an answer, and never reaches the server."""

    def __init__(self, app: ASGIApp, site: Site) -> None:
        self._app = app
        self._site = site
        self._told = float("-inf")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception as error:
            if scope["type"] != "http":
                raise
            answer = self.answer(Request(scope, receive), error)
            if not begun:  # else it is cut off where it was
                await answer(scope, receive, send)

    def answer(self, request: Request, error: Exception) -> Response:
        """What is sent in place of what could not be made."""
        while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if isinstance(error, HTTPException):
            headers = None if error.headers is None else dict(error.headers)
            detail = _DETAILS.get(error.status_code) if error.detail in _PHRASES else None
            return _say(self._site, request, error.status_code, detail or error.detail, headers=headers)
        name = type(error).__name__
        for kinds, status in _STATUS:
            if isinstance(error, kinds):
                return _say(self._site, request, status, str(error), name, headers=_RETRY if status == 503 else None)
        if isinstance(error, errors.DatabaseError):
            return self._away(request, error)
        log.error("dashboard.failed", error=name, place=_place(error))
        return _say(
            self._site, request, 500, "This could not be done. The log of the server says where it failed.", name
        )

    def _away(self, request: Request, error: Exception) -> Response:
        if (now := time.monotonic()) - self._told > _QUIET:
            self._told = now
            log.warning("dashboard.database_away", error=type(error).__name__)
        advice = ("Jobs are not lost: workers wait for it as well.", "Load this page again in a moment.")
        return _say(
            self._site, request, 503, "The database does not answer, or refuses to.", "DatabaseError", advice, _RETRY
        )


def _say(
    site: Site, request: Request, status: int, detail: str, error: str | None = None, advice: tuple[str, ...] = (),
    headers: dict[str, str] | None = None,
) -> Response:  # fmt: skip
    if is_api(request.scope):
        return problem(status, detail, error, headers)
    title = _TITLES.get(status, HTTPStatus(status).phrase)
    answer: Response
    if "part" in request.query_params:  # a page that renews itself: it stays as it is
        return PlainTextResponse(f"{title}: {detail}\n", status, headers)
    try:
        answer = sheet(
            site, request, "error.html", active="", title=title, status=status, code=status, detail=detail,
            error=error, advice=advice,
        )  # fmt: skip
    except Exception as second:  # of the page around it: then there is none
        log.error("dashboard.failed", error=type(second).__name__, place=_place(second))
        answer = PlainTextResponse(f"{title}: {detail}\n", status)
    answer.headers.update(headers or {})
    return answer


def _place(error: BaseException) -> str:
    """File and line of the last frame: nothing of what was there."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f"{PurePath(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
