"""Which webhook is meant: by its id or a part of it, beside which the App may stand."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar
from uuid import UUID

from jobqueue.base.flows.webhook import Webhook
from jobqueue.cli.parts import part_and_app, single
from jobqueue.cli.place import Place
from jobqueue.webhooks.hooks import Webhooks

T = TypeVar("T")


id_and_app = partial(part_and_app, "webhook")


async def ask(place: Place, question: Callable[[Webhooks], Awaitable[T]]) -> T:
    """What the webhooks there answer. Raises what `Place.ask` does."""
    return await place.ask(lambda there: Webhooks(there, lambda: place.settings.webhook_networks), question)


async def ask_one(place: Place, part: str, question: Callable[[Webhooks, UUID], Awaitable[T]]) -> T:
    """The same about the one whose id begins or ends like this. Raises Refusal."""

    async def about(hooks: Webhooks) -> T:
        return await question(hooks, _single(await hooks.list(), part))

    return await ask(place, about)


def _single(hooks: Sequence[Webhook], part: str) -> UUID:
    ids = [hook.id for hook in hooks]
    return single("webhook", part, [id for id in ids if str(id).startswith(part) or str(id).endswith(part)])
