"""Jobs are steered from outside: cancelled, retried, moved, deleted; queues are paused. See `base/steering.py`.

Each function does what it can by one statement and then asks where the rest is, so that every job gets an answer, also
one that changes its state meanwhile. Rows are read by place: SQLAlchemy gives plain tuples.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from uuid import UUID

from jobqueue.base.job import JobState
from jobqueue.base.outcome import Cancelled
from jobqueue.base.steering import LEGAL, Action, Change
from jobqueue.store.connection.executor import Executor
from jobqueue.store.lookup import EVER, as_uuid, earliest_finish
from jobqueue.store.outcomes import finish_waiting
from jobqueue.store.standby import await_standby

_TRIES = 5
REQUESTED = "requested"
"""The reason of a job that was cancelled from outside."""


async def cancel(executor: Executor, ids: Sequence[UUID], always: bool = False) -> dict[UUID, Change]:
    """End those that wait, ask those that run to end. `always` notifies whether anybody sleeps or not: see wake()."""

    async def attempt(left: list[UUID], since: datetime) -> dict[UUID, Change]:
        asked = await _ids(executor, "ask_to_cancel", left)
        ended = await finish_waiting(executor, [id for id in left if id not in asked], Cancelled(REQUESTED))
        return dict.fromkeys(asked, Change.ASKED) | dict.fromkeys(ended, Change.DONE)

    return await _until_each_is_told(executor, Action.CANCEL, ids, attempt)


async def retry(executor: Executor, ids: Sequence[UUID], always: bool = False) -> dict[UUID, Change]:
    """Those that have ended run again with all their attempts; those that wait are due now."""

    async def attempt(left: list[UUID], since: datetime) -> dict[UUID, Change]:
        rows = await executor.fetch("retry_finished", left, since, always)
        done = {as_uuid(id): Change.DONE if retried else Change.KEY_TAKEN for id, retried in rows}
        waiting = [id for id in left if id not in done]
        return done | dict.fromkeys(
            await _ids(executor, "change_waiting", waiting, 0.0, None, None, None, always), Change.DONE
        )

    return await _until_each_is_told(executor, Action.RETRY, ids, attempt)


async def change(
    executor: Executor,
    action: Action,
    ids: Sequence[UUID],
    always: bool = False,
    *,
    delay: float | None = None,
    at: datetime | None = None,
    queue: str | None = None,
    priority: int | None = None,
) -> dict[UUID, Change]:
    """Give those that wait another due time, queue or priority."""

    async def attempt(left: list[UUID], since: datetime) -> dict[UUID, Change]:
        return dict.fromkeys(
            await _ids(executor, "change_waiting", left, delay, at, queue, priority, always), Change.DONE
        )

    return await _until_each_is_told(executor, action, ids, attempt)


async def delete(executor: Executor, ids: Sequence[UUID], always: bool = False) -> dict[UUID, Change]:
    """Remove jobs, finished or not, but none that runs."""

    async def attempt(left: list[UUID], since: datetime) -> dict[UUID, Change]:
        gone = await _ids(executor, "delete_waiting", left) | await _ids(executor, "delete_finished", left, since)
        return dict.fromkeys(gone, Change.DONE)

    return await _until_each_is_told(executor, Action.DELETE, ids, attempt)


async def look(executor: Executor, action: Action, ids: Sequence[UUID]) -> dict[UUID, Change]:
    """What an action would do to these jobs now."""
    states = await _states(executor, ids)
    return {id: LEGAL[action][states[id]] if id in states else Change.NOT_FOUND for id in ids}


async def find_ids(
    executor: Executor,
    *,
    states: Sequence[JobState] | None,
    queue: str | None,
    task: str | None,
    origin: str | None,
    after: UUID | None,
    room: int,
) -> list[UUID]:
    """A page of the ids of a filter, oldest first."""
    names = None if states is None else [str(state) for state in states]
    rows = await executor.fetch("find_ids", names, queue, task, origin, after, room)
    return [as_uuid(row[0]) for row in rows]


async def holders(executor: Executor, keys: Sequence[str]) -> list[UUID]:
    """The jobs that hold these unique keys now."""
    return [as_uuid(row[0]) for row in await executor.fetch("holders", list(keys))]


async def pause_queue(executor: Executor, name: str, until: datetime | None, seconds: float | None) -> datetime | None:
    """Claim nothing from a queue until it is resumed, or until this time, or for so long; when it ends by itself."""
    end: datetime | None = (await executor.fetch("pause_queue", name, until, seconds))[0][0]
    return end


async def resume_queue(executor: Executor, name: str) -> bool:
    """Claim from a queue again. False if it was not paused."""
    was_paused = bool((await executor.fetch("resume_queue", name))[0][0])
    if not was_paused:
        await await_standby(executor)
    return was_paused


async def _until_each_is_told(
    executor: Executor,
    action: Action,
    ids: Sequence[UUID],
    attempt: Callable[[list[UUID], datetime], Awaitable[dict[UUID, Change]]],
) -> dict[UUID, Change]:
    """Try, look where those are that nothing was done to, and try again with those that have moved meanwhile.

    Of the archive each try but the first is told to look at every day: see `earliest_finish`.
    """
    told: dict[UUID, Change] = {}
    left = sorted(set(ids))  # every writer locks in id order
    for since in (_since(left), *[EVER] * (_TRIES - 1)):
        told |= await attempt(left, since) if left else {}
        left = [id for id in left if id not in told]
        states = await _states(executor, left)
        for id in left:
            answer = LEGAL[action][states[id]] if id in states else Change.NOT_FOUND
            if not answer.happened:
                told[id] = answer
        left = [id for id in left if id not in told]
        if not left:
            break
    return {id: told.get(id, Change.BUSY) for id in ids}


async def _states(executor: Executor, ids: Sequence[UUID]) -> dict[UUID, JobState]:
    if not ids:
        return {}
    states: dict[UUID, JobState] = {}
    for since in (_since(ids), EVER):
        if left := [id for id in ids if id not in states]:
            rows = await executor.fetch("where_are", left, since)
            states |= {as_uuid(id): JobState(state) for id, state in rows}
    return states


async def _ids(executor: Executor, name: str, ids: Sequence[UUID], *values: object) -> set[UUID]:
    if not ids:
        return set()
    return {as_uuid(row[0]) for row in await executor.fetch(name, list(ids), *values)}


def _since(ids: Sequence[UUID]) -> datetime:
    return min((earliest_finish(id) for id in ids), default=EVER)
