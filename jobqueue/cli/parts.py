"""What is meant by its name, its id or a part of that, as people copy it from a list; the App may stand beside it."""

import re
from collections.abc import Sequence
from uuid import UUID

from jobqueue.cli.terminal.failures import ExitCode, Refusal

_PART = re.compile(r"(?=.*[0-9])[0-9a-f-]{8,36}", re.IGNORECASE)
_WORDS = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_APP = re.compile(f"{_WORDS}:{_WORDS}")


def name_and_app(first: str, second: str | None) -> tuple[str, str | None]:
    """The name, and perhaps an App: after it, or before it if only the first looks like one, as shop:app does."""
    if second is not None and _APP.fullmatch(first) and not _APP.fullmatch(second):
        return second, first
    return first, second


def part_and_app(kind: str, first: str, second: str | None) -> tuple[str, str | None]:
    """In whichever order they came; `kind` is a `webhook`, a `bundle`. Raises Refusal."""
    words = [first] if second is None else [first, second]
    parts = [word for word in words if _PART.fullmatch(word)]
    if len(parts) != 1:
        raise Refusal(f"give the id of one {kind}, as `{kind}s list` has it, and perhaps an App", ExitCode.USAGE)
    apps = [word for word in words if word not in parts]
    return parts[0].lower(), apps[0] if apps else None


def single(kind: str, part: str, found: Sequence[UUID]) -> UUID:
    """The only one that was found. Raises Refusal."""
    if len(found) == 1:
        return found[0]
    which = f"more than one is: {', '.join(map(str, found))}" if found else f"`{kind}s list` has those there are"
    raise Refusal(f"no single {kind} is {part}; {which}")


def is_whole(word: str) -> bool:
    """True for an id that is not shortened."""
    try:
        UUID(word)
    except ValueError:
        return False
    return True
