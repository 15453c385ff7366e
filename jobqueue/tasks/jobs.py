"""`app.jobs`: look at stored jobs, and steer them."""

import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, TypeAlias, TypedDict, Unpack
from uuid import UUID

from jobqueue.base.errors import InvalidOption, JobNotFound
from jobqueue.base.flows.phase import Phase
from jobqueue.base.job import Job, JobState, JsonValue
from jobqueue.base.moments import LONGEST, Seconds
from jobqueue.base.names import check_name, check_whole
from jobqueue.base.search import Inside
from jobqueue.base.settings import Settings
from jobqueue.base.steering import LEGAL, Action, Change, Changes
from jobqueue.store import steering
from jobqueue.store.connection.edge import EDGE, own_session
from jobqueue.store.connection.executor import Executor
from jobqueue.store.connection.pool import Database
from jobqueue.store.flows.bundles import find_members, list_members
from jobqueue.store.flows.phases import list_phases
from jobqueue.store.flows.signals import unread_signals
from jobqueue.store.looking.listing import PATIENCE, JobPage, Wanted, find_by_part, find_ids, list_jobs, place_of
from jobqueue.store.looking.lookup import find_job
from jobqueue.store.looking.overview import Counts, Waits, count_jobs, count_jobs_on, waits_for
from jobqueue.store.standby import await_standby
from jobqueue.tasks.options import PRIORITIES, DeferOptions, Unique, check_id, queue_named, stored_key
from jobqueue.tasks.phases.signalling import signal

_PART = re.compile(r"[0-9A-Fa-f-]{8,36}")
_PAGE_LIMIT = 1_000
_STEER_PAGE = 500
_MAX_PAYLOAD = Settings().max_payload


class Filter(TypedDict, total=False):
    """Which jobs are meant: those for which all that is given holds."""

    state: JobState | str | Sequence[JobState | str] | None
    queue: str | None
    task: str | None
    origin: str | None
    bundle: UUID | str | None
    """Of this bundle: its members, and its callbacks."""
    bundled: bool | None
    """False: of no bundle, so that members of any are spared; True: of some."""
    key: str | None
    """The job that holds this unique key of `task` now; no other filter beside the two."""
    error: str | None
    """The class of the last error, with or without its module: `CardDeclined` finds `shop.errors.CardDeclined`."""
    fingerprint: str | None
    """Of a group of failures, see `errors`."""
    args: Mapping[str, JsonValue] | None
    """Values in the arguments by their paths: `{"order.id": 88123, "items.0.sku": "abc"}`. Compared as they are
    written: a number by its digits, a string without its quotes."""
    text: str | None
    """A part of the arguments as JSON, the last error's message, the message of its progress, or its unique key; no
    matter which letters are capitals."""
    reason: str | None
    """Why it ended: `attempts`, `fatal`, `expired`, ..."""


_INSIDE = ("error", "fingerprint", "args", "text", "reason")
_NAMES = ("queue", "task", "origin", "key")


class Jobs:
    """Reads and steers jobs, finished ones as long as the archive keeps them."""

    def __init__(
        self,
        database: Callable[[], Awaitable[Database]],
        on: Callable[[object], Executor] | None = None,
        limit: Callable[[], int] = lambda: _MAX_PAYLOAD,
    ) -> None:
        """`on` gives the executor for a caller's connection, then all that is used; None where nobody has one.

        `limit`: how many bytes a signal may have.
        """
        self._database = database
        self._on = on
        self._limit = limit

    async def get(self, id: UUID | str, *, connection: object | None = None) -> Job:
        """The job as it stands now; with `connection` as the caller's transaction sees it.

        Raises JobNotFound, InvalidOption if that is no id.
        """
        meant = check_id(id)
        async with self._executor(connection) as executor:
            job = await find_job(executor, meant)
        if job is None:
            raise JobNotFound(meant)
        return job

    async def waits_for(self, id: UUID | str, *, limit: int = 50, connection: object | None = None) -> Waits:
        """What a blocked job waits for: how many of those that it came after, and at most `limit` of them, with states.

        Of one that was cancelled for want of another (`reason == "dependency"`) that one comes first, and
        `dependency.failed` is true of it. Nothing of any other job. Raises InvalidOption.
        """
        meant = check_id(id)
        _check_limit(limit)
        async with self._executor(connection) as executor:
            return await waits_for(executor, meant, limit)

    async def phases(
        self, id: UUID | str, *, payload: bool = True, connection: object | None = None
    ) -> Sequence[Phase]:
        """The phases of a job in the order in which they began, its sleeps and waits among them; at most 10,000.

        Of a job that ended they are kept about as long as the archive keeps completed jobs. Empty without any. Without
        `payload` they have no results, only their sizes. Raises InvalidOption.
        """
        meant = check_id(id)
        async with self._executor(connection) as executor:
            return await list_phases(executor, meant, payload=payload)

    async def signal(
        self, id: UUID | str, name: str, payload: Any = None, *, connection: object | None = None
    ) -> Change:
        """Send a signal to a job: see `handle.signal`. `connection` joins the caller's transaction.

        Until that ends nothing else can be written of the job. Raises InvalidOption, InvalidPayload, TooManySignals.
        """
        meant = check_id(id)
        async with self._executor(connection) as executor:
            return await signal(executor, meant, name, payload, self._limit())

    async def unread_signals(self, id: UUID | str, *, connection: object | None = None) -> dict[str, int]:
        """How many signals a job was sent that it has not read, by their names. Raises InvalidOption."""
        meant = check_id(id)
        async with self._executor(connection) as executor:
            return await unread_signals(executor, meant)

    async def resolve(self, part: str, *, connection: object | None = None) -> UUID:
        """The id that begins or ends like this, as `top` shows it; eight characters at least.

        It looks for 5 s at the most, at the newest jobs first. Raises InvalidOption if there is none, or more than one.
        """
        if not _PART.fullmatch(str(part)):
            raise InvalidOption(
                "id", "must be the id of a job, or the beginning or the end of one, 8 characters at least"
            )
        async with self._executor(connection) as executor:
            found = await find_by_part(executor, part.lower(), 2)
        if len(found) == 1:
            return found[0]
        which = f"more than one does: {', '.join(map(str, found))}" if found else "none was found"
        raise InvalidOption("id", f"no single job's id begins or ends with {part}; {which}")

    async def list(
        self,
        *,
        state: JobState | str | Sequence[JobState | str] | None = None,
        queue: str | None = None,
        task: str | None = None,
        origin: str | None = None,
        bundle: UUID | str | None = None,
        key: str | None = None,
        error: str | None = None,
        fingerprint: str | None = None,
        args: Mapping[str, JsonValue] | None = None,
        text: str | None = None,
        reason: str | None = None,
        after: UUID | None = None,
        limit: int = 50,
        payload: bool = False,
        patience: float = PATIENCE,
        connection: object | None = None,
    ) -> JobPage:
        """A page of jobs, the newest first, by when they came; `after=page.next` goes on until that is None.

        The filters are those of `Filter`, but for `key`: all jobs that have or had this unique key. A look costs what
        it reads, not what it finds: for jobs of which there are few it may read many. It ends after `patience` seconds
        with what it has, perhaps with nothing: `next` says where to go on, `reached` back to when it has looked, and
        `searched` at how many jobs. `after` may be the id of a job as well. Those of a `bundle`, its callbacks
        included, are found by an index. Without `payload` the jobs have neither arguments nor results. `connection`
        looks inside the caller's transaction. Raises InvalidOption.
        """
        _check_limit(limit)
        _check_patience(patience)
        if not isinstance(after, UUID | None):
            raise InvalidOption("after", "must be the UUID of a job, as in job.id")
        check_filters(queue=queue, task=task, origin=origin)
        inside = Inside(error, fingerprint, args, text, key, reason)
        wanted = Wanted(frozenset(JobState if state is None else _states(state)), queue, task, origin, inside=inside)
        async with self._executor(connection) as executor:
            place = None if after is None else await place_of(executor, after)
            if after is not None and place is None:
                raise InvalidOption("after", "no job has this id any more, which tells no time; go on from page.next")
            if bundle is not None:
                return await list_members(executor, check_id(bundle, "bundle"), wanted, place, limit, payload=payload)
            return await list_jobs(executor, wanted, after=place, limit=limit, payload=payload, patience=patience)

    async def counts(self, *, connection: object | None = None) -> Counts:
        """How many jobs there are, by queue and state; with `connection` as the caller's transaction sees it."""
        if connection is None:
            with EDGE:
                return await count_jobs(await self._database())
        async with self._executor(connection) as executor:
            return await count_jobs_on(executor)

    async def cancel(
        self, *ids: UUID, connection: object | None = None, dry_run: bool = False, **which: Unpack[Filter]
    ) -> Changes:
        """End jobs: those that wait at once, those that run as soon as their worker has heard of it (about at once).

        By id, or by a `Filter`. Says of each job what became of it; a second cancel of the same job is told `asked`
        again while it runs, and `too_late` once it has ended. A job that somebody's open transaction has locked is not
        waited for: it is `busy`, the others are done, and `locked` names the holder. `connection` joins the caller's
        transaction, `dry_run` only says what would be. Raises InvalidOption without any id or filter.
        """
        return await self._steer(Action.CANCEL, steering.cancel, ids, which, connection, dry_run)

    async def retry(
        self,
        *ids: UUID,
        from_start: bool = False,
        connection: object | None = None,
        dry_run: bool = False,
        **which: Unpack[Filter],
    ) -> Changes:
        """Run jobs again that have ended, with all their attempts and their history; those that wait are due at once.

        Phases that are completed do not run again, unless `from_start` forgets what they have given. Refused for a job
        that runs, or waits for others, or whose unique key another job holds by now. A filter without `state` means
        dead jobs. Otherwise as `cancel`.
        """
        retry = partial(steering.retry, from_start=from_start)
        return await self._steer(Action.RETRY, retry, ids, which, connection, dry_run)

    async def reschedule(
        self,
        *ids: UUID,
        delay: Seconds | None = None,
        at: datetime | None = None,
        connection: object | None = None,
        dry_run: bool = False,
        **which: Unpack[Filter],
    ) -> Changes:
        """Give jobs that wait another due time: `at`, or `delay` (seconds or timedelta) from now.

        One that waits for others goes on doing so, and runs when both have come. Otherwise as `cancel`.
        """
        said = DeferOptions(delay=delay, at=at)
        if delay is None and at is None:
            raise InvalidOption("delay", "give either delay= or at=")
        change = partial(_change, Action.RESCHEDULE, delay=said.delay, at=said.at)
        return await self._steer(Action.RESCHEDULE, change, ids, which, connection, dry_run)

    async def move(
        self, *ids: UUID, to: str, connection: object | None = None, dry_run: bool = False, **which: Unpack[Filter]
    ) -> Changes:
        """Move jobs that wait to another queue, where they line up anew. Otherwise as `cancel`."""
        change = partial(_change, Action.MOVE, queue=queue_named("to", to))
        return await self._steer(Action.MOVE, change, ids, which, connection, dry_run)

    async def set_priority(
        self,
        *ids: UUID,
        priority: int,
        connection: object | None = None,
        dry_run: bool = False,
        **which: Unpack[Filter],
    ) -> Changes:
        """Give jobs that wait another priority; they keep their place in it. Otherwise as `cancel`."""
        if priority is None:
            raise InvalidOption("priority", "must be a whole number")
        change = partial(_change, Action.SET_PRIORITY, priority=check_whole("priority", priority, PRIORITIES))
        return await self._steer(Action.SET_PRIORITY, change, ids, which, connection, dry_run)

    async def delete(
        self, *ids: UUID, connection: object | None = None, dry_run: bool = False, **which: Unpack[Filter]
    ) -> Changes:
        """Remove jobs and their results for good, finished or waiting; never one that runs. Otherwise as `cancel`."""
        return await self._steer(Action.DELETE, steering.delete, ids, which, connection, dry_run)

    async def _steer(
        self,
        action: Action,
        change: "Steer",
        ids: Sequence[UUID],
        which: Filter,
        connection: object | None,
        dry_run: bool,
    ) -> Changes:
        changes, tries = Changes(), steering.Tries()
        async with self._executor(connection) as executor:
            async for page in _pages(executor, action, ids, which):
                changes.each.update(
                    await steering.look(executor, action, page)
                    if dry_run
                    else await change(executor, page, connection is not None, tries)
                )
            if not dry_run:
                busy = [id for id, change in changes.each.items() if change is Change.BUSY]
                changes.locked.update(await steering.row_holders(executor, busy[:_STEER_PAGE]))
                if which or changes.refused:
                    await await_standby(
                        executor
                    )  # what there was nothing left to do for, an earlier call may have done
        return changes

    @contextlib.asynccontextmanager
    async def _executor(self, connection: object | None) -> AsyncIterator[Executor]:
        if connection is not None:
            assert self._on is not None  # noqa: S101 - the command line has no connections
            yield self._on(connection)
            return
        async with own_session(self._database) as session:
            yield session


Steer: TypeAlias = Callable[[Executor, Sequence[UUID], bool, steering.Tries], Awaitable[dict[UUID, Change]]]


async def _change(
    action: Action, executor: Executor, ids: Sequence[UUID], always: bool, tries: steering.Tries, **to: Any
) -> dict[UUID, Change]:
    return await steering.change(executor, action, ids, always, tries, **to)


async def _pages(
    executor: Executor, action: Action, ids: Sequence[UUID], which: Filter
) -> AsyncIterator[Sequence[UUID]]:
    """The jobs that are meant, a bounded page at a time."""
    given: dict[str, Any] = {name: value for name, value in which.items() if value is not None}
    if unknown := sorted(set(which) - set(Filter.__annotations__)):
        raise InvalidOption(unknown[0], f"is no filter; these are: {', '.join(Filter.__annotations__)}")
    if bool(ids) == bool(given):
        raise InvalidOption("ids", "give ids, or at least one filter, not both")
    if any(not isinstance(id, UUID) for id in ids):
        raise InvalidOption("ids", "must be UUIDs, as in handle.id")
    check_filters(**{name: value for name, value in given.items() if name in _NAMES})
    bundled = given.pop("bundled", None)
    if bundled is not None and (not isinstance(bundled, bool) or "bundle" in given):
        raise InvalidOption("bundled", "must be True or False, and stand without bundle=")
    if by_key := "key" in given:
        if set(given) != {"key", "task"} or bundled is not None:
            raise InvalidOption("key", "a key is one of a task: give task= with it, and no other filter")
        ids = await steering.holders(executor, [stored_key(given["task"], Unique(given["key"]), "")])
    if ids or by_key:
        for start in range(0, len(ids), _STEER_PAGE):
            yield ids[start : start + _STEER_PAGE]
        return
    async for page in _pages_by_filter(executor, action, given):
        yield page if bundled is None else await steering.bundled(executor, page, bundled)


def _pages_by_filter(executor: Executor, action: Action, given: dict[str, Any]) -> AsyncIterator[Sequence[UUID]]:
    # Without a state only jobs are meant to which it can be done: not every job that the archive remembers.
    legal = [state for state, change in LEGAL[action].items() if change.happened]
    if action is Action.RETRY:
        legal = [JobState.DEAD]  # to run again what was completed, or cancelled, is seldom what is meant
    states = _states(given["state"]) if "state" in given else legal
    inside = Inside(**{name: given[name] for name in _INSIDE if name in given})
    wanted = Wanted(frozenset(states), given.get("queue"), given.get("task"), given.get("origin"), inside=inside)
    if "bundle" in given:
        return find_members(executor, check_id(given["bundle"], "bundle"), wanted, _STEER_PAGE)
    return find_ids(executor, wanted, _STEER_PAGE)


def _check_limit(limit: int) -> None:
    """Refuse what is no size of a page. Raises InvalidOption."""
    if check_whole("limit", limit, (1, _PAGE_LIMIT)) is None:
        raise InvalidOption("limit", f"must be a whole number from 1 to {_PAGE_LIMIT}")


def _check_patience(patience: float) -> None:
    given: object = patience
    if not isinstance(given, int | float) or isinstance(given, bool) or not 0 < given <= LONGEST:
        raise InvalidOption("patience", "must be a number of seconds above 0")


def check_filters(**names: str | None) -> None:
    """Refuse names that none of our jobs can have. Raises InvalidOption."""
    for option, name in names.items():
        if name is not None:
            check_name(option, name)


def _states(given: JobState | str | Sequence[JobState | str]) -> Sequence[JobState]:
    try:
        return [JobState(state) for state in ([given] if isinstance(given, str) else given)]
    except (ValueError, TypeError):
        raise InvalidOption("state", f"must be one of {', '.join(JobState)}") from None
