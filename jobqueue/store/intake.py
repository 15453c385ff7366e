"""Jobs come in: one or many, on our connection or on the caller's, with ids and unique keys resolved.

Statements take text, numbers and flags only, so that a caller's connection keeps its own codecs.
"""

import contextlib
from collections.abc import Sequence
from typing import Any, Protocol
from uuid import UUID

from jobqueue.base.job import NewJob, Sent
from jobqueue.store.pool import chunks

CHUNK_ROWS = 5_000
CHUNK_BYTES = 8 << 20
_KEY_ROUNDS = 5


class Executor(Protocol):
    """Whatever runs named statements: a session of ours, a caller's asyncpg connection, or one of SQLAlchemy."""

    async def fetch(self, name: str, *values: object) -> Sequence[Any]:
        """Run one statement and return its rows, with columns by name."""
        ...

    def transaction(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Make the statements inside one transaction, or part of the one that is open."""
        ...


async def insert_one_statement(executor: Executor, jobs: Sequence[NewJob[Any]], *, always: bool) -> list[Sent]:
    """Insert jobs without keys or given ids by a single statement, which is a transaction of its own."""
    present = await _insert(executor, jobs, always)
    return [Sent(job.id, duplicate=job.id not in present) for job in jobs]


async def insert_all(executor: Executor, jobs: Sequence[NewJob[Any]], *, always: bool) -> list[Sent]:
    """Insert all jobs or none, in one transaction, in chunks; answers in the order given.

    A job whose key is taken, or whose id is known to `job` or the archive, comes back as a duplicate.
    """
    if len(jobs) <= CHUNK_ROWS and not any(job.key or job.resent for job in jobs) and _bytes(jobs) <= CHUNK_BYTES:
        return await insert_one_statement(executor, jobs, always=always)
    async with executor.transaction():
        holders = await _take_keys(executor, [job for job in jobs if job.key is not None])
        going = [job for job in jobs if job.key is None or holders[job.key] == str(job.id)]
        present: set[Any] = set()
        for cut in chunks([len(job.args) for job in going], CHUNK_ROWS, CHUNK_BYTES):
            present |= await _insert(executor, going[cut], always)
        present -= await _known_to_archive(executor, [str(job.id) for job in going if job.resent and job.id in present])
    return [_answer(job, present, holders) for job in jobs]


def _bytes(jobs: Sequence[NewJob[Any]]) -> int:
    return sum(len(job.args) for job in jobs)


async def _insert(executor: Executor, jobs: Sequence[NewJob[Any]], always: bool) -> set[Any]:
    rows = await executor.fetch(
        "insert_jobs",
        [str(job.id) for job in jobs],
        [job.queue for job in jobs],
        [job.task for job in jobs],
        [job.args for job in jobs],
        [job.priority for job in jobs],
        [job.delay for job in jobs],
        [None if job.at is None else job.at.isoformat() for job in jobs],
        [job.max_attempts for job in jobs],
        [job.timeout for job in jobs],
        [job.budget for job in jobs],
        [job.expires for job in jobs],
        [job.origin for job in jobs],
        [job.meta for job in jobs],
        [job.key for job in jobs],
        always,
    )
    if len(rows) == len(jobs):
        return {job.id for job in jobs}
    answered = {row[0] for row in rows}
    return {job.id for job in jobs if str(job.id) in answered}


async def _known_to_archive(executor: Executor, ids: list[str]) -> set[Any]:
    """Take back the just inserted jobs that have run before: their ids are in the archive.

    Looked up by a second statement, whose snapshot is newer than the insert: a job that ran between a lost answer
    and its resend is seen.
    """
    if not ids:
        return set()
    known = [row[0] for row in await executor.fetch("archived_ids", ids)]
    if known:
        await executor.fetch("withdraw_jobs", known)
    return {UUID(id) for id in known}


async def _take_keys(executor: Executor, jobs: Sequence[NewJob[Any]]) -> dict[str, str]:
    """For each key the id of the job that holds it now: ours if it was free. In one batch the first of a key wins."""
    holders: dict[str, str] = {}
    first = {job.key: job for job in reversed(jobs) if job.key is not None}
    for _ in range(_KEY_ROUNDS):
        open_keys = sorted(key for key in first if key not in holders)
        if not open_keys:
            return holders
        wanted = [first[key] for key in open_keys]
        taken = await executor.fetch(
            "take_keys",
            open_keys,
            [str(job.id) for job in wanted],
            [job.key_scope for job in wanted],
            [job.key_period for job in wanted],
        )
        holders |= {row[0]: str(first[row[0]].id) for row in taken}
        # A key that was neither taken nor is held any more was given up in between: once more.
        rest = [key for key in open_keys if key not in holders]
        if rest:
            holders |= {row[0]: row[1] for row in await executor.fetch("key_holders", rest)}
    raise TimeoutError(f"unique keys kept changing hands, {_KEY_ROUNDS} times in a row")


def _answer(job: NewJob[Any], present: set[Any], holders: dict[str, str]) -> Sent:
    holder = None if job.key is None else UUID(holders[job.key])
    if holder is not None and holder != job.id:
        return Sent(holder, duplicate=True)
    return Sent(job.id, duplicate=job.id not in present)
