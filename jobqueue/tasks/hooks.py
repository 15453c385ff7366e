"""The user's own code at each failed attempt: `@app.on_error`, for what reports errors elsewhere."""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias
from uuid import UUID

import anyio

from jobqueue.base.log import get_logger

HOOK_LIMIT = 10.0
"""Seconds for one hook: until then the attempt keeps its slot and its claim."""


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """What a hook is told: never the payload."""

    job_id: UUID
    task: str
    queue: str
    attempt: int
    error: BaseException = field(repr=False)
    """What the handler raised; TimeoutError if its time was over."""
    will_retry: bool


ErrorHook: TypeAlias = Callable[[FailedAttempt], Awaitable[None] | None]

log = get_logger(__name__)


async def tell(hooks: Sequence[ErrorHook], failed: FailedAttempt) -> None:
    """Call each hook, one after the other. Whatever they raise is logged by its class, and changes nothing.

    Never raises: the attempt has its outcome already, also if its run is cancelled meanwhile.
    """
    for hook in list(hooks):
        try:
            with anyio.fail_after(HOOK_LIMIT):
                answer = hook(failed)
                if inspect.isawaitable(answer):
                    await answer
        except BaseException as error:
            facts = {"job_id": str(failed.job_id), "task": failed.task, "attempt": failed.attempt}
            log.error("hook.failed", hook=getattr(hook, "__qualname__", "?"), error=type(error).__name__, **facts)
