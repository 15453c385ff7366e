"""Progress of running jobs, as their handlers report it."""

from collections.abc import Sequence
from typing import TypeAlias
from uuid import UUID

from jobqueue.base.job import WorkerId
from jobqueue.store.connection.executor import Executor
from jobqueue.store.dated import fetch_dated
from jobqueue.store.looking.lookup import as_uuid

Report: TypeAlias = tuple[UUID, int, str]
"""Job, fence, and the report as JSON."""


async def write_progress(executor: Executor, worker: WorkerId, reports: Sequence[Report]) -> set[UUID]:
    """Store the last report of each job that this worker has, and nobody has locked; those that are stored."""
    ordered = sorted(reports)  # every writer locks in id order
    columns = [list(column) for column in zip(*ordered, strict=True)]
    return {as_uuid(row[0]) for row in await fetch_dated(executor, "write_progress", *columns, worker)}


async def log_started(executor: Executor, worker: WorkerId, claims: Sequence[tuple[UUID, int]]) -> None:
    """Tell the log that these jobs, by id and fence, have begun."""
    await fetch_dated(executor, "log_started", *(list(column) for column in zip(*claims, strict=True)), worker)
