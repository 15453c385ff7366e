"""Which webhook is meant: by its id or a part of it, beside which the App may stand."""

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar
from uuid import UUID

from jobqueue.base.flows.webhook import Webhook
from jobqueue.cli.place import Place
from jobqueue.cli.terminal.failures import ExitCode, Refusal
from jobqueue.webhooks.hooks import Webhooks

T = TypeVar("T")
_PART = re.compile(r"(?=.*[0-9])[0-9a-f-]{8,36}", re.IGNORECASE)


def id_and_app(first: str, second: str | None) -> tuple[str, str | None]:
    """In whichever order they came. Raises Refusal."""
    words = [first] if second is None else [first, second]
    ids = [word for word in words if _PART.fullmatch(word)]
    if len(ids) != 1:
        raise Refusal("give the id of one webhook, as `webhooks list` has it, and perhaps an App", ExitCode.USAGE)
    apps = [word for word in words if word not in ids]
    return ids[0].lower(), apps[0] if apps else None


async def ask(place: Place, question: Callable[[Webhooks], Awaitable[T]]) -> T:
    """What the webhooks there answer. Raises what `Place.ask` does."""
    return await place.ask(lambda there: Webhooks(there, lambda: place.settings.webhook_networks), question)


async def ask_one(place: Place, part: str, question: Callable[[Webhooks, UUID], Awaitable[T]]) -> T:
    """The same about the one whose id begins or ends like this. Raises Refusal."""

    async def about(hooks: Webhooks) -> T:
        return await question(hooks, _single(await hooks.list(), part))

    return await ask(place, about)


def _single(hooks: Sequence[Webhook], part: str) -> UUID:
    found = [hook.id for hook in hooks if str(hook.id).startswith(part) or str(hook.id).endswith(part)]
    if len(found) == 1:
        return found[0]
    which = f"more than one is: {', '.join(map(str, found))}" if found else "`webhooks list` has those there are"
    raise Refusal(f"no single webhook is {part}; {which}")
