"""Which bundle is meant: by its id or a part of it, beside which the App may stand."""

import re
from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID

from jobqueue.bundles.bundles import Bundles
from jobqueue.cli.place import Place
from jobqueue.cli.terminal.failures import ExitCode, Refusal
from jobqueue.tasks.jobs import Jobs

T = TypeVar("T")
_PART = re.compile(r"(?=.*[0-9])[0-9a-f-]{8,36}", re.IGNORECASE)
_WHOLE = 36


def id_and_app(first: str, second: str | None) -> tuple[str, str | None]:
    """In whichever order they came. Raises Refusal."""
    words = [first] if second is None else [first, second]
    ids = [word for word in words if _PART.fullmatch(word)]
    if len(ids) != 1:
        raise Refusal("give the id of one bundle, as `bundles list` has it, and perhaps an App", ExitCode.USAGE)
    apps = [word for word in words if word not in ids]
    return ids[0].lower(), apps[0] if apps else None


async def ask(place: Place, question: Callable[[Bundles], Awaitable[T]]) -> T:
    """What the bundles there answer. Raises what `Place.ask` does."""
    return await place.ask(lambda there: Bundles(there, None, Jobs(there)), question)


async def ask_one(place: Place, part: str, question: Callable[[Bundles, UUID], Awaitable[T]]) -> T:
    """The same about the one whose id begins or ends like this. Raises Refusal."""

    async def about(bundles: Bundles) -> T:
        return await question(bundles, await _single(bundles, part))

    return await ask(place, about)


async def _single(bundles: Bundles, part: str) -> UUID:
    if len(part) == _WHOLE:
        return UUID(part)
    found = await bundles.resolve(part)
    if len(found) == 1:
        return found[0]
    which = f"more than one is: {', '.join(map(str, found))}" if found else "`bundles list` has those there are"
    raise Refusal(f"no single bundle is {part}; {which}")
