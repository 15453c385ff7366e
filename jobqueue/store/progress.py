"""Progress of running jobs, as their handlers report it."""

from collections.abc import Sequence
from typing import TypeAlias
from uuid import UUID

from jobqueue.base.job import WorkerId
from jobqueue.store.connection.executor import Executor
from jobqueue.store.dated import fetch_dated

Report: TypeAlias = tuple[UUID, int, str]
"""Job, fence, and the report as JSON."""


async def write_progress(executor: Executor, worker: WorkerId, reports: Sequence[Report]) -> None:
    """Store the last report of each job that this worker has; those of lost claims change nothing."""
    ordered = sorted(reports)  # every writer locks in id order
    await fetch_dated(executor, "write_progress", *(list(column) for column in zip(*ordered, strict=True)), worker)


async def log_started(executor: Executor, worker: WorkerId, claims: Sequence[tuple[UUID, int]]) -> None:
    """Tell the log that these jobs, by id and fence, have begun."""
    await fetch_dated(executor, "log_started", *(list(column) for column in zip(*claims, strict=True)), worker)
