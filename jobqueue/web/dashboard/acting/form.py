"""What a form of ours has sent."""

from urllib.parse import parse_qsl

from starlette.datastructures import QueryParams
from starlette.requests import Request

from jobqueue.base.errors import InvalidOption
from jobqueue.base.moments import read_length

_BYTES = 2 << 20
_FIELDS = 2_000


async def read_form(request: Request) -> QueryParams:
    """The fields of a form, in their order, repeated ones too. Raises InvalidOption."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _BYTES:
            raise InvalidOption("form", f"must have at most {_BYTES >> 20} MiB")
    try:
        return QueryParams(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_FIELDS))
    except (UnicodeDecodeError, ValueError):
        raise InvalidOption(
            "form", f"must be a form of a page of ours, in UTF-8, of at most {_FIELDS} fields"
        ) from None


def text_of(form: QueryParams, name: str) -> str:
    """A field that must be filled. Raises InvalidOption."""
    if not (text := form.get(name, "").strip()):
        raise InvalidOption(name, "must not be empty")
    return text


def number_of(form: QueryParams, name: str) -> float | None:
    """A number, None for an empty field. Raises InvalidOption."""
    text = form.get(name, "").strip()
    try:
        return float(text) if text else None
    except ValueError:
        raise InvalidOption(name, "must be a number") from None


def length_of(form: QueryParams, name: str) -> float | None:
    """A length of time in seconds, such as 90, 12h or 7d; None for an empty field. Raises InvalidOption."""
    text = form.get(name, "").strip()
    return read_length(name, text) if text else None


def whole_of(form: QueryParams, name: str) -> int | None:
    """A whole number, None for an empty field. Raises InvalidOption."""
    text = form.get(name, "").strip()
    if text and not text.lstrip("+-").isdecimal():
        raise InvalidOption(name, "must be a whole number")
    try:
        return int(text) if text else None
    except ValueError:  # thousands of digits, or several signs
        raise InvalidOption(name, "must be a whole number") from None


def back_of(form: QueryParams) -> str:
    """Where to go afterwards: a path of ours, never another site."""
    back = form.get("back", "/")
    return back if back.startswith("/") and not back.startswith(("//", "/\\")) and back.isprintable() else "/"
