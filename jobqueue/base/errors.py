"""Every error that jobqueue raises.

JobQueueError
├── ConfigurationError (ValueError)   a setting, an argument or an extra is wrong or missing
├── InvalidOption (ValueError)        an option of a task or a defer is out of its limits
├── InvalidSignature (TypeError)      a function cannot be a task as it is written
├── InvalidPayload (ValueError)       arguments that cannot be stored or do not fit the task
├── DuplicateTask                     two functions with one task name
├── DuplicateJob                      another job holds the unique key, and the defer said `raise`
├── KeyLocked (TimeoutError)          an open transaction has the unique key, and does not end
├── LimitConflict (ValueError)        one name of a limit, two declarations in one app
├── UnknownLimit                      no worker has declared a limit of this name
├── RouterNotIncluded                 a router's task is used before an app includes the router
├── AppClosed                         the app was closed
├── DatabaseError                     the database is away, or refuses us; an OSError too
├── NotMigrated                       the database lacks the schema, or part of it
├── SchemaTooNew                      the database is ahead of this version of jobqueue
├── DeferUnknown                      the network was cut in mid-defer: sending again with the id is safe
├── QueueLocked (TimeoutError)        an open transaction has the row of a queue, and does not end
├── BundleNotFound                    no such bundle, or it was deleted
├── BundleEnded                       something is added from outside to a bundle that has ended
├── DuplicatePhase                    two phases of one run with one name
├── TooManySignals                    the job has as many unread signals as it may have
├── EventsLost                        the log begins later than where the reader wants to go on
├── BulkNotFound                      no such bulk action, or it ended too long ago
├── WebhookNotFound                   no such webhook, or it was deleted
├── ScheduleNotFound                  no such schedule, or it was deleted
├── JobNotFound                       no such job, or retention has removed it
├── JobFailed                         the job is dead; carries class, message and data of its last error
├── ResultTimeout (TimeoutError)      the job has not ended within the time that `result` was given
├── JobCancelled                      the job was cancelled
└── ClaimLost                         another worker holds this job now

Facts go in, the class builds the words. No text carries a payload or a password.
"""

from collections.abc import Callable
from uuid import UUID

from jobqueue.base.job import JobState, JsonValue


class Portable(Exception):
    """Pickled by its text and facts: its class, which makes the text from the facts, cannot be called with it again."""

    def __reduce__(self) -> tuple[Callable[..., Exception], tuple[object, ...]]:
        return _again, (type(self), self.args, self.__dict__)


def _again(kind: type[Exception], args: tuple[object, ...], facts: dict[str, object]) -> Exception:
    error = kind.__new__(kind, *args)
    error.args = args  # those of an OSError are not set yet
    error.__dict__.update(facts)
    return error


class JobQueueError(Portable):
    """Base of all errors raised by jobqueue."""


class ConfigurationError(JobQueueError, ValueError):
    """Raised when a setting, an argument or an extra is wrong or missing; the text names it."""


class InvalidOption(JobQueueError, ValueError):
    """Raised when an option such as `queue` or `delay` is out of its limits."""

    def __init__(self, option: str, rule: str) -> None:
        super().__init__(f"{option}: {rule}")
        self.option = option


class InvalidSignature(JobQueueError, TypeError):
    """Raised at decoration when a function cannot be a task; the text names function and parameter."""

    def __init__(self, function: str, fault: str) -> None:
        super().__init__(f"{function} cannot be a task: {fault}")
        self.function = function


class InvalidPayload(JobQueueError, ValueError):
    """Raised when arguments or a result cannot be stored, or do not fit the task's signature.

    `path` says where (`mail.to[0]`), `kind` what is wrong in one word. The value itself is never quoted.
    """

    def __init__(self, what: str, path: str, kind: str, rule: str) -> None:
        super().__init__(f"{what}: {path}: {rule}" if path else f"{what}: {rule}")
        self.path = path
        self.kind = kind
        self.rule = rule


class DuplicateTask(JobQueueError):
    """Raised when a second function claims the name of a registered task."""

    def __init__(self, name: str, first: str, second: str) -> None:
        super().__init__(f"task name {name!r} is taken by {first}; give {second} another one with name=...")
        self.name = name


class DuplicateJob(JobQueueError):
    """Raised by a defer with `Unique(on_conflict="raise")` whose key another job holds: nothing of the call is stored.

    `id` is the job that holds the key; of two with one key in one call the first, which is not stored either.
    """

    def __init__(self, id: UUID, task: str, *, in_one_call: bool = False) -> None:
        held = f"is held by job {id}, and nothing was stored; go on with that one"
        twice = "is that of another job of this very call, and nothing was stored; leave one of them out"
        super().__init__(
            f"the unique key of this {task!r} job {twice if in_one_call else held}, "
            'or say Unique(on_conflict=...): "skip", "replace", "move" or "replace+move"'
        )
        self.id = id
        self.task = task


class KeyLocked(JobQueueError, TimeoutError):
    """Raised by a defer when an open transaction has its unique key, or the job that holds it: nothing was stored.

    Whether the key is taken is known when that transaction ends; it is waited for, 3 s, by one call of a process for
    all that want the key then. `by` says whose it may be.
    """

    def __init__(self, task: str, by: str) -> None:
        super().__init__(
            f"the unique key of a {task!r} job is locked by an open transaction: {by}; nothing was stored, try again"
        )
        self.task = task
        self.by = by


class LimitConflict(JobQueueError, ValueError):
    """Raised when a limit's name is declared twice in one app, in two ways: shared are limits that are the same."""

    def __init__(self, name: str, first: str, second: str) -> None:
        super().__init__(
            f"limit {name!r} of {first} and that of {second} differ; use one Limit for both, or give one another name"
        )
        self.name = name


class UnknownLimit(JobQueueError):
    """Raised by `app.limits` for a name that no worker has declared since it was last forgotten."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"no limit {name!r}: a worker declares those of its app when it starts; "
            "app.limits.list() has those there are"
        )
        self.name = name


class RouterNotIncluded(JobQueueError):
    """Raised when a router's task is deferred before any app includes its router."""

    def __init__(self, task: str) -> None:
        super().__init__(f"task {task!r} belongs to a Router that no App includes; call app.include(router) first")
        self.task = task


class AppClosed(JobQueueError):
    """Raised by every call on an app after `close()`, until it is opened again."""

    def __init__(self) -> None:
        super().__init__("this App is closed; close it later, or open it again: await app.open(), or async with app")


class DatabaseError(JobQueueError, OSError):
    """Raised when the database cannot be reached, refuses us, or does not answer in time: try again, or see to it.

    The driver's own error is the `__cause__`; `sqlstate` is PostgreSQL's code, None if there was no answer. A write has
    not happened; where that is not known there is DeferUnknown. On your own connection your driver's errors stay.
    """

    def __init__(self, reason: str, sqlstate: str | None = None) -> None:
        super().__init__(f"the database cannot be used: {reason}")
        self.reason = reason
        self.sqlstate = sqlstate


class NotMigrated(JobQueueError):
    """Raised when the database lacks jobqueue's schema, or some of its migrations."""

    def __init__(self, schema: str, missing: int) -> None:
        super().__init__(
            f"schema {schema!r} lacks {missing} migration(s); run `python -m jobqueue migrate up shop:app` "
            "(with your own module), or `await app.migrate()`"
        )
        self.schema = schema
        self.missing = missing


class SchemaTooNew(JobQueueError):
    """Raised when the database has breaking migrations that this version of jobqueue does not know."""

    def __init__(self, schema: str, unknown: str) -> None:
        super().__init__(
            f"schema {schema!r} has migration {unknown}, which this version of jobqueue does not know; upgrade jobqueue"
        )
        self.schema = schema


class DeferUnknown(JobQueueError):
    """Raised when the connection was cut while a job was being stored: it may or may not be in.

    Sending it again with `options(id=error.id)` is safe as long as the archive keeps the job.
    """

    def __init__(self, id: UUID) -> None:
        super().__init__(f"it is unknown whether job {id} was stored; defer it again with options(id=...) to be sure")
        self.id = id


class QueueLocked(JobQueueError, TimeoutError):
    """Raised by `queues.pause`, `resume` and `keep` when an open transaction has had the queue's row for a second.

    Nothing was changed. `by` says whose it is.
    """

    def __init__(self, queue: str, by: str) -> None:
        super().__init__(f"queue {queue!r} is locked by an open transaction: {by}; nothing was changed, try again")
        self.queue = queue
        self.by = by


class JobNotFound(JobQueueError):
    """Raised when no job has this id: it never existed, was deleted, or retention has removed it.

    Or it was deferred in a transaction that is still open: until that commits only it can see the job.
    """

    def __init__(self, id: UUID) -> None:
        super().__init__(
            f"no job {id}: it never existed, retention has removed it, or the transaction that defers it is still open "
            "(inside that, look with connection=...)"
        )
        self.id = id


class BundleNotFound(JobQueueError):
    """Raised when no bundle has this id: it never existed, was deleted, or retention has removed it."""

    def __init__(self, id: UUID) -> None:
        super().__init__(
            f"no bundle {id}: it never existed, was deleted, retention has removed it, or the transaction that stores "
            "it is still open"
        )
        self.id = id


class BundleEnded(JobQueueError):
    """Raised when something is added to a bundle that has ended, is cancelled, or gone: only its own jobs still may."""

    def __init__(self, id: UUID) -> None:
        super().__init__(
            f"bundle {id} has ended, is cancelled, or gone: nothing is stored; make another bundle, or add from a job "
            "of this one (ctx.bundle)"
        )
        self.id = id


class EventsLost(JobQueueError):
    """Raised when the log begins later than where a reader wants to go on: retention has dropped what lies between.

    Also when it has never been as far: it is that of another database, or of one that was restored.

    `app.events(after=error.oldest)` goes on with all that there is.
    """

    def __init__(self, oldest: str) -> None:
        super().__init__(
            f"events were dropped by retention before they were read, or the database is not the one of before;"
            f" what is left comes after={oldest!r}"
        )
        self.oldest = oldest


class BulkNotFound(JobQueueError):
    """Raised when no bulk action has this id: it never existed, or it ended longer ago than `keep_audit`."""

    def __init__(self, id: UUID) -> None:
        super().__init__(
            f"no bulk action {id}: it never existed, or ended too long ago; app.bulks.list() has the others"
        )
        self.id = id


class WebhookNotFound(JobQueueError):
    """Raised when no webhook has this id."""

    def __init__(self, id: UUID) -> None:
        super().__init__(f"no webhook {id}: it never existed, or was deleted; app.webhooks.list() has those there are")
        self.id = id


class ScheduleNotFound(JobQueueError):
    """Raised when no schedule has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"no schedule {name!r}: it was never put, was deleted, or no worker has declared it for a week;"
            " app.schedules.list() has those there are"
        )
        self.name = name


class JobFailed(JobQueueError):
    """Raised by `handle.result()` for a dead job, with what its last attempt raised."""

    def __init__(self, id: UUID, reason: str, error_class: str, message: str, data: JsonValue = None) -> None:
        detail = f": {error_class}: {message}" if error_class else ""
        super().__init__(f"job {id} is dead ({reason}){detail}")
        self.id = id
        self.reason = reason
        self.error_class = error_class
        self.message = message
        self.data = data


class ResultTimeout(JobQueueError, TimeoutError):
    """Raised by `handle.result(timeout=...)` when the job has not ended by then: it goes on all the same.

    `state` is where it was, None if the database did not say any more.
    """

    def __init__(self, id: UUID, task: str, timeout: float, state: JobState | None, why: str) -> None:
        super().__init__(f"job {id} ({task}) has not ended within {timeout:g} s: {why}")
        self.id = id
        self.task = task
        self.timeout = timeout
        self.state = state


class JobCancelled(JobQueueError):
    """Raised by `handle.result()` for a cancelled job."""

    def __init__(self, id: UUID, reason: str | None) -> None:
        super().__init__(f"job {id} was cancelled" + (f": {reason}" if reason else ""))
        self.id = id
        self.reason = reason


class DuplicatePhase(JobQueueError):
    """Raised when a run of a job comes to a name of a phase for the second time."""

    def __init__(self, name: str) -> None:
        super().__init__(f"phase {name!r}: this run has one of that name already; in a loop number them: f'page {{n}}'")
        self.name = name


class TooManySignals(JobQueueError):
    """Raised when a job has so many signals that it has not read that it takes no more."""

    def __init__(self, id: UUID) -> None:
        super().__init__(f"job {id} has 1,000 signals that it has not read; nothing was sent")
        self.id = id


class ClaimLost(JobQueueError):
    """Raised when a worker tries to write for a job that is not its own any more."""

    def __init__(self, id: UUID) -> None:
        super().__init__(f"the claim on job {id} was lost; nothing was written")
        self.id = id
