"""Many jobs of one call come in: while some are stored, the next ones are made, for these are two processes' work.

20 000 jobs on two cores: 38 000 a second if all are made first, like this 54 000 (medians of seven, in turns). Later
answers were made meanwhile as well, and jobs as drafts: 57 000 before, 70 000 (of nine). Smaller chunks were no faster;
a fifth of the time is the commit's wait for the disk.
"""

import asyncio
from typing import Any

from jobqueue.base.job import NewJob, Sent
from jobqueue.base.new_jobs import NewJobs
from jobqueue.base.service import outlast
from jobqueue.store.connection.session import Session
from jobqueue.store.dialing.dial import CLOSE_LIMIT
from jobqueue.store.intake import CHUNK_BYTES, CHUNK_ROWS, insert_all, insert_plain


class _Taken(Exception):
    """Raised when an id was taken, though nobody but us has seen it: all is undone, and stored in the careful way."""


async def insert_as_made(session: Session, jobs: NewJobs) -> list[Sent]:
    """Insert all or none, in one transaction; answers in the order given. Raises what making them does."""
    jobs.more()
    if not _are_plain(jobs.made) or not jobs.more():
        return await insert_all(session, jobs.all(), always=False)
    try:
        async with session.transaction():
            return await _store(session, jobs)
    except _Taken:
        return await insert_all(session, jobs.all(), always=False)


def _are_plain(jobs: list[NewJob[Any]]) -> bool:
    """Whether nothing else decides if they are stored: they have neither keys nor ids of the caller's."""
    return not any(job.key or job.resent for job in jobs)


async def _store(session: Session, jobs: NewJobs) -> list[Sent]:
    """What is made already goes first; answers are made while the database has enough to do."""
    answers, sending = list[Sent](), None
    try:
        while True:
            if sending is not None:
                await _make(jobs, len(answers), sending)
                if not await sending:
                    raise _Taken
            chunk = jobs.made[len(answers) :]
            if not chunk:
                return answers
            if not _are_plain(chunk):
                raise _Taken
            # it notifies, whoever sleeps: a transaction of many chunks would hold the lock of wake() for long
            sending = asyncio.create_task(insert_plain(session, chunk, always=True))
            sending.add_done_callback(_read_once)
            await asyncio.sleep(0)
            answers += [Sent(job.id) for job in chunk]
    finally:
        if sending is not None and not sending.done():
            sending.cancel()  # which costs the connection, and so undoes the transaction
            await outlast(sending, CLOSE_LIMIT)


def _read_once(sending: "asyncio.Task[bool]") -> None:
    """asyncio would log the error of a statement whose call has failed already."""
    if not sending.cancelled():
        sending.exception()


async def _make(jobs: NewJobs, sent: int, sending: "asyncio.Task[bool]") -> None:
    """Make jobs for as long as others are on their way, at most a chunk of them."""
    while jobs.more():
        await asyncio.sleep(0)
        chunk = jobs.made[sent:]
        full = len(chunk) >= CHUNK_ROWS or sum(len(job.args) for job in chunk) >= CHUNK_BYTES
        if full or sending.done():
            return
