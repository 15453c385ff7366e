"""`webhooks`: list and show them, and what became of their deliveries. A URL may hold a secret: only `show` has it."""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import asdict
from uuid import UUID

from jobqueue.base.flows.webhook import Delivery, DeliveryPage, Webhook
from jobqueue.base.job import JobState
from jobqueue.cli.place import Place
from jobqueue.cli.terminal.failures import ExitCode, tell
from jobqueue.cli.terminal.output import write, write_facts, write_json, write_table
from jobqueue.cli.webhooks.meant import ask, ask_one
from jobqueue.telling.spans import ago, moment
from jobqueue.webhooks.hooks import Webhooks


def show_webhooks(place: Place, as_json: bool) -> ExitCode:
    """All of them, the oldest first."""
    hooks = asyncio.run(ask(place, Webhooks.list))
    if as_json:
        write_json([document(hook) for hook in hooks])
    elif hooks:
        rows = [(hook.id, hook.state, hook.host, _events(hook), _chosen(hook)) for hook in hooks]
        write_table(("id", "state", "host", "events", "only"), rows, apart=("host", "events", "only"))
    else:
        tell("there is no webhook; `webhooks add URL` makes one")
    return ExitCode.OK


def show_webhook(place: Place, part: str, as_json: bool) -> ExitCode:
    """One with its URL."""
    hook = asyncio.run(ask_one(place, part, Webhooks.get))
    if as_json:
        write_json(document(hook) | {"url": hook.url})
        return ExitCode.OK
    write(f"webhook {hook.id}  {hook.state}")
    write_facts(
        {
            "url": hook.url,
            "events": _events(hook),
            "only": _chosen(hook),
            "secret": f"in {hook.secret_env}" if hook.secret_env else f"number {hook.version}",
            "rotated": moment(hook.rotated_at),
            "paused": moment(hook.paused_at),
            "disabled": hook.disabled_reason,
            "failing since": moment(hook.failing_since),
            "failures": hook.failures or None,
            "made": moment(hook.created_at),
        }
    )
    return ExitCode.OK


def show_deliveries(
    place: Place, part: str, states: Sequence[JobState] | None, after: UUID | None, limit: int, as_json: bool
) -> ExitCode:
    """A page of its deliveries, the newest first."""

    async def look(hooks: Webhooks, id: UUID) -> DeliveryPage:
        return await hooks.deliveries(id, state=states or None, after=after, limit=limit)

    page = asyncio.run(ask_one(place, part, look))
    if as_json:
        write_json([asdict(delivery) for delivery in page])
    elif page:
        write_table(
            ("id", "state", "event", "tries", "status", "when", "error"), map(_row, page),
            right=("tries", "status"), apart=("event", "error"),
        )  # fmt: skip
    elif page.next is None:
        tell("no such deliveries")
    if page.next is not None and (len(page) < limit or sys.stdout.isatty()):
        tell(f"{'more, perhaps' if len(page) == limit else 'looked for so long; go on with'}: --after {page.next}")
    return ExitCode.OK


def document(hook: Webhook) -> dict[str, object]:
    """A webhook as JSON values, without its URL."""
    found = asdict(hook)
    del found["url"]
    return found | {"host": hook.host, "state": hook.state}


def _row(delivery: Delivery) -> tuple[object, ...]:
    when = delivery.next_try or delivery.ended_at
    return (
        delivery.id, delivery.state, delivery.event, delivery.tries, delivery.status, ago(when), delivery.error,
    )  # fmt: skip


def _events(hook: Webhook) -> str:
    return " ".join(hook.events) or "all"


def _chosen(hook: Webhook) -> str:
    named = {
        "queue": hook.queue, "task": hook.task, "origin": hook.origin, "bundle": hook.bundle_id, "job": hook.job_id,
    }  # fmt: skip
    return ", ".join(f"{name} {value}" for name, value in named.items() if value is not None)
