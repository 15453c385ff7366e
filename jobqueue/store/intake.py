"""Jobs come in: one or many, on our connection or on the caller's, with ids and unique keys resolved.

Statements take text, numbers and flags only, so that a caller's connection keeps its own codecs.
"""

import contextlib
from collections.abc import Sequence
from typing import Any, Protocol
from uuid import UUID

import asyncpg

from jobqueue.base.job import NewJob, Sent
from jobqueue.store.pool import chunks

CHUNK_ROWS = 5_000
CHUNK_BYTES = 8 << 20
_TRIES = 20


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
    taken: set[str] = set()
    for _ in range(_TRIES):
        with contextlib.suppress(_KeyChangedHands):
            async with executor.transaction():
                return await _insert_whole(executor, jobs, taken, always)
    raise asyncpg.SerializationError(f"unique keys kept changing hands, {_TRIES} times in a row")


async def _insert_whole(executor: Executor, jobs: Sequence[NewJob[Any]], taken: set[str], always: bool) -> list[Sent]:
    holders = await _take_keys(executor, [job for job in jobs if job.key is not None], taken)
    going = [job for job in jobs if job.key is None or holders[job.key] == str(job.id)]
    cuts = chunks([len(job.args) for job in going], CHUNK_ROWS, CHUNK_BYTES)
    present: set[Any] = set()
    for cut in cuts:
        # a transaction of many chunks would hold the lock of wake() for long: it notifies instead
        present |= await _insert(executor, going[cut], always or len(cuts) > 1)
    present -= await _withdraw_known(executor, [job for job in going if job.resent and job.id in present], taken)
    return _answers(jobs, present, holders)


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


async def _withdraw_known(executor: Executor, jobs: Sequence[NewJob[Any]], taken: set[str]) -> set[Any]:
    """Take back the just inserted jobs that have run before: their ids are in the archive.

    Looked up by a second statement, whose snapshot is newer than the insert: a job that ran between a lost answer
    and its resend is seen. Of their keys only those are given up that were taken just now: a period may go on.
    """
    if not jobs:
        return set()
    known = {row[0] for row in await executor.fetch("archived_ids", [str(job.id) for job in jobs])}
    if known:
        keys = [job.key for job in jobs if str(job.id) in known and job.key in taken]
        await executor.fetch("withdraw_jobs", sorted(known), keys)
    return {UUID(id) for id in known}


class _KeyChangedHands(Exception):
    """Raised when a key was neither free, nor held when we looked first, nor held any more: a whole job in between.

    A transaction of ours then begins anew. To try again inside it, holding other keys, could end in a deadlock.
    """


async def _take_keys(executor: Executor, jobs: Sequence[NewJob[Any]], taken: set[str]) -> dict[str, str]:
    """For each key the id of the job that holds it now; those that were free go to `taken`, and to their first job."""
    first = {job.key: job for job in reversed(jobs) if job.key is not None}
    if not first:
        return {}
    wanted = [first[key] for key in sorted(first)]
    rows = await executor.fetch(
        "take_keys",
        [job.key for job in wanted],
        [str(job.id) for job in wanted],
        [job.key_scope for job in wanted],
        [job.key_period for job in wanted],
    )
    taken |= {row[0] for row in rows if row[2]}
    holders: dict[str, str] = {row[0]: row[1] for row in rows}
    if rest := [row[0] for row in rows if not row[2]] + sorted(first.keys() - holders):
        # held by others: by whom now, if by anybody, else by whom before
        holders |= {row[0]: row[1] for row in await executor.fetch("key_holders", rest)}
    if first.keys() - holders:
        raise _KeyChangedHands
    return holders


def _answers(jobs: Sequence[NewJob[Any]], present: set[Any], holders: dict[str, str]) -> list[Sent]:
    """What each caller is told; of several jobs with one id only the first is new."""
    new = set(present)
    answers = []
    for job in jobs:
        holder = job.id if job.key is None else UUID(holders[job.key])
        answers.append(Sent(holder, duplicate=holder != job.id or holder not in new))
        new.discard(holder)
    return answers
