"""Reads jobs: one or many; in `job` and the archive as if they were one table."""

from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from jobqueue.base.job import AttemptError, Job, JobState
from jobqueue.store.connection.pool import Database

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TEXTS = {"args": "args_json", "result": "result_json", "meta": "meta_json", "progress": "progress_json"}
_IDS = ("id", "worker_id", "bundle_id")
_PLAIN = [field.name for field in fields(Job) if field.name not in {"state", "errors", *_IDS, *_TEXTS.values()}]


async def find_job(database: Database, id: UUID) -> Job | None:
    """The job with this id, finished or not."""
    rows = await database.fetch("find_job", id, earliest_finish(id))
    return job_of(rows[0]) if rows else None


async def list_jobs(
    database: Database,
    *,
    states: Sequence[JobState] | None,
    queue: str | None,
    task: str | None,
    origin: str | None,
    before: UUID | None,
    limit: int,
) -> list[Job]:
    """A page of jobs, newest first."""
    names = None if states is None else [str(state) for state in states]
    return [job_of(row) for row in await database.fetch("list_jobs", names, queue, task, origin, before, limit)]


async def await_jobs(database: Database, ids: Sequence[UUID]) -> set[UUID]:
    """Mark jobs as awaited; those still unfinished, whose finish will now notify."""
    return {as_uuid(row["id"]) for row in await database.fetch("await_jobs", sorted(ids))}


async def final_jobs(database: Database, ids: Sequence[UUID]) -> set[UUID]:
    """Which of these jobs have ended."""
    if not ids:
        return set()
    since = min(earliest_finish(id) for id in ids)
    return {as_uuid(row["id"]) for row in await database.fetch("final_jobs", list(ids), since)}


def job_of(row: asyncpg.Record) -> Job:
    """A row of `find_job` or `list_jobs` as a Job."""
    values: dict[str, Any] = {name: row[name] for name in _PLAIN}
    values |= {name: row[name] and as_uuid(row[name]) for name in _IDS}
    values |= {field: row[column] for column, field in _TEXTS.items()}
    return Job(state=JobState(row["state"]), errors=attempt_errors(row["errors"]), **values)


def as_uuid(value: Any) -> UUID:
    """A uuid column's value as a UUID: connections of the user's own pool may turn them into text."""
    return value if isinstance(value, UUID) else UUID(str(value))


def attempt_errors(text: str | None) -> tuple[AttemptError, ...]:
    """The stored error history, oldest first."""
    if not text:
        return ()
    return tuple(
        AttemptError(
            error_class=item.get("class", ""),
            message=item.get("message", ""),
            traceback=item.get("traceback", ""),
            data=item.get("data"),
            attempt=item.get("attempt", 0),
            at=datetime.fromisoformat(item["at"]) if item.get("at") else None,
            worker=item.get("worker"),
        )
        for item in orjson.loads(text)
    )


def earliest_finish(id: UUID) -> datetime:
    """When a job with this id can have finished at the earliest: a day before its UUIDv7, for clocks that differ."""
    if id.version != 7:
        return _EPOCH
    return _EPOCH + timedelta(milliseconds=id.int >> 80) - timedelta(days=1)
