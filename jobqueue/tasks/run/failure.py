"""How a failed attempt is kept: an exception as plain facts that PostgreSQL can store, whatever the exception is."""

import traceback
from datetime import UTC, datetime
from types import TracebackType

from jobqueue.base.codec import encode
from jobqueue.base.job import AttemptError, JsonValue

_NAME_LIMIT = 200
_MESSAGE_LIMIT = 8 << 10
_TRACEBACK_LIMIT = 64 << 10
_WAY_IN = ("jobqueue", "anyio")
"""Packages whose frames stand above the user's own."""


def describe(error: BaseException, attempt: int) -> AttemptError:
    """An exception as it is stored: class, message, traceback without local variables, the data it carries."""
    kind = type(error)
    frames = traceback.TracebackException(kind, error, _users_part(error), capture_locals=False)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return AttemptError(
        error_class=storable(name, _NAME_LIMIT),
        message=storable(_text(error)),
        traceback=storable("".join(frames.format()), _TRACEBACK_LIMIT),
        data=_data(error),
        attempt=attempt,
        at=datetime.now(UTC),
    )


def _users_part(error: BaseException) -> TracebackType | None:
    """The traceback from the user's first frame on; ours, and those of the way into a thread, tell nobody anything."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").partition(".")[0] in _WAY_IN:
        trace = trace.tb_next
    return trace or error.__traceback__


def cut_off(text: str, at: BaseException) -> TimeoutError:
    """The failure of a run that was cut off, with the place where that happened as its cause."""
    late = TimeoutError(text)
    if at.__traceback__ is not None:
        late.__cause__ = at.with_traceback(_users_part(at))
    return late


def first_of(broken: BaseException, error: BaseException) -> BaseException:
    """Where in the chain of `broken` there is room for `error`: at its beginning, or where it stands already."""
    seen = {id(broken)}
    while (before := broken.__cause__ or broken.__context__) is not None and id(before) not in seen:
        if before is error:
            break
        broken = before
        seen.add(id(broken))
    return broken


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "(its message cannot be shown)"


def storable(text: str, limit: int = _MESSAGE_LIMIT) -> str:
    """Text that PostgreSQL takes: no NUL, no lone surrogates, within the limit."""
    clean = text.encode("utf-8", "replace").decode("utf-8").replace("\x00", "\ufffd")
    return clean if len(clean) <= limit else clean[: limit - 20] + " ... (cut)"


def _data(error: BaseException) -> JsonValue:
    try:
        data = getattr(error, "data", None)
        encode(data, "error data", _TRACEBACK_LIMIT, setting="")
    except Exception:  # whatever a property of the user's raises
        return None
    kept: JsonValue = data
    return kept
