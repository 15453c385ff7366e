"""What a form of ours, or the query of a URL, has sent. Whatever cannot be read is an InvalidOption with its name."""

from datetime import UTC, datetime
from urllib.parse import parse_qsl
from uuid import UUID

from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request

from jobqueue.base.errors import InvalidOption
from jobqueue.base.moments import read_length
from jobqueue.tasks.options import check_id

_BYTES = 2 << 20
_FIELDS = 2_000


async def read_body(request: Request, limit: int) -> bytes:
    """All that is sent. Raises HTTPException if it is more than this many bytes."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > limit:
            raise HTTPException(413, f"at most {limit} bytes can be sent at once")
    return body


def kind_of(request: Request) -> str:
    """The media type of what is sent."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_form(request: Request, limit: int = _BYTES) -> QueryParams:
    """The fields of a form, in their order, repeated ones too. Raises HTTPException."""
    body = await read_body(request, limit)
    if body and kind_of(request) != "application/x-www-form-urlencoded":
        raise HTTPException(415, "send a form: application/x-www-form-urlencoded")
    try:
        return QueryParams(
            parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_FIELDS)
        )  # fmt: skip
    except ValueError:  # of UTF-8, too
        raise HTTPException(400, f"this form cannot be read: at most {_FIELDS} fields, in UTF-8") from None


def word_of(form: QueryParams, name: str) -> str | None:
    """A field without spaces around it; None for an empty one."""
    return form.get(name, "").strip() or None


def text_of(form: QueryParams, name: str) -> str:
    """A field that must be filled. Raises InvalidOption."""
    if (text := word_of(form, name)) is None:
        raise InvalidOption(name, "must not be empty")
    return text


def id_of(form: QueryParams, name: str) -> UUID | None:
    """An id, None for an empty field. Raises InvalidOption."""
    text = word_of(form, name)
    return None if text is None else check_id(text, name)


def number_of(form: QueryParams, name: str) -> float | None:
    """A number, None for an empty field. Raises InvalidOption."""
    text = word_of(form, name)
    try:
        return None if text is None else float(text)
    except ValueError:
        raise InvalidOption(name, "must be a number") from None


def length_of(form: QueryParams, name: str) -> float | None:
    """A length of time in seconds, such as 90, 12h or 7d; None for an empty field. Raises InvalidOption."""
    text = word_of(form, name)
    return None if text is None else read_length(name, text)


def whole_of(form: QueryParams, name: str) -> int | None:
    """A whole number, None for an empty field. Raises InvalidOption."""
    text = word_of(form, name)
    if text is None:
        return None
    if not text.lstrip("+-").isdecimal():
        raise InvalidOption(name, "must be a whole number")
    try:
        return int(text)
    except ValueError:  # thousands of digits, or several signs
        raise InvalidOption(name, "must be a whole number") from None


def moment_of(form: QueryParams, name: str) -> datetime | None:
    """A moment; one without a time zone is in UTC, as the page says. None for an empty field. Raises InvalidOption."""
    text = word_of(form, name)
    try:
        moment = None if text is None else datetime.fromisoformat(text)
    except ValueError:
        raise InvalidOption(name, "must be a moment such as 2026-01-31 07:00, in UTC") from None
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=UTC)


def back_of(form: QueryParams) -> str:
    """Where to go afterwards: a path of ours, never another site."""
    back = form.get("back", "/")
    return back if back.startswith("/") and not back.startswith(("//", "/\\")) and back.isprintable() else "/"
