"""Bundles whose jobs come after others, stored with plain SQL in whatever state a test needs."""

from collections.abc import Iterable
from uuid import UUID

from uuid_utils.compat import uuid7

from jobqueue.base.job import JobState
from tests.support.jobs.store import Connection

_JOB = """
insert into jobqueue.job (id, task, state, via, bundle_id, errors, follow, fence, worker_id, lease_until)
  select $1, $2, $3, 'py', $4, $5::jsonb, $6, running::integer,
    case when running then gen_random_uuid() end, case when running then now() + interval '1 h' end
  from (values ($3 = 'running')) as r(running)
"""
_ENDED = """
insert into jobqueue.job_archive (id, queue, task, args, priority, state, due_at, attempt, max_attempts, crashes, lost,
    fence, via, created_at, finished_at, bundle_id, errors, follow, result, reason)
  select $1, 'default', $2, '{}', 0, $3, now(), 1, 1, 0, 0, 1, 'py', now(), now(), $4, $5::jsonb, $6,
    case when $3 = 'completed' then 'null'::json end, $7
"""
CALLBACK = 4


async def put_bundle(connection: Connection, added: int = 0) -> UUID:
    """A closed bundle; its id."""
    id = uuid7()
    await connection.execute(
        "insert into jobqueue.bundle (id, name, open, added) values ($1, 'import', false, $2)", id, added
    )
    return id


async def put_job(
    connection: Connection, task: str, state: JobState, bundle: UUID | None, *, follow: int = 0,
    reason: str | None = None, error: str | None = None,
) -> UUID:  # fmt: skip
    """A job, in the archive if it has ended; its id."""
    id = uuid7()
    errors = None if error is None else f'[{{"class": "Older"}}, {{"class": "{error}", "message": "secret"}}]'
    values = [id, task, str(state), bundle, errors, follow]
    if state.final:
        await connection.execute(_ENDED, *values, reason)
    else:
        await connection.execute(_JOB, *values)
    return id


async def put_node(
    connection: Connection, bundle: UUID, id: UUID, task: str, after: Iterable[UUID] = (), outcome: str | None = None
) -> None:
    """The place of a job in the graph of its bundle."""
    await connection.execute(
        "insert into jobqueue.node (bundle_id, job_id, task, after, outcome) values ($1, $2, $3, $4, $5)",
        bundle, id, task, list(after), outcome,
    )  # fmt: skip
