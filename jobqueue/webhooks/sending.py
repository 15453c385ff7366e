"""The task of deliveries: one signed POST a try.

Tried again: no connection, no answer in time, 408, 425, 429 and 5xx, ten times over three days, or when the receiver
says so (`Retry-After`). Any other status that is no success ends the delivery at once; 410 disables the webhook.
"""

import contextlib
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import anyio

from jobqueue.base.errors import ConfigurationError
from jobqueue.base.flows.event import DELIVERY
from jobqueue.base.flows.webhook import QUEUE, host_of
from jobqueue.base.job import Job, JsonValue
from jobqueue.base.log import get_logger
from jobqueue.base.outcome import Cancel, Fatal, Snooze
from jobqueue.base.settings import Networks
from jobqueue.base.version import VERSION
from jobqueue.store.connection.faults import DATABASE_ERRORS
from jobqueue.store.connection.pool import Database
from jobqueue.store.flows import webhooks
from jobqueue.store.flows.webhooks import Target
from jobqueue.tasks.context import JobContext
from jobqueue.tasks.options import TaskOptions
from jobqueue.tasks.payload.signature import Signature
from jobqueue.tasks.task import Link, Task
from jobqueue.webhooks.signing import secret_in, secret_of, sign

DELAYS = (0.0, 5.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
"""Seconds before each try, ± 20 %."""
LIMIT = 15.0
"""Seconds for one try, from the look-up of the name to the answer's end."""
BACKSTOP = 60.0
"""The same with our own bookkeeping."""
_GIVES_UP = 3 * 86_400.0
"""After so many seconds of failures only a webhook is disabled."""
_AGAIN = frozenset({408, 425, 429})
_LONGEST = 86_400.0
"""A receiver cannot put its deliveries off for longer."""
_PAUSED = 60.0

log = get_logger(__name__)


class NotDelivered(Exception):
    """Raised when a try has failed, and another one may not."""

    def __init__(self, told: str, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(told)
        self.data: JsonValue = {"status": status}
        self.retry_after = retry_after


def delivery_task(database: Callable[[], Awaitable[Database]], networks: Callable[[], Networks]) -> Task[Any, Any]:
    """The task, for an app's workers."""

    async def deliver(ctx: JobContext, webhook: UUID, body: str) -> dict[str, int]:
        target = await webhooks.to_call(await database(), webhook)
        if target is None:
            raise Cancel("the webhook was deleted")
        if target.disabled_reason is not None:
            raise Cancel("the webhook is disabled")
        if target.paused:
            raise Snooze(_PAUSED)
        secrets = _secrets(target, webhook)
        try:
            status = await _post(target, secrets, str(ctx.job.id), body.encode(), networks())
        except (NotDelivered, Fatal) as error:
            gone = error.data == {"status": 410}
            if await _failed(await database(), target, webhook, ctx, gone=gone) and isinstance(error, NotDelivered):
                raise Fatal(str(error), error.data) from None
            raise
        with contextlib.suppress(*DATABASE_ERRORS):  # the receiver has it: that must not be forgotten for this
            await webhooks.note_delivered(await database(), webhook)
        return {"status": status}

    options = TaskOptions(queue=QUEUE, retry=next_try, max_attempts=len(DELAYS), timeout=BACKSTOP)
    return Task(deliver, DELIVERY, options, (), Signature.of(deliver), Link({}))


def next_try(job: Job, error: BaseException) -> float:
    """Seconds to the next try: by the table, or longer if the receiver said so."""
    delay = DELAYS[min(job.attempt, len(DELAYS) - 1)] * random.uniform(0.8, 1.2)  # noqa: S311 - spreads load
    return max(delay, getattr(error, "retry_after", None) or 0.0)


def seconds_asked(retry_after: str | None, now: datetime) -> float | None:
    """What a `Retry-After` says, in seconds or as a date; None if it says nothing that can be understood."""
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), _LONGEST)
    from email.utils import parsedate_to_datetime  # twenty modules, which no start of a worker should wait for

    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max((moment - now).total_seconds(), 0.0), _LONGEST)


def _secrets(target: Target, webhook: UUID) -> list[bytes]:
    if target.secret_env is not None:
        return [secret_in(target.secret_env)]
    versions = [target.version, target.version - 1] if target.both else [target.version]
    return [secret_of(webhook, version) for version in versions]


async def _post(target: Target, secrets: list[bytes], id: str, body: bytes, networks: Networks) -> int:
    """Raises NotDelivered, or Fatal if no other try can help. Neither tells more than the status."""
    try:
        from jobqueue.webhooks import dialling
    except ModuleNotFoundError as missing:
        raise ConfigurationError(
            f'webhooks: {missing.name} is not installed; pip install "jobqueue[webhooks]"'
        ) from None
    headers = {
        "content-type": "application/json",
        "user-agent": f"jobqueue/{VERSION}",
        "webhook-id": id,
        "webhook-timestamp": str(target.now),
        "webhook-signature": sign(secrets, id, target.now, body),
    }
    try:
        with anyio.fail_after(LIMIT):
            answer = await dialling.post(target.url, headers, body, networks)
    except dialling.Forbidden as refused:
        raise Fatal(str(refused)) from None
    except dialling.NO_URL:  # the error would quote a part of it
        raise Fatal("its URL cannot be called") from None
    except TimeoutError:
        raise NotDelivered(f"no answer within {LIMIT:g} s") from None
    except dialling.CONNECTION_ERRORS as error:
        raise NotDelivered(f"no answer: {type(error).__name__}") from None
    if 200 <= answer.status < 300:
        return answer.status
    told = f"the receiver answered {answer.status}"
    if answer.status in _AGAIN or answer.status >= 500:
        raise NotDelivered(told, answer.status, seconds_asked(answer.retry_after, datetime.now(UTC)))
    raise Fatal(told, {"status": answer.status})


async def _failed(database: Database, target: Target, webhook: UUID, ctx: JobContext, *, gone: bool) -> bool:
    """Note it; whether the webhook is disabled by it."""
    try:
        reason = await webhooks.note_failed(database, webhook, ctx.job.id, ctx.attempt, gone=gone, within=_GIVES_UP)
    except DATABASE_ERRORS:
        return False
    if reason is not None:
        log.warning("webhook.disabled", webhook=str(webhook), host=host_of(target.url), reason=reason)
    return reason is not None
