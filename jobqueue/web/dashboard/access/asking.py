"""Asks the function of the user's own who somebody is. Whatever it does, nobody comes in by its mistake."""

import functools
import inspect
from http import HTTPStatus

import anyio.to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from jobqueue.base.log import get_logger
from jobqueue.web.dashboard.access.access import Access, Authorize
from jobqueue.web.dashboard.access.problem import refusal

log = get_logger(__name__)


async def ask(authorize: Authorize, request: Request) -> Access | Response:
    """What the sender of a request may do, or what is sent instead.

    A plain function runs in a thread: it may look into a database and take its time. An HTTPException is an answer.
    """
    try:
        found: object
        if _is_async(authorize):
            found = authorize(request)
        else:
            found = await anyio.to_thread.run_sync(authorize, request, abandon_on_cancel=True)  # a server that stops
        if inspect.isawaitable(found):
            found = await found
        if found is not None and not isinstance(found, Access | Response):
            raise TypeError(type(found))
    except HTTPException as error:
        headers = None if error.headers is None else dict(error.headers)
        return refusal(request, error.status_code, error.detail or HTTPStatus(error.status_code).phrase, headers)
    except Exception as error:
        log.error("dashboard.authorize_failed", error=type(error).__name__)  # its text may have a secret
        return refusal(request, 500, "who you are could not be found out; the log of the server says more")
    return refusal(request, 403, "not allowed") if found is None else found


def _is_async(authorize: object) -> bool:
    while isinstance(authorize, functools.partial):
        authorize = authorize.func
    if inspect.isfunction(authorize) or inspect.ismethod(authorize):
        return inspect.iscoroutinefunction(authorize)
    return inspect.iscoroutinefunction(type(authorize).__call__)
