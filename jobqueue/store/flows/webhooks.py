"""Webhooks: their rows, the relay's place in the log, and how their receivers do."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from jobqueue.base.flows.event import Choice
from jobqueue.base.flows.webhook import Webhook
from jobqueue.store.connection.executor import Executor, Reader, named
from jobqueue.store.dated import fetch_dated
from jobqueue.store.looking.lookup import as_uuid


@dataclass(frozen=True, slots=True)
class Behind:
    """A webhook that is taken for this transaction, and has something to read."""

    choice: Choice
    cursor: int
    waiting: int
    """How many of its deliveries wait."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a delivery needs to know of its webhook."""

    url: str = field(repr=False)
    secret_env: str | None
    version: int
    both: bool
    """Whether the secret before this one signs as well."""
    paused: bool
    disabled_reason: str | None
    now: int
    """The database's clock, in whole seconds since 1970."""


async def create(executor: Executor, id: UUID, url: str, choice: Choice, secret_env: str | None) -> None:
    """Store a webhook that is told of what is logged from now on."""
    await executor.fetch(
        "create_webhook", id, url, sorted(choice.types), choice.task, choice.queue, choice.origin, choice.bundle,
        choice.job, secret_env,
    )  # fmt: skip


async def read(reader: Reader, id: UUID | None = None) -> list[Webhook]:
    """One webhook, if it is there, or all, the oldest first."""
    return [_webhook(named("list_webhooks", row)) for row in await reader.fetch("list_webhooks", id)]


async def rotate(executor: Executor, id: UUID) -> bool:
    """The next secret; False if there is no such webhook whose secret is ours."""
    return bool(await executor.fetch("rotate_webhook", id))


async def pause(executor: Executor, id: UUID) -> bool:
    """Tell it of nothing; False if there is none."""
    return bool(await executor.fetch("pause_webhook", id))


async def resume(executor: Executor, id: UUID) -> bool:
    """Go on with it, also if it was disabled; False if there is none."""
    return bool(await executor.fetch("resume_webhook", id))


async def delete(executor: Executor, id: UUID) -> bool:
    """Remove it; False if there is none."""
    return bool(await executor.fetch("delete_webhook", id))


async def active(reader: Reader) -> list[tuple[UUID, int]]:
    """Those that are told of events, and up to which number they were."""
    return [(as_uuid(row[0]), row[1]) for row in await reader.fetch("active_webhooks")]


async def take(executor: Executor, id: UUID, edge: int, most: int) -> Behind | None:
    """This one, for this transaction; None if another has it, or if it is not behind this number."""
    rows = await executor.fetch("take_webhook", id, edge, most)
    if not rows:
        return None
    row = named("take_webhook", rows[0])
    return Behind(_choice(row), row["cursor"], row["waiting"])


async def move(executor: Executor, id: UUID, cursor: int) -> None:
    """All up to this number is told."""
    await executor.fetch("move_cursor", id, cursor)


async def to_call(reader: Reader, id: UUID) -> Target | None:
    """What a delivery needs; None if the webhook is no more."""
    rows = await reader.fetch("webhook_to_call", id)
    return Target(**named("webhook_to_call", rows[0])) if rows else None


async def note_delivered(executor: Reader, id: UUID) -> None:
    """A receiver has taken a delivery."""
    await executor.fetch("note_delivered", id)


async def note_failed(executor: Reader, id: UUID, job: UUID, attempt: int, *, gone: bool, within: float) -> str | None:
    """A try has failed; the reason if the webhook is disabled by that.

    It is if its receiver is `gone`, or if nothing but failures came for `within` seconds.
    """
    rows = await fetch_dated(executor, "note_failed", id, job, attempt, gone, within)
    reason: str | None = rows[0][0] if rows else None
    return reason


def _choice(row: dict[str, Any]) -> Choice:
    return Choice(
        frozenset(row["types"]), row["task"], row["queue"], row["origin"],
        row["job_id"] and as_uuid(row["job_id"]), row["bundle_id"] and as_uuid(row["bundle_id"]),
    )  # fmt: skip


def _webhook(row: dict[str, Any]) -> Webhook:
    disabled: str | None = row["disabled_reason"]
    since: datetime | None = row["failing_since"]
    return Webhook(
        id=as_uuid(row["id"]),
        url=row["url"],
        events=tuple(row["types"]),
        task=row["task"],
        queue=row["queue"],
        origin=row["origin"],
        bundle_id=row["bundle_id"] and as_uuid(row["bundle_id"]),
        job_id=row["job_id"] and as_uuid(row["job_id"]),
        secret_env=row["secret_env"],
        version=row["version"],
        rotated_at=row["rotated_at"],
        failures=row["failures"],
        failing_since=since,
        paused_at=row["paused_at"],
        disabled_reason=disabled,
        created_at=row["created_at"],
    )
