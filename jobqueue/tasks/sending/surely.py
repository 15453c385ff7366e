"""A write under way: sent once more if its answer is lost, waited for if its caller is cancelled."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

from jobqueue.base.errors import DeferUnknown, InvalidPayload, KeyLocked
from jobqueue.base.job import NewJob, Sent
from jobqueue.base.new_jobs import NewJobs
from jobqueue.base.service import Patience, outlast
from jobqueue.store.connection.executor import Executor
from jobqueue.store.connection.faults import DATABASE_ERRORS, Deadlock, Fault, LockTimeout, classify, refused_row
from jobqueue.store.locks import who_locks

T = TypeVar("T")
Insert: TypeAlias = Callable[[Any, NewJobs], Awaitable[list[Sent]]]
"""Stores all or none on an executor: `insert_as_made` where there is an event loop."""

_DEADLOCKS = 3
CANCEL_LIMIT = 5.0
"""Seconds that a cancelled caller waits for the answer to what was sent already."""


class AnswerLost(Exception):
    """Raised when the rows may be in or not, and asking again did not help."""


async def insert_and_tell(session: Executor, jobs: NewJobs, insert: Insert) -> list[Sent]:
    """As `insert_surely`, in words for the caller. Raises InvalidPayload, KeyLocked, DeferUnknown."""
    try:
        return await insert_surely(session, jobs, insert)
    except AnswerLost:
        raise DeferUnknown(jobs.made[0].id) from None
    except LockTimeout:
        by = await who_locks(session, "job_key", "job")
        raise KeyLocked(jobs.made[0].task, by) from None
    except DATABASE_ERRORS as error:
        fault = error if classify(error) is not Fault.BAD_DATA else refused(jobs.made, error)
    raise fault


def refused(jobs: Sequence[NewJob[Any]], error: BaseException) -> InvalidPayload:
    """What a call is told whose rows the database refuses."""
    return refused_row(jobs[0].task if len(jobs) == 1 else "in a batch, one", error)


async def insert_surely(session: Executor, jobs: NewJobs, insert: Insert) -> list[Sent]:
    """Insert all or none; if the connection breaks, the same ids once more, checked against the archive.

    Raises AnswerLost, or a database error after which certainly nothing is in.
    """
    try:
        return await _insert(session, jobs, insert)
    except DATABASE_ERRORS as error:
        first = classify(error)
        if first not in (Fault.UNKNOWN, Fault.AWAY, Fault.READ_ONLY):
            raise
    try:
        known = NewJobs(replace(job, resent=True, own_id=False) for job in jobs.all())
        again = await _insert(session, known, insert)
    except DATABASE_ERRORS as error:
        second = classify(error)
        if Fault.UNKNOWN in (first, second) and second is not Fault.BAD_DATA:
            raise AnswerLost from None
        raise
    return [_own(job, sent) for job, sent in zip(jobs.made, again, strict=True)]


async def _insert(session: Executor, jobs: NewJobs, insert: Insert) -> list[Sent]:
    """Insert all or none. A deadlock has undone everything: tried again, a few times."""
    patience = Patience(first=0.02, cap=0.2)
    for _ in range(_DEADLOCKS):
        with contextlib.suppress(Deadlock):
            return await insert(session, jobs)
        jobs.all()
        await session.fetch("pause", patience.next())  # there, for a caller may have no event loop
    return await insert(session, jobs)


def _own(job: NewJob[Any], sent: Sent) -> Sent:
    """Under an id of our making a duplicate is our own first try; one of the caller's may be an earlier call's."""
    return sent if job.resent or sent.id != job.id else Sent(sent.id)


async def answer_of(
    answer: "asyncio.Future[T]", id: UUID, is_sending: Callable[[], bool], withdraw: Callable[[], object]
) -> T:
    """Wait for the answer to a write, which is never cancelled itself. Raises DeferUnknown if it does not come.

    Cancelled before anything was sent, it withdraws. Cancelled later, it waits, shielded and at most CANCEL_LIMIT,
    until the rows are in or never will be.
    """
    try:
        return await asyncio.shield(answer)
    except asyncio.CancelledError:
        if not is_sending():
            withdraw()
        elif not await _is_settled(answer):
            raise DeferUnknown(id) from None
        raise


async def _is_settled(answer: "asyncio.Future[Any]") -> bool:
    """Wait for the answer whatever cancellations come, at most CANCEL_LIMIT; True if it came and is known."""
    return await outlast(answer, CANCEL_LIMIT) and not isinstance(answer.exception(), DeferUnknown)
