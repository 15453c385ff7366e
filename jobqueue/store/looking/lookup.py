"""Reads jobs: one or many; in `job` and the archive as if they were one table."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from jobqueue.base.job import AttemptError, Job, JobState
from jobqueue.base.moments import EARLIEST, LATEST
from jobqueue.store.connection.executor import Reader, named
from jobqueue.store.connection.pool import Database

EVER = EARLIEST
"""Before any finish: no day of the archive is left out."""
_LAST = (LATEST - EVER) // timedelta(milliseconds=1)
_UNREADABLE = AttemptError("Unreadable", "this entry of the job's history cannot be read")
_TEXTS = {"args": "args_json", "result": "result_json", "meta": "meta_json", "progress": "progress_json"}
_IDS = ("id", "worker_id", "bundle_id")
_PLAIN = [
    field.name for field in fields(Job) if field.name not in {"state", "errors", "gates", *_IDS, *_TEXTS.values()}
]


async def find_job(database: Reader, id: UUID) -> Job | None:
    """The job with this id, finished or not. The time in the id only spares a look at older days of the archive."""
    rows = await database.fetch("find_job", id, earliest_finish(id)) or await database.fetch("find_job", id, EVER)
    return job_of(named("find_job", rows[0])) if rows else None


async def await_jobs(database: Database, ids: Sequence[UUID]) -> dict[UUID, bool]:
    """Mark jobs as awaited; those still unfinished, and whether their finish will notify: others may have the row."""
    return {as_uuid(row["id"]): row["marked"] for row in await database.fetch("await_jobs", sorted(ids))}


async def gone_jobs(database: Database, ids: Sequence[UUID]) -> set[UUID]:
    """Which of these jobs are unfinished no more: they have ended, or were deleted."""
    return {as_uuid(row["id"]) for row in await database.fetch("gone_jobs", list(ids))} if ids else set()


async def is_gone(database: Database, id: UUID) -> bool:
    """The same of one."""
    return bool((await database.fetch("is_gone", id))[0]["gone"])


async def unclaimed(database: Database, ids: Sequence[UUID]) -> dict[UUID, str]:
    """Which of these jobs, and of the members of these bundles, wait for a worker, and their tasks."""
    return {as_uuid(id): task for id, task in await database.fetch("unclaimed", list(ids))}


def job_of(row: Mapping[str, Any] | asyncpg.Record) -> Job:
    """A row that has the columns of `find_job` as a Job."""
    values: dict[str, Any] = {name: row[name] for name in _PLAIN}
    values |= {name: row[name] and as_uuid(row[name]) for name in _IDS}
    values |= {field: row[column] for column, field in _TEXTS.items()}
    return Job(
        state=JobState(row["state"]), errors=attempt_errors(row["errors"]), gates=tuple(row["gates"] or ()), **values
    )


def as_uuid(value: Any) -> UUID:
    """A uuid column's value as a UUID: connections of the user's own pool may turn them into text."""
    return value if isinstance(value, UUID) else UUID(str(value))


def attempt_errors(text: str | None) -> tuple[AttemptError, ...]:
    """The stored error history, oldest first. Plain SQL may have written anything: of what is no entry that is said."""
    if not text:
        return ()
    try:
        items = orjson.loads(text)
    except orjson.JSONDecodeError:
        items = json.loads(text)  # numbers beyond all limits, which jsonb takes
    return tuple(_attempt_error(item) for item in items) if isinstance(items, list) else (_UNREADABLE,)


def _attempt_error(item: Any) -> AttemptError:
    try:
        return AttemptError(
            error_class=str(item.get("class", "")),
            message=str(item.get("message", "")),
            traceback=str(item.get("traceback", "")),
            data=item.get("data"),
            attempt=int(item.get("attempt", 0)),
            at=_moment(item.get("at")),
            worker=item.get("worker"),
            phase=item.get("phase"),
            place=item.get("place"),
            began=_moment(item.get("began")),
            code_place=None if (code := item.get("code_place")) is None else str(code),
        )
    except (ValueError, TypeError, AttributeError, OverflowError):
        return _UNREADABLE


def _moment(text: Any) -> datetime | None:
    moment = datetime.fromisoformat(text) if text else None
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def earliest_finish(id: UUID) -> datetime:
    """When a job with this id has finished at the earliest, if clocks differ by a day at most: where to look first.

    Never the answer: the clock that made the id may have stood anywhere.
    """
    if id.version != 7:
        return EVER
    return EVER + timedelta(milliseconds=min(id.int >> 80, _LAST)) - timedelta(days=1)
