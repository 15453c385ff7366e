"""Answers in JSON, by the table."""

from collections.abc import Awaitable, Callable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobqueue.web.dashboard.access.guard import access_of
from jobqueue.web.dashboard.acting.form import kind_of, read_body
from jobqueue.web.dashboard.api.openapi import openapi
from jobqueue.web.dashboard.api.parameters import parameters
from jobqueue.web.dashboard.api.table import ROWS, Row
from jobqueue.web.dashboard.reading.view import View
from jobqueue.web.dashboard.site import Site

ROOT = "/api/v1"
_BODY_LIMIT = 4 << 20


def api_routes(site: Site) -> list[Route]:
    """All of them."""
    rows = [Route(ROOT + row.path, _answering(site, row), methods=[row.method]) for row in ROWS]
    return [Route(f"{ROOT}/openapi.json", _describe, methods=["GET"]), *rows]


async def _describe(request: Request) -> Response:
    return Response(openapi(), media_type="application/json")


def _answering(site: Site, row: Row) -> Callable[[Request], Awaitable[Response]]:
    takes = parameters(row)

    async def answer(request: Request) -> Response:
        access = access_of(request)
        if row.payloads and not access.payloads:
            raise HTTPException(403, "you may not see payloads")
        values = takes.read(request.path_params, request.query_params)
        if takes.body is not None:
            if kind_of(request) != "application/json":
                raise HTTPException(415, "send application/json")
            values |= takes.read_body(await read_body(request, _BODY_LIMIT))
        found = await row.answer(View(site, access), **values)
        if found is None:
            raise HTTPException(404)
        return Response(takes.gives.dump_json(found), media_type="application/json")

    return answer
