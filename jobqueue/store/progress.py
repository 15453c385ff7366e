"""Progress of running jobs, as their handlers report it."""

from collections.abc import Sequence
from typing import TypeAlias
from uuid import UUID

from jobqueue.base.job import WorkerId
from jobqueue.store.connection.executor import Executor

Report: TypeAlias = tuple[UUID, int, str]
"""Job, fence, and the report as JSON."""


async def write_progress(executor: Executor, worker: WorkerId, reports: Sequence[Report]) -> None:
    """Store the last report of each job that this worker has; those of lost claims change nothing."""
    ordered = sorted(reports)  # every writer locks in id order
    await executor.fetch("write_progress", *(list(column) for column in zip(*ordered, strict=True)), worker)
