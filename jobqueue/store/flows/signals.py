"""Signals: sent to a job by anybody, taken by the run that waits for them."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from jobqueue.base.flows.phase import Looked, Wait, Waking
from jobqueue.base.job import WorkerId
from jobqueue.store.connection.executor import Executor, Reader
from jobqueue.store.dated import fetch_dated
from jobqueue.store.flows.phases import Claimed, Key


async def send_signal(executor: Executor, id: UUID, name: str, payload: str, limit: int) -> str:
    """Leave a signal with a job: `done`, `full`, `too_late` or `not_found`. Waits for whoever has the job's row."""
    said: str = (await executor.fetch("send_signal", id, name, payload, limit))[0][0]
    return said


async def take_signals(
    executor: Executor, worker: WorkerId, waits: Sequence[tuple[Claimed, Wait]]
) -> dict[Key, Looked]:
    """The next signal for each of these waits, no two for the same one; those that are answered.

    What is not among them is of a claim that is lost, or of a job that another transaction has locked.
    """
    rows = [(*claim, wait.name, wait.signal, wait.place, wait.attempt, wait.longest) for claim, wait in waits]
    columns = [list(column) for column in zip(*rows, strict=True)]
    answers = await fetch_dated(executor, "take_signals", *columns, worker)
    return {(fence, name): _looked(*rest) for fence, name, *rest in answers}


async def unread_signals(executor: Reader, id: UUID) -> dict[str, int]:
    """How many signals a job has that it has not read, by their names."""
    return {row[0]: row[1] for row in await executor.fetch("unread_signals", id)}


def _looked(payload: str | None, seen: int, wake_at: datetime, sleeps: float) -> Looked:
    return Looked(payload, seen, Waking(wake_at, sleeps))
