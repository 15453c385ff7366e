"""`app.jobs`: look at stored jobs."""

from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

from jobqueue.base.errors import InvalidOption, JobNotFound
from jobqueue.base.job import Job, JobState
from jobqueue.store.lookup import Counts, count_jobs, find_job, list_jobs
from jobqueue.store.pool import Database

_PAGE_LIMIT = 1_000


class Jobs:
    """Reads jobs, finished ones as long as the archive keeps them."""

    def __init__(self, database: Callable[[], Awaitable[Database]]) -> None:
        self._database = database

    async def get(self, id: UUID) -> Job:
        """The job as it stands now. Raises JobNotFound."""
        job = await find_job(await self._database(), id)
        if job is None:
            raise JobNotFound(id)
        return job

    async def list(
        self,
        *,
        state: JobState | str | Sequence[JobState | str] | None = None,
        queue: str | None = None,
        task: str | None = None,
        origin: str | None = None,
        after: UUID | None = None,
        limit: int = 50,
    ) -> list[Job]:
        """A page of jobs, newest first; `after` is the last id of the page before. Raises InvalidOption."""
        if not 1 <= limit <= _PAGE_LIMIT:
            raise InvalidOption("limit", f"must be from 1 to {_PAGE_LIMIT}")
        return await list_jobs(
            await self._database(),
            states=None if state is None else _states(state),
            queue=queue,
            task=task,
            origin=origin,
            before=after,
            limit=limit,
        )

    async def counts(self) -> Counts:
        """How many jobs there are, by queue and state."""
        return await count_jobs(await self._database())


def _states(given: JobState | str | Sequence[JobState | str]) -> Sequence[JobState]:
    try:
        return [JobState(state) for state in ([given] if isinstance(given, str) else given)]
    except ValueError:
        raise InvalidOption("state", f"must be one of {', '.join(JobState)}") from None
