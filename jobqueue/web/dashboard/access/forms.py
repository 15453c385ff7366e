"""Reads what a page of ours sends: a form, of bounded size."""

from urllib.parse import parse_qs

from starlette.exceptions import HTTPException
from starlette.requests import Request

FORM_LIMIT = 256 << 10
_MOST_FIELDS = 2_000


async def read_body(request: Request, limit: int) -> bytes:
    """All that is sent. Raises HTTPException if it is more than this many bytes."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > limit:
            raise HTTPException(413, f"at most {limit} bytes can be sent at once")
    return body


async def read_form(request: Request, limit: int = FORM_LIMIT) -> dict[str, list[str]]:
    """The fields of a form, each with all its values. Raises HTTPException."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise HTTPException(415, "send a form: application/x-www-form-urlencoded")
    body = await read_body(request, limit)
    try:
        return parse_qs(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError:  # of UTF-8, too
        raise HTTPException(400, "this form cannot be read") from None
