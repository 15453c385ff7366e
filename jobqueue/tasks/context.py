"""What task code sees of its job: `JobContext`, and `current_job()` to find it in deep code."""

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar, final

from jobqueue.base.errors import ConfigurationError
from jobqueue.base.job import Job
from jobqueue.base.log import structlog_logger

if TYPE_CHECKING:
    from structlog.types import FilteringBoundLogger

T = TypeVar("T")


@final
class JobContext:
    """Given to a task whose first parameter is annotated `JobContext`. Safe to use from the task's thread as well."""

    __slots__ = ("_job", "_make_job", "_resources", "_stopped", "attempt")

    def __init__(
        self,
        make_job: Callable[[], Job],
        attempt: int,
        stopped: Callable[[], bool],
        resources: Mapping[type, Any],
    ) -> None:
        self._make_job = make_job
        self._job: Job | None = None
        self._stopped = stopped
        self._resources = resources
        self.attempt = attempt
        """The number of this run, 1 for the first. Interrupted and snoozed runs are not counted."""

    @property
    def job(self) -> Job:
        """The job as it was claimed."""
        if self._job is None:
            self._job = self._make_job()
        return self._job

    @property
    def idempotency_key(self) -> str:
        """The same for all attempts of this job, different for every other job: hand it to services you call."""
        return str(self.job.id)

    @property
    def log(self) -> "FilteringBoundLogger":
        """A structlog logger with the job's id, task, attempt and queue bound."""
        job = self.job
        logger = structlog_logger(f"jobqueue.task.{job.task}")
        return logger.bind(job_id=str(job.id), task=job.task, attempt=self.attempt, queue=job.queue)

    @property
    def cancelled(self) -> bool:
        """True once this run was asked to end: timeout, drain, cancel request or lost claim. For threads and loops."""
        return self._stopped()

    def raise_if_cancelled(self) -> None:
        """Raise InterruptedError if this run was asked to end: the polite way out of a thread."""
        if self._stopped():
            raise InterruptedError("this run was asked to end")

    def get(self, kind: type[T]) -> T:
        """The resource of this type that the app's lifespan provided. Raises ConfigurationError if there is none."""
        try:
            found: T = self._resources[kind]
        except KeyError:
            raise ConfigurationError(f"the app's lifespan provides no {kind.__name__}; yield one from it") from None
        return found


CURRENT: ContextVar[JobContext] = ContextVar("jobqueue_current_job")


def current_job() -> JobContext:
    """The context of the job that runs here, for code too deep to be handed it. Raises LookupError outside a job."""
    try:
        return CURRENT.get()
    except LookupError:
        raise LookupError("no job runs here: current_job() works inside a task only") from None
