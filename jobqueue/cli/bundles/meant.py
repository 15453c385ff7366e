"""Which bundle is meant: by its id or a part of it, beside which the App may stand."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar
from uuid import UUID

from jobqueue.bundles.bundles import Bundles
from jobqueue.cli.parts import part_and_app, single
from jobqueue.cli.place import Place
from jobqueue.tasks.jobs import Jobs

T = TypeVar("T")
_WHOLE = 36


id_and_app = partial(part_and_app, "bundle")


async def ask(place: Place, question: Callable[[Bundles], Awaitable[T]]) -> T:
    """What the bundles there answer. Raises what `Place.ask` does."""
    return await place.ask(lambda there: Bundles(there, None, Jobs(there)), question)


async def ask_one(place: Place, part: str, question: Callable[[Bundles, UUID], Awaitable[T]]) -> T:
    """The same about the one whose id begins or ends like this. Raises Refusal."""

    async def about(bundles: Bundles) -> T:
        return await question(bundles, await _single(bundles, part))

    return await ask(place, about)


async def _single(bundles: Bundles, part: str) -> UUID:
    return UUID(part) if len(part) == _WHOLE else single("bundle", part, await bundles.resolve(part))
