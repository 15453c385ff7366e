"""Answers to those who get nothing: problem+json for programs, a line of text for others."""

from http import HTTPStatus

import orjson
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from jobqueue.web.dashboard.access.mounted import is_api

KIND = "application/problem+json"


def problem(status: int, detail: str, error: str | None = None, headers: dict[str, str] | None = None) -> Response:
    """As RFC 9457 has it; `error` is the class of what was raised, by which programs tell it from others."""
    said = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return Response(orjson.dumps(said | ({"error": error} if error else {})), status, headers, KIND)


def refusal(request: Request, status: int, sentence: str, headers: dict[str, str] | None = None) -> Response:
    """To somebody of whom nothing is known yet, so without a page around it."""
    if is_api(request.scope):
        return problem(status, sentence, headers=headers)
    return PlainTextResponse(f"{sentence}\n", status, headers)
