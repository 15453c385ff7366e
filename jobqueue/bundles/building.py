"""`async with app.bundle(...) as b:` gathers jobs, and stores them at the end of the block."""

from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, TypeVar
from uuid import UUID

import anyio
from uuid_utils.compat import uuid7

from jobqueue.base.errors import ConfigurationError, InvalidOption, JobQueueError
from jobqueue.base.flows.bundle import Bundle, Callback, NewBundle, When
from jobqueue.base.job import NewJob, Sent
from jobqueue.base.log import get_logger
from jobqueue.base.names import check_name
from jobqueue.bundles.storing import IgnoredBundle, KnownBundle, Part, Stores
from jobqueue.tasks.after import After, AfterWhen, coming_after
from jobqueue.tasks.handle import JobHandle
from jobqueue.tasks.options import check_id
from jobqueue.tasks.sending.sender import Sender

R = TypeVar("R")
Empty: TypeAlias = Literal["raise", "finish"]
_UNDO_LIMIT = 5.0

log = get_logger(__name__)


class BundleBuilder:
    """A bundle in the making. `id` is known from the beginning; `duplicate` once it is stored: it was there already.

    `ignored` once it was dropped with its jobs: `App.null()`, or `app.testing("ignore")`.
    """

    def __init__(
        self, new: NewBundle, storing: Stores, sender: Sender, connection: object | None, empty: Empty,
        cancel: Callable[[UUID], Awaitable[object]],
    ) -> None:  # fmt: skip
        self.duplicate = self.ignored = False
        self._new = new
        self._storing = storing
        self._sender = sender
        self._connection = connection
        self._empty = empty
        self._cancel = cancel
        self._waiting: list[tuple[NewJob[Any], JobHandle[Any]]] = []
        self._stored = False
        self._members = 0
        self._entered = self._over = False

    @property
    def id(self) -> UUID:
        """The bundle's id."""
        return self._new.id

    @property
    def name(self) -> str:
        """The bundle's name."""
        return self._new.name

    def add(self, job: NewJob[R], *, after: After = (), when: AfterWhen = "completed") -> JobHandle[R]:
        """Take in a job, made by `task.job(...)`; it is stored with the others. Sends nothing yet.

        `after` names jobs that it waits for: handles of those added before, or ids of stored ones, of whatever bundle;
        `ctx.results(task)` gives what they came to. If one of them is dead, cancelled or deleted, it is cancelled too
        (reason `dependency`), and waits again once that one is retried; `when="ended"` runs it whatever became of them.
        Its delay, budget and `expires` count from the moment at which it may begin.

        One whose unique key another job holds is no member: its handle says `duplicate` once that is known.
        Raises InvalidOption. The end of the block raises JobNotFound if `after` names a job that was never stored.
        """
        if not self._entered or self._over:
            raise ConfigurationError(
                "bundle: add inside `async with app.bundle(...) as b:`; later, jobs add by ctx.bundle"
            )
        given: object = job
        if not isinstance(given, NewJob):
            raise InvalidOption("job", f"must be a job, as task.job(...) makes it, not {type(given).__name__}")
        handle = JobHandle.of(job, Sent(job.id), self._sender)
        self._waiting.append((coming_after(job, after, when), handle))
        return handle

    def add_many(
        self, jobs: Iterable[NewJob[R]], *, after: After = (), when: AfterWhen = "completed"
    ) -> list[JobHandle[R]]:
        """Take in many, each after the same ones."""
        return [self.add(job, after=after, when=when) for job in jobs]

    async def flush(self) -> None:
        """Store what was added so far; its jobs may begin, and the bundle stays open. For more than memory should hold.

        Raises what the end of the block raises.
        """
        if not self._entered or self._over:
            raise ConfigurationError("bundle: flush inside `async with app.bundle(...) as b:`")
        await self._store(last=False)

    async def __aenter__(self) -> Self:
        if self._entered:
            raise ConfigurationError("bundle: app.bundle(...) is entered once; call it again for another bundle")
        self._entered = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Store the rest and close the bundle. If the block raised, store nothing, or cancel what was flushed."""
        try:
            if error is None:
                await self._store(last=True)
        except BaseException:
            await self._undo()
            raise
        finally:
            self._over = True
        if error is not None:
            await self._undo()

    async def _store(self, *, last: bool) -> None:
        if last and not self._members and not self._waiting and self._empty == "raise" and not self.duplicate:
            raise InvalidOption("bundle", 'has no jobs; empty="finish" ends such a bundle at once')
        if self.duplicate or not (self._waiting or last):
            return
        part = Part(self._new, [job for job, _ in self._waiting], first=not self._stored, last=last)
        try:
            answers = await self._storing.store(part, self._connection)
        except KnownBundle:
            self.duplicate = True
            return
        except IgnoredBundle:
            self.ignored = True
            answers = [Sent(job.id, ignored=True) for job, _ in self._waiting]
        for (_, handle), sent in zip(self._waiting, answers, strict=True):
            handle.id, handle.duplicate, handle.conflict = sent.id, sent.duplicate, sent.conflict
            handle.ignored = sent.ignored
        self._stored, self._members = True, self._members + len(self._waiting)
        self._waiting = []

    async def _undo(self) -> None:
        if not self._stored or self._connection is not None:  # a caller's transaction is the caller's to roll back
            return
        with anyio.move_on_after(_UNDO_LIMIT, shield=True):
            try:
                await self._cancel(self.id)
            except JobQueueError as error:  # what ended the block, perhaps a cancellation, is what the caller hears
                log.warning("bundle.left", bundle=str(self.id), error=type(error).__name__)


def new_bundle(
    name: str,
    on_success: NewJob[Any] | None,
    on_failure: NewJob[Any] | None,
    on_finish: NewJob[Any] | None,
    parent: "BundleBuilder | Bundle | UUID | str | None",
    id: UUID | str | None,
    origin: str | None,
) -> NewBundle:
    """What `app.bundle(...)` says, checked. Raises InvalidOption."""
    given: dict[When, NewJob[Any] | None] = {"success": on_success, "failure": on_failure, "finish": on_finish}
    callbacks = tuple(Callback(when, _callback(when, job)) for when, job in given.items() if job is not None)
    if isinstance(parent, BundleBuilder | Bundle):
        parent = parent.id
    return NewBundle(
        uuid7() if id is None else check_id(id),
        check_name("name", name),
        origin,
        None if parent is None else check_id(parent, "parent"),
        callbacks,
    )


def _callback(when: When, job: NewJob[Any]) -> NewJob[Any]:
    given: object = job
    if not isinstance(given, NewJob):
        raise InvalidOption(f"on_{when}", f"must be a job, as task.job(...) makes it, not {type(given).__name__}")
    if job.key is not None or job.resent:
        raise InvalidOption(
            f"on_{when}", "must have neither unique= nor id=: each round of the bundle stores a new job"
        )
    return job
