"""`webhooks`: add, pause, resume and remove them, their secrets, and trying deliveries again."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from jobqueue.base.flows.webhook import Webhook
from jobqueue.base.job import JobState
from jobqueue.base.steering import Changes
from jobqueue.cli.place import Place
from jobqueue.cli.terminal.asking import agreed, somebody_to_ask
from jobqueue.cli.terminal.event_words import types_of
from jobqueue.cli.terminal.failures import ExitCode, Refusal, as_usage, tell
from jobqueue.cli.terminal.output import write, write_json
from jobqueue.cli.terminal.user import this_user
from jobqueue.cli.webhooks.look import document
from jobqueue.cli.webhooks.meant import ask, ask_one
from jobqueue.webhooks.hooks import Webhooks, check_url, check_variable, webhook_choice


def url_and_app(first: str, second: str | None) -> tuple[str, str | None]:
    """In whichever order they came: only a URL has `://`."""
    return (second, first) if second is not None and "://" in second else (first, second)


def add_webhook(place: Place, url: str, events: Sequence[str], said: dict[str, Any], as_json: bool) -> ExitCode:
    """Make one, and say its secret."""

    types = types_of(events)

    async def add(hooks: Webhooks) -> tuple[Webhook, str | None]:
        made: Any = types  # words, which are checked there
        hook = await hooks.create(url, made, **said, by=this_user())
        return hook, None if hook.secret_env else await hooks.secret(hook.id)

    with as_usage(url="URL", events="--type"):
        check_url(url, place.settings.webhook_networks)
        webhook_choice(types, **{name: value for name, value in said.items() if name != "secret_env"})
        check_variable(said["secret_env"])
    hook, secret = asyncio.run(ask(place, add))
    if as_json:
        write_json(document(hook) | {"secret": secret})
    else:
        write(f"webhook {hook.id} is made; a worker that serves the queue webhooks posts to {hook.host}")
        write(f"its secret: {secret}" if secret else f"its secret is in {hook.secret_env}, which workers need")
    return ExitCode.OK


def show_secret(place: Place, part: str, rotate: bool, as_json: bool) -> ExitCode:
    """Say its secret, or a new one."""
    secret = asyncio.run(ask_one(place, part, partial(Webhooks.rotate, by=this_user()) if rotate else Webhooks.secret))
    if as_json:
        write_json({"secret": secret})
    else:
        write(secret)
        if rotate:
            tell("for a day every post is signed with the old secret as well")
    return ExitCode.OK


def pause_webhook(place: Place, part: str, as_json: bool) -> ExitCode:
    """Post nothing until it is resumed."""
    return _changed(
        place, part, partial(Webhooks.pause, by=this_user()), "is paused; its events wait in the log", as_json
    )


def resume_webhook(place: Place, part: str, as_json: bool) -> ExitCode:
    """Go on with it."""
    return _changed(place, part, partial(Webhooks.resume, by=this_user()), "goes on", as_json)


def remove_webhook(place: Place, part: str, yes: bool, as_json: bool) -> ExitCode:
    """Remove it for good; asks."""
    if not yes:
        if not somebody_to_ask():
            raise Refusal("webhooks remove is for good: give --yes", ExitCode.USAGE)
        if not agreed(f"remove webhook {part}, and cancel what it has not delivered?"):
            tell("nothing was changed")
            return ExitCode.ERROR
    return _changed(place, part, partial(Webhooks.delete, by=this_user()), "is removed", as_json)


def test_webhook(place: Place, part: str, as_json: bool) -> ExitCode:
    """Post an event that means nothing."""
    id = asyncio.run(ask_one(place, part, partial(Webhooks.test, by=this_user())))
    if as_json:
        write_json({"id": id})
    else:
        write(f"delivery {id} is on its way; `jobs wait {id}` tells what becomes of it")
    return ExitCode.OK


def redeliver(
    place: Place, part: str, since: datetime | None, states: Sequence[JobState] | None, as_json: bool
) -> ExitCode:
    """Try again what has ended."""

    async def again(hooks: Webhooks, id: UUID) -> Changes:
        return await hooks.redeliver(id, since=since, state=states or JobState.DEAD, by=this_user())

    changes = asyncio.run(ask_one(place, part, again))
    counts = Counter(str(change) for change in changes.each.values())
    if as_json:
        write_json({"changed": len(changes), "counts": dict(sorted(counts.items()))})
    else:
        write(f"{len(changes)} {'delivery is' if len(changes) == 1 else 'deliveries are'} tried again")
    return ExitCode.OK


def _changed(
    place: Place, part: str, change: Callable[[Webhooks, UUID], Awaitable[None]], told: str, as_json: bool
) -> ExitCode:
    async def do(hooks: Webhooks, id: UUID) -> UUID:
        await change(hooks, id)
        return id

    id = asyncio.run(ask_one(place, part, do))
    if as_json:
        write_json({"id": id})
    else:
        write(f"webhook {id} {told}")
    return ExitCode.OK
