"""A sender that keeps what it is given: tasks are tested by the new jobs they make."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from jobqueue.base.errors import JobNotFound
from jobqueue.base.job import AttemptError, Job, JobState, NewJob, Sent
from jobqueue.base.new_jobs import NewJobs
from jobqueue.base.settings import Settings
from jobqueue.base.steering import Change
from jobqueue.tasks.registry import Registry
from jobqueue.tasks.router import TaskHome


@dataclass
class Recorder:
    """Records new jobs and answers with the ends that a test gave it."""

    name: str = "shop"
    settings: Settings = field(default_factory=Settings)
    registry: Registry = field(default_factory=Registry)
    is_open: bool = True
    sent: list[NewJob[Any]] = field(default_factory=list)
    connections: list[object | None] = field(default_factory=list)
    ended: dict[UUID, Job] = field(default_factory=dict)
    holder: UUID | None = None
    """The job that holds every id and key, if a test says so."""

    @property
    def origin(self) -> str:
        return self.name

    @property
    def sender(self) -> "Recorder":
        return self

    async def send(self, job: NewJob[Any], connection: object | None) -> Sent:
        return self.send_many_sync([job], connection)[0]

    async def send_many(self, jobs: NewJobs, connection: object | None) -> list[Sent]:
        return self.send_many_sync(jobs.all(), connection)

    def send_many_sync(self, jobs: Sequence[NewJob[Any]], connection: object | None) -> list[Sent]:
        self.sent += jobs
        self.connections += [connection] * len(jobs)
        return [Sent(job.id) if self.holder is None else Sent(self.holder, duplicate=True) for job in jobs]

    async def find(self, id: UUID) -> Job:
        if id not in self.ended:
            raise JobNotFound(id)
        return self.ended[id]

    async def cancel(self, id: UUID) -> Change:
        raise AssertionError("nobody cancels here")

    async def signal(self, id: UUID, name: str, payload: Any) -> Change:
        raise AssertionError("nobody cancels here")

    async def wait_final(self, id: UUID, timeout: float | None) -> Job:
        return await self.find(id)

    def end(
        self,
        id: UUID,
        state: JobState = JobState.COMPLETED,
        result: str | None = None,
        reason: str | None = None,
        errors: tuple[AttemptError, ...] = (),
    ) -> None:
        """Let a job have ended."""
        self.ended[id] = ended_job(id, state, result, reason, errors)


def ended_job(
    id: UUID, state: JobState, result: str | None, reason: str | None, errors: tuple[AttemptError, ...]
) -> Job:
    now = datetime.now(UTC)
    return Job(
        id=id,
        task="t",
        queue="q",
        state=state,
        priority=0,
        attempt=1,
        max_attempts=20,
        crashes=0,
        lost=0,
        due_at=now,
        created_at=now,
        result_json=result,
        reason=reason,
        errors=errors,
    )


def open_home(recorder: Recorder, prefix: str = "", queue: str | None = None) -> TaskHome:
    """A place for tasks that send to the recorder, as an app's would to its database."""
    home = TaskHome(prefix, queue)
    home.link.sender = recorder
    return home
