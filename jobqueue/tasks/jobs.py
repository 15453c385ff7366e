"""`app.jobs`: look at stored jobs, and steer them."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from jobqueue.base.acting.audit import By, Doer
from jobqueue.base.errors import InvalidOption, JobNotFound
from jobqueue.base.flows.phase import Phase
from jobqueue.base.job import Job, JobState, JsonValue
from jobqueue.base.looking.search import Inside
from jobqueue.base.moments import LONGEST
from jobqueue.base.names import check_whole
from jobqueue.base.settings import Settings
from jobqueue.base.steering import Change
from jobqueue.store.acting.audit import meant as named
from jobqueue.store.acting.audit import noting
from jobqueue.store.connection.edge import EDGE
from jobqueue.store.connection.executor import Executor
from jobqueue.store.connection.pool import Database
from jobqueue.store.flows.bundles import list_members
from jobqueue.store.flows.phases import list_phases
from jobqueue.store.flows.signals import unread_signals
from jobqueue.store.looking.errors import GROUPS, ROOM, ErrorGroups, error_groups
from jobqueue.store.looking.listing import PATIENCE, JobPage, Wanted, find_by_part, list_jobs, place_of
from jobqueue.store.looking.lookup import find_job
from jobqueue.store.looking.overview import Counts, Waits, count_jobs, count_jobs_on, waits_for
from jobqueue.tasks.acting.filters import check_filters, states_of
from jobqueue.tasks.acting.steering import Steering
from jobqueue.tasks.options import check_id
from jobqueue.tasks.phases.signalling import signal

_PART = re.compile(r"[0-9A-Fa-f-]{8,36}")
_PAGE_LIMIT = 1_000
_MOST_ERRORS = 100_000
_MAX_PAYLOAD = Settings().max_payload


class Jobs(Steering):
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
        super().__init__(database, on)
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
        self,
        id: UUID | str,
        name: str,
        payload: Any = None,
        *,
        by: Doer | None = None,
        connection: object | None = None,
    ) -> Change:
        """Send a signal to a job: see `handle.signal`. `connection` joins the caller's transaction; `by`: see `cancel`.

        Until that ends nothing else can be written of the job. Raises InvalidOption, InvalidPayload, TooManySignals.
        """
        meant, doer = check_id(id), By.of(by)
        async with (
            self._executor(connection) as executor,
            noting(executor, doer, "job.signal", **named([meant]), signal=name) as row,
        ):
            change = await signal(executor, meant, name, payload, self._limit())
            row.jobs, row.changed = [meant], int(change.happened)
        return change

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
        states = frozenset(JobState if state is None else states_of(state))
        wanted = Wanted(states, queue, task, origin, inside=inside)
        async with self._executor(connection) as executor:
            place = None if after is None else await place_of(executor, after)
            if after is not None and place is None:
                raise InvalidOption("after", "no job has this id any more, which tells no time; go on from page.next")
            if bundle is not None:
                return await list_members(executor, check_id(bundle, "bundle"), wanted, place, limit, payload=payload)
            return await list_jobs(executor, wanted, after=place, limit=limit, payload=payload, patience=patience)

    async def errors(
        self, *, queue: str | None = None, room: int = ROOM, limit: int = GROUPS, connection: object | None = None
    ) -> ErrorGroups:
        """The failures of the latest dead jobs, in groups of those that failed alike; the largest first.

        Alike are jobs of one task whose last errors have the same class and came from the same function, whatever the
        line. It looks at the latest `room` dead jobs, at most 100,000, for 2 s at most: `groups.looked` says at how
        many, `groups.since` back to when, and `groups.whole` whether these were all. The fingerprint of a group is a
        filter: `list(fingerprint=...)`, `retry(fingerprint=...)`. With `queue` only jobs of that are in the groups.
        `connection` looks inside the caller's transaction. Raises InvalidOption.
        """
        check_filters(queue=queue)
        _check_limit(limit)
        if check_whole("room", room, (1, _MOST_ERRORS)) is None:
            raise InvalidOption("room", f"must be a whole number from 1 to {_MOST_ERRORS}")
        async with self._executor(connection) as executor:
            return await error_groups(executor, room=room, queues=None if queue is None else [queue], limit=limit)

    async def counts(self, *, connection: object | None = None) -> Counts:
        """How many jobs there are, by queue and state; with `connection` as the caller's transaction sees it."""
        if connection is None:
            with EDGE:
                return await count_jobs(await self._database())
        async with self._executor(connection) as executor:
            return await count_jobs_on(executor)


def _check_limit(limit: int) -> None:
    """Refuse what is no size of a page. Raises InvalidOption."""
    if check_whole("limit", limit, (1, _PAGE_LIMIT)) is None:
        raise InvalidOption("limit", f"must be a whole number from 1 to {_PAGE_LIMIT}")


def _check_patience(patience: float) -> None:
    given: object = patience
    if not isinstance(given, int | float) or isinstance(given, bool) or not 0 < given <= LONGEST:
        raise InvalidOption("patience", "must be a number of seconds above 0")
