"""A job that was deferred, as its caller holds it."""

from collections.abc import Callable
from pickle import PicklingError
from typing import Any, Generic, NoReturn, TypeVar, cast
from uuid import UUID

from jobqueue.base.codec import loads
from jobqueue.base.errors import JobCancelled, JobFailed
from jobqueue.base.job import Conflict, JobState, NewJob, Sent
from jobqueue.base.moments import Seconds, check_delay
from jobqueue.base.steering import Change
from jobqueue.tasks.sending.sender import Sender

R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")


class JobHandle(Generic[R_co]):
    """`id` to find the job again, `task` its name, `duplicate` if an earlier job held its id or unique key.

    A duplicate's handle is that of the earlier job. If that one holds the unique key, `conflict` says what became of it
    by `Unique(on_conflict=...)`: `skipped`, `replaced`, `moved` or `replaced+moved`. `ignored`: the job was dropped, as
    `App.null()` and `app.testing("ignore")` do. Handles of one job are equal.
    """

    __slots__ = ("_decode", "_sender", "conflict", "duplicate", "id", "ignored", "task")

    def __init__(
        self,
        id: UUID,
        task: str,
        sender: Sender,
        decode: Callable[[str], R_co],
        *,
        duplicate: bool = False,
        conflict: Conflict | None = None,
        ignored: bool = False,
    ) -> None:
        self.id = id
        self.task = task
        self.duplicate = duplicate
        self.conflict = conflict
        self.ignored = ignored
        self._sender = sender
        self._decode = decode

    @staticmethod
    def of(job: NewJob[R], sent: Sent, sender: Sender) -> "JobHandle[R]":
        """The handle of a job that has just been sent."""
        decode = job.decode_result or cast(Callable[[str], R], loads)
        return JobHandle(
            sent.id, job.task, sender, decode,
            duplicate=sent.duplicate, conflict=sent.conflict, ignored=sent.ignored,
        )  # fmt: skip

    async def status(self) -> JobState:
        """Where the job is now. Raises JobNotFound."""
        return (await self._sender.find(self.id)).state

    async def cancel(self) -> Change:
        """End the job, from any process: at once if it waits; if it runs, as soon as its worker has heard of it.

        `done`, `asked` (it runs), `too_late` or `not_found`: as `app.jobs.cancel` says of it.
        """
        return await self._sender.cancel(self.id)

    async def signal(self, name: str, payload: Any = None) -> Change:
        """Send a signal to the job, which finds it in `ctx.wait_for(name, ...)`: now, or when it comes to that.

        `payload`: JSON values, a model or a dataclass. `done`, `too_late` once the job has ended, or `not_found`. What
        was sent is kept until the job reads it, at most 1,000 at a time. Raises InvalidOption, InvalidPayload,
        TooManySignals. A call that the network cut off may have been heard or not.
        """
        return await self._sender.signal(self.id, name, payload)

    async def result(self, timeout: Seconds | None = None) -> R_co:
        """Wait for the job's end, at most `timeout`, and return its result, decoded by the return annotation.

        `timeout`: seconds or a timedelta; 0 only looks whether it has ended. Raises JobFailed if it is dead,
        JobCancelled, JobNotFound, ResultTimeout and InvalidPayload if the stored result does not fit the annotation
        (any more). Cancelling the wait leaves the job alone.
        """
        job = await self._sender.wait_final(self.id, None if timeout is None else check_delay("timeout", timeout))
        if job.state is JobState.CANCELLED:
            raise JobCancelled(self.id, job.reason)
        if job.state is JobState.DEAD:
            error = job.error
            if error is None:
                raise JobFailed(self.id, job.reason or "", "", "")
            raise JobFailed(self.id, job.reason or "", error.error_class, error.message, error.data)
        return self._decode(job.result_json or "null")

    def __reduce__(self) -> NoReturn:
        raise PicklingError("a JobHandle leads to its App: send handle.id, and make another one with task.handle(id)")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JobHandle) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        said = "".join(f" {word}" for word in ("duplicate", "ignored") if getattr(self, word))
        return f"<JobHandle {self.task} {self.id}{said}>"
