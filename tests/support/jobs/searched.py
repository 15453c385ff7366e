"""Jobs with something in them to be found by, made past the library, half of them finished."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql
from uuid_utils.compat import uuid7

_COLUMNS = ("id", "queue", "task", "args", "state", "key", "errors", "progress", "via")
_FINISHED = (
    *_COLUMNS, "priority", "due_at", "attempt", "max_attempts", "crashes", "lost", "fence", "follow", "created_at",
    "finished_at", "result", "reason",
)  # fmt: skip


def store(dsn: str, jobs: Mapping[str, Mapping[str, Any]], *, finished: bool) -> dict[str, UUID]:
    """Store jobs by their names, each with some columns of its own; their ids. JSON is given as text."""
    ids = {name: uuid7() for name in jobs}
    plain: dict[str, Any] = {"queue": "default", "task": "task", "args": "{}", "via": "sql", "state": "ready"}
    columns: tuple[str, ...] = _COLUMNS
    if finished:
        columns = _FINISHED
        plain |= dict.fromkeys(("priority", "attempt", "max_attempts", "crashes", "lost", "fence", "follow"), 0)
        plain |= {"state": "dead", "reason": "attempts"}
    table = "job_archive" if finished else "job"
    with psycopg.connect(dsn, autocommit=True) as connection:
        for name, own in jobs.items():
            row = {**dict.fromkeys(columns), **plain, **own, "id": str(ids[name])}
            if row["state"] == "completed":
                row |= {"result": "1", "reason": None}
            values = [sql.Literal(row[column]) for column in columns]
            for moment in ("due_at", "created_at", "finished_at"):
                if moment in columns:
                    values[columns.index(moment)] = sql.SQL("now()")  # type: ignore[call-overload]
            connection.execute(
                sql.SQL("insert into jobqueue.{} ({}) values ({})").format(
                    sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns)), sql.SQL(", ").join(values)
                )
            )
    return ids
