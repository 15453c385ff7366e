"""Sends a signal to a job."""

from typing import Any
from uuid import UUID

from jobqueue.base.errors import TooManySignals
from jobqueue.base.names import check_name
from jobqueue.base.steering import Change
from jobqueue.store.connection.executor import Executor
from jobqueue.store.flows.signals import send_signal
from jobqueue.tasks.phases.result import signal_text

_SAID = {"done": Change.DONE, "too_late": Change.TOO_LATE, "not_found": Change.NOT_FOUND}


async def signal(executor: Executor, id: UUID, name: str, payload: Any, limit: int) -> Change:
    """`done`, `too_late` or `not_found`. Raises InvalidOption, InvalidPayload, TooManySignals."""
    text = signal_text(payload, limit)
    said = await send_signal(executor, id, check_name("name", name), text, limit)
    if said not in _SAID:
        raise TooManySignals(id)
    return _SAID[said]
