"""What a site takes out of payloads before anybody sees them."""

import json
from collections.abc import Callable
from typing import Any, TypeAlias

from jobqueue.base.job import Job, JsonValue
from jobqueue.web.dashboard.showing.shown import DEPTH, Number, Pairs, as_json, parsed, quoted

Redact: TypeAlias = Callable[[Job, str, JsonValue], JsonValue]
"""`redact(job, path, value)` gives what is shown in place of `value`; `path` such as `args.card.number`."""

_HIDDEN = "(hidden: redact failed)"


def redacted(job: Job, redact: Redact | None, path: str, text: str) -> str:
    """JSON text as it may be shown. What `redact` cannot look at, or fails for, is not shown."""
    if redact is None:
        return text
    try:
        return as_json(_changed(job, redact, path, parsed(text), 0))
    except (ValueError, RecursionError):
        return quoted(_HIDDEN)


def redacted_text(job: Job, redact: Redact | None, path: str, text: str) -> str:
    """A text as it may be shown."""
    if redact is None:
        return text
    try:
        new = redact(job, path, text)
        return new if isinstance(new, str) else json.dumps(new)
    except Exception:  # as below
        return _HIDDEN


def _changed(job: Job, redact: Redact, path: str, value: Any, depth: int) -> Any:
    """From the outside to the inside: what was replaced is not looked into."""
    plain = _plain(value)
    try:
        new = redact(job, path, plain)
        if new is not plain or (isinstance(plain, dict | list) and plain != _plain(value)):  # changed where it stands
            return parsed(json.dumps(new))
    except Exception:  # whatever a function of the user's raises: better nothing than what it was to hide
        return _HIDDEN
    if depth >= DEPTH:
        return _HIDDEN if isinstance(value, list) and value else value
    if isinstance(value, Pairs):
        return Pairs((key, _changed(job, redact, f"{path}.{key}", item, depth + 1)) for key, item in value)
    if isinstance(value, list):
        return [_changed(job, redact, f"{path}.{place}", item, depth + 1) for place, item in enumerate(value)]
    return value


def _plain(value: Any) -> Any:
    """What was parsed as the values that a function expects."""
    if isinstance(value, Pairs):
        return {key: _plain(item) for key, item in value}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, Number):
        try:
            return int(value)
        except ValueError:  # a fraction, or more digits than Python reads
            return float(value)
    return value
