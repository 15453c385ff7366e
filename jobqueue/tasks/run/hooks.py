"""The user's own code at each failed attempt: `@app.on_error`, for what reports errors elsewhere."""

import asyncio
import contextvars
import inspect
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeAlias, TypeVar
from uuid import UUID

import anyio

from jobqueue.base.errors import ConfigurationError
from jobqueue.base.log import get_logger
from jobqueue.base.outcome import Dead, Outcome, Retried

HOOK_LIMIT = 10.0
"""Seconds for one hook."""


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


class ClaimedJob(Protocol):
    """The facts of a claimed job by their names."""

    def __getitem__(self, name: str, /) -> Any:
        """One of them."""
        ...


def failure_of(claim: ClaimedJob, error: BaseException | None, outcome: Outcome) -> FailedAttempt | None:
    """What hooks are told of a run of this claimed job; None if it did not fail."""
    if error is None or not isinstance(outcome, Retried | Dead):
        return None
    facts = claim["id"], claim["task"], claim["queue"], claim["attempt"]
    return FailedAttempt(*facts, error, will_retry=isinstance(outcome, Retried))


ErrorHook: TypeAlias = Callable[[FailedAttempt], Awaitable[None] | None]

log = get_logger(__name__)


class Teller:
    """Tells hooks of failed attempts whose outcomes are on their way: each in a task of its own, which is owned here.

    Until all hooks have returned they keep the slot of their attempt, so that a worker which does nothing but fail does
    not pile them up. No stop waits for them.
    """

    def __init__(self, hooks: Sequence[ErrorHook], when_told: Callable[[], None]) -> None:
        """`when_told` is called each time that the hooks of an attempt have returned."""
        self._hooks = hooks
        self._when_told = when_told
        self._tasks: set[asyncio.Task[None]] = set()
        self._kept = Counter[object]()
        self.slots = 0
        """How many slots are kept."""
        self._stopped = False

    @property
    def idle(self) -> bool:
        """True if nothing is being told that anybody should wait for."""
        return self._stopped or not self._tasks

    def tell(self, failed: FailedAttempt, slot: object, context: contextvars.Context) -> None:
        """Call the hooks, in this context. What shares a `slot` keeps one; None keeps none."""
        if not self._hooks:
            return
        task = asyncio.get_running_loop().create_task(call_hooks(self._hooks, failed), context=context)
        self._tasks.add(task)
        if slot is not None:
            self._keep(slot, 1)
        task.add_done_callback(partial(self._told, slot))
        if self._stopped:
            self._cut(task)

    def stop(self) -> None:
        """Cancel what is being told; from now on a hook gets no further than its first wait."""
        self._stopped = True
        for task in self._tasks:
            self._cut(task)

    def _cut(self, task: asyncio.Task[None]) -> None:
        asyncio.get_running_loop().call_soon(task.cancel)  # one that is about to begin calls its hooks first

    def _told(self, slot: object, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if slot is not None:
            self._keep(slot, -1)
        self._when_told()

    def _keep(self, slot: object, more: int) -> None:
        self._kept[slot] += more
        if not self._kept[slot]:
            del self._kept[slot]
        self.slots = len(self._kept)


async def call_hooks(hooks: Sequence[ErrorHook], failed: FailedAttempt) -> None:
    """Call each hook, one after the other. Whatever they raise is logged by its class, and changes nothing.

    Never raises: cancelled, it cuts off the hook that runs, and calls the others without waiting for them.
    """
    for hook in list(hooks):
        try:
            with anyio.fail_after(0 if _is_cut() else HOOK_LIMIT):
                answer = hook(failed)
                if inspect.isawaitable(answer):
                    await answer
        except BaseException as error:
            facts = {"job_id": str(failed.job_id), "task": failed.task, "attempt": failed.attempt}
            log.error("hook.failed", hook=getattr(hook, "__qualname__", "?"), error=type(error).__name__, **facts)


def _is_cut() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


H = TypeVar("H", bound=ErrorHook)


def check_hook(hook: H) -> H:
    """The hook, if it can be called with a FailedAttempt. Raises ConfigurationError."""
    try:
        inspect.signature(hook).bind(None)
    except ValueError:
        pass  # one of C without a signature
    except TypeError:
        name = getattr(hook, "__qualname__", type(hook).__qualname__)
        raise ConfigurationError(f"on_error: {name} must be a function of one argument, the FailedAttempt") from None
    return hook
