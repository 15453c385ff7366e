"""Jobs are steered from outside: cancelled, retried, moved, deleted; queues are paused. See `base/steering.py`.

Each function does what it can by one statement and then asks where the rest is, so that every job gets an answer, also
one that changes its state meanwhile. Rows are read by place: SQLAlchemy gives plain tuples.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

import anyio
import asyncpg

from jobqueue.base.acting.audit import By
from jobqueue.base.errors import QueueLocked
from jobqueue.base.job import JobState
from jobqueue.base.outcome import Cancelled
from jobqueue.base.steering import LEGAL, Action, Change, Holder
from jobqueue.store.acting.audit import Noted, note_refused, noted, noting
from jobqueue.store.connection.executor import Executor
from jobqueue.store.connection.session import Session
from jobqueue.store.dated import fetch_dated
from jobqueue.store.looking.lookup import EVER, as_uuid, earliest_finish
from jobqueue.store.outcomes import finish_waiting
from jobqueue.store.standby import await_standby

_PAUSES = (0.0, 0.01, 0.03, 0.1, 0.3)
REQUESTED = "requested"
"""The reason of a job that was cancelled from outside."""


class Tries:
    """What all pages of one call share: half a second for jobs that others have locked, and the row of the audit."""

    def __init__(self, note: Noted | None = None, pauses: Sequence[float] = _PAUSES) -> None:
        self.note = note
        self.locked: list[UUID] = []
        """Those that others had locked to the end."""
        self._pauses = list(pauses)

    async def once_more(self) -> bool:
        """Wait a little; False if that was done often enough."""
        if not self._pauses:
            return False
        await anyio.sleep(self._pauses.pop(0))
        return True


async def cancel(
    executor: Executor, ids: Sequence[UUID], always: bool = False, tries: Tries | None = None
) -> dict[UUID, Change]:
    """End those that wait, ask those that run to end. `always` notifies whether anybody sleeps or not: see wake()."""

    async def attempt(left: list[UUID], since: datetime) -> dict[UUID, Change]:
        rows = await executor.fetch("ask_to_cancel", left)
        asked = [as_uuid(id) for id, was_asked in rows if was_asked]
        waiting = [as_uuid(id) for id, was_asked in rows if not was_asked]
        ended, _ = await finish_waiting(executor, waiting, Cancelled(REQUESTED))
        return dict.fromkeys(asked, Change.ASKED) | dict.fromkeys(ended, Change.DONE)

    return await _until_each_is_told(executor, Action.CANCEL, ids, attempt, tries)


async def retry(
    executor: Executor,
    ids: Sequence[UUID],
    always: bool = False,
    tries: Tries | None = None,
    *,
    from_start: bool = False,
) -> dict[UUID, Change]:
    """Those that have ended run again with all their attempts; those that wait for their time, or turn, are due now.

    `from_start`: what their phases have given is forgotten.
    """

    async def attempt(left: list[UUID], since: datetime) -> dict[UUID, Change]:
        rows = await fetch_dated(executor, "retry_finished", left, since, always, False, from_start)
        done = {as_uuid(id): Change.DONE if retried else Change.KEY_TAKEN for id, retried in rows}
        waiting = [id for id in left if id not in done]
        return done | dict.fromkeys(
            await _ids(executor, "change_waiting", waiting, 0.0, None, None, None, False, always, from_start),
            Change.DONE,
        )

    return await _until_each_is_told(executor, Action.RETRY, ids, attempt, tries)


async def revive(executor: Executor, ids: Sequence[UUID]) -> dict[UUID, bool]:
    """Run again what was cancelled for want of another job: False if somebody has the key of one by now.

    Nothing of those that somebody has locked, or that are not cancelled for that any more.
    """
    rows = await executor.fetch("retry_finished", list(ids), EVER, False, True, False)
    return {as_uuid(id): retried for id, retried in rows}


async def change(
    executor: Executor,
    action: Action,
    ids: Sequence[UUID],
    always: bool = False,
    tries: Tries | None = None,
    *,
    delay: float | None = None,
    at: datetime | None = None,
    queue: str | None = None,
    priority: int | None = None,
) -> dict[UUID, Change]:
    """Give those that wait, be it for other jobs, another due time, queue or priority."""

    async def attempt(left: list[UUID], since: datetime) -> dict[UUID, Change]:
        return dict.fromkeys(
            await _ids(executor, "change_waiting", left, delay, at, queue, priority, True, always, False), Change.DONE
        )

    return await _until_each_is_told(executor, action, ids, attempt, tries)


async def delete(
    executor: Executor, ids: Sequence[UUID], always: bool = False, tries: Tries | None = None
) -> dict[UUID, Change]:
    """Remove jobs, finished or not, but none that runs."""

    async def attempt(left: list[UUID], since: datetime) -> dict[UUID, Change]:
        gone = await _ids(executor, "delete_waiting", left) | await _ids(executor, "delete_finished", left, since)
        return dict.fromkeys(gone, Change.DONE)

    return await _until_each_is_told(executor, Action.DELETE, ids, attempt, tries)


async def bundled(executor: Executor, ids: Sequence[UUID], meant: bool) -> list[UUID]:
    """Those of these jobs that are in some bundle; if that is not `meant`, those that are in none."""
    found = await _of_each(executor, "are_bundled", ids)
    return [id for id in ids if found.get(id) is meant]


async def look(executor: Executor, action: Action, ids: Sequence[UUID]) -> dict[UUID, Change]:
    """What an action would do to these jobs now."""
    states = await _states(executor, ids)
    return {id: LEGAL[action][states[id]] if id in states else Change.NOT_FOUND for id in ids}


async def holders(executor: Executor, keys: Sequence[str]) -> list[UUID]:
    """The jobs that hold these unique keys now."""
    return [as_uuid(row[0]) for row in await executor.fetch("holders", list(keys))]


async def row_holders(executor: Executor, ids: Sequence[UUID]) -> dict[UUID, Holder]:
    """Who has locked these jobs, or their keys; nothing of those that nobody has."""
    if not ids:
        return {}
    rows = await executor.fetch("row_holders", list(ids), _since(ids))
    return {as_uuid(id): Holder(name, pid, seconds) for id, pid, name, seconds in rows}


async def pause_queue(
    session: Session, name: str, until: datetime | None, seconds: float | None, by: By | None = None
) -> datetime | None:
    """Claim nothing from a queue until it is resumed, or until this time, or for so long; when it ends by itself.

    Raises QueueLocked, as the next two do.
    """
    async with _on_queue(session, name), noting(session, by, "queue.pause", queue=name) as row:
        end: datetime | None = (await session.fetch("pause_queue", name, until, seconds))[0][0]
        row.what["until"] = end
    return end


async def resume_queue(session: Session, name: str, by: By | None = None) -> bool:
    """Claim from a queue again. False if it was not paused."""
    async with _on_queue(session, name), noting(session, by, "queue.resume", queue=name) as row:
        was_paused = bool((await session.fetch("resume_queue", name))[0][0])
        row.changed = int(was_paused)
    if not was_paused:
        await await_standby(session)
    return was_paused


async def keep_finished(
    session: Session,
    queue: str,
    completed: float | None,
    other: float | None,
    most_completed: int | None,
    most_other: int | None,
    by: By | None = None,
) -> None:
    """From the next sweep on this queue's finished jobs stay no longer, and are no more, than this."""
    limits = {"completed": completed, "other": other, "most_completed": most_completed, "most_other": most_other}
    async with _on_queue(session, queue), noting(session, by, "queue.keep", queue=queue, **limits):
        await session.fetch("keep_finished", queue, *limits.values())


@contextlib.asynccontextmanager
async def _on_queue(session: Session, queue: str) -> AsyncIterator[None]:
    try:
        yield
        return
    except asyncpg.LockNotAvailableError:
        rows = await session.fetch("queue_holder", queue)
    raise QueueLocked(queue, ", ".join(str(Holder(name, pid, seconds)) for pid, name, seconds in rows) or "somebody")


async def _until_each_is_told(
    executor: Executor,
    action: Action,
    ids: Sequence[UUID],
    attempt: Callable[[list[UUID], datetime], Awaitable[dict[UUID, Change]]],
    tries: Tries | None,
) -> dict[UUID, Change]:
    """Try, look where those are that nothing was done to, and try again with those that have moved meanwhile.

    Those that others have locked are tried again as well while there are `tries` left: most locks are gone in a moment.
    Of the archive each try but the first is told to look at every day: see `earliest_finish`.
    """
    told: dict[UUID, Change] = {}
    refused: dict[UUID, Change] = {}
    left = sorted(set(ids))  # every writer locks in id order
    tries, since = tries or Tries(), _since(left)
    while True:
        told |= await noted(executor, tries.note, partial(attempt, left, since)) if left else {}
        since = EVER
        left = [id for id in left if id not in told]
        states = await _states(executor, left)
        for id in left:
            answer = LEGAL[action][states[id]] if id in states else Change.NOT_FOUND
            if not answer.happened:
                refused[id] = answer
        left = [id for id in left if id not in refused]
        if not left or not await tries.once_more():
            refused |= dict.fromkeys(left, Change.BUSY)
            tries.locked += left
            await note_refused(executor, tries.note, refused)
            return {id: told[id] if id in told else refused[id] for id in ids}


async def _states(executor: Executor, ids: Sequence[UUID]) -> dict[UUID, JobState]:
    return {id: JobState(state) for id, state in (await _of_each(executor, "where_are", ids)).items()}


async def queues_of(executor: Executor, ids: Sequence[UUID]) -> dict[UUID, str]:
    """The queue of each of these jobs that is there."""
    return await _of_each(executor, "queues_of", ids)


async def _of_each(executor: Executor, name: str, ids: Sequence[UUID]) -> dict[UUID, Any]:
    """What a statement says of these jobs, wherever they are."""
    found: dict[UUID, Any] = {}
    for since in (_since(ids), EVER):
        if left := [id for id in ids if id not in found]:
            found |= {as_uuid(id): said for id, said in await executor.fetch(name, left, since)}
    return found


async def _ids(executor: Executor, name: str, ids: Sequence[UUID], *values: object) -> set[UUID]:
    if not ids:
        return set()
    return {as_uuid(row[0]) for row in await fetch_dated(executor, name, list(ids), *values)}


def _since(ids: Sequence[UUID]) -> datetime:
    return min((earliest_finish(id) for id in ids), default=EVER)
