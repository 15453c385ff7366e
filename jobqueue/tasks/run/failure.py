"""How a failed attempt is kept: an exception as plain facts that PostgreSQL can store, whatever the exception is."""

import os
import re
import traceback
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path, PurePath
from types import CodeType, TracebackType

import anyio

from jobqueue.base.codec import encode
from jobqueue.base.job import AttemptError, JsonValue
from jobqueue.tasks.run.groups import leaves_of, meant_by

_NAME_LIMIT = 200
_MESSAGE_LIMIT = 8 << 10
_TRACEBACK_LIMIT = 64 << 10
_LEAVES_TOLD = 10
_BETWEEN = (f"{Path(__file__).parents[1]}{os.sep}", f"{Path(anyio.__file__).parent}{os.sep}")
_WAY_IN = ("jobqueue", "anyio")
"""Packages whose frames stand above the user's own."""
_INSTALLED = re.compile(r"[/\\](site|dist)-packages[/\\]")
_STDLIB = tuple({f"{Path(os.__file__).parent}{os.sep}", f"{Path(os.__file__).resolve().parent}{os.sep}"})


def describe(error: BaseException, attempt: int) -> AttemptError:
    """An exception as it is stored: class, message, traceback without local variables, the data it carries.

    A group is told by the leaf that decides, or by all its leaves; the traceback has them all.
    """
    meant = meant_by(error)
    return AttemptError(
        error_class=storable(_name(meant), _NAME_LIMIT),
        message=storable(_leaves_told(meant) if isinstance(meant, BaseExceptionGroup) else _text(meant)),
        traceback=storable(_traceback(error), _TRACEBACK_LIMIT),
        data=_data(meant),
        attempt=attempt,
        at=datetime.now(UTC),
        code_place=code_place_of(meant),
    )


def with_slip(facts: AttemptError, slip: BaseException) -> AttemptError:
    """The story of a failure whose retry policy has failed as well: the handler's own error first, then that."""
    told = f"{facts.message}\n(then its retry policy failed: {_name(slip)}: {_text(slip)}; the default policy decided)"
    both = f"{facts.traceback}\nThen its retry policy failed, and the default policy decided:\n\n{_traceback(slip)}"
    return replace(facts, message=storable(told), traceback=storable(both, _TRACEBACK_LIMIT))


def brief_json(facts: AttemptError) -> str:
    """Class and message, as they are stored with a phase."""
    return encode({"class": facts.error_class, "message": facts.message}, "error", _TRACEBACK_LIMIT)


def _name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _leaves_told(group: BaseExceptionGroup) -> str:
    leaves = leaves_of(group)
    told = [f"{_name(leaf)}: {_text(leaf)}" for leaf in leaves[:_LEAVES_TOLD]]
    more = len(leaves) - len(told)
    return "; ".join([f"{_text(group)}: {told[0]}", *told[1:], *([f"{more} more"] if more else [])])


def _traceback(error: BaseException) -> str:
    told = traceback.TracebackException(type(error), error, _users_part(error), capture_locals=False)
    _leave_out_our_way(told)
    return "".join(told.format())


def _leave_out_our_way(told: traceback.TracebackException) -> None:
    """Between a handler and the function of its phase stands how we come from one to the other, not what failed."""
    waiting: list[traceback.TracebackException | None] = [told]
    while waiting:
        each = waiting.pop()
        if each is not None:
            theirs = [place for place, frame in enumerate(each.stack) if not _is_ours(frame)]
            each.stack[: theirs[-1] if theirs else 0] = [each.stack[place] for place in theirs[:-1]]
            waiting += [each.__cause__, each.__context__, *(each.exceptions or ())]


def _is_ours(frame: traceback.FrameSummary) -> bool:
    return frame.filename.startswith(_BETWEEN)


def _users_part(error: BaseException) -> TracebackType | None:
    """The traceback from the user's first frame on; ours, and those of the way into a thread, tell nobody anything."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").partition(".")[0] in _WAY_IN:
        trace = trace.tb_next
    return trace or error.__traceback__


def code_place_of(error: BaseException) -> str | None:
    """The last frame of the user's own code: `shop/billing.py:88 charge`. None if there is none, nor in its causes.

    Where all of it is installed, what belongs to the package of the first frame is the user's own.
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if found := _own_frame(cause.__traceback__):
            code, line = found
            name = "/".join(PurePath(code.co_filename).parts[-2:])
            return storable(f"{name}:{line} {code.co_name}", _NAME_LIMIT)
        cause = cause.__cause__
    return None


def _own_frame(trace: TracebackType | None) -> tuple[CodeType, int] | None:
    own: tuple[CodeType, int] | None = None
    installed: tuple[CodeType, int] | None = None
    package: str | None = None
    while trace is not None:
        code, root = trace.tb_frame.f_code, str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
        name = code.co_filename
        if root in _WAY_IN or name.startswith((*_BETWEEN, "<frozen")):
            pass
        elif _INSTALLED.search(name):
            package = package or root
            if root == package:
                installed = code, trace.tb_lineno or 0
        elif not name.startswith(_STDLIB):
            own = code, trace.tb_lineno or 0
        trace = trace.tb_next
    return own or installed


def cut_off(text: str, at: BaseException) -> TimeoutError:
    """The failure of a run that was cut off, with the place where that happened as its cause."""
    late = TimeoutError(text)
    if at.__traceback__ is not None:
        late.__cause__ = at.with_traceback(_users_part(at))
    return late


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
