"""Log events: dotted names with facts as fields, never prose, never a payload.

| event | level | fields |
|---|---|---|
| worker.serving | info | app, database, schema, migration, tasks, processes, drain_timeout: instead of the banner |
| worker.started | info | worker, queues, concurrency, listening |
| worker.shares_queues | warning | worker, queues, apps: which serve them too; a schema each is better |
| worker.draining | info | worker, running, limit |
| worker.stopped | info | worker, clean |
| worker.failed | critical | worker, error: a part of it raised what it should not |
| worker.hung | critical | worker, seconds: its loop was blocked for ten leases; it renews no claim until it moves |
| worker.starved | warning | worker, slots, tasks, awaited: every slot has a job that waits for others in vain |
| queue.unserved | warning | queue, waits: ready jobs have waited for so many seconds, and no living worker serves it |
| worker.slot_lost | critical | worker, error |
| job.completed | debug, info | job_id, task, queue, attempt, seconds: `log_completed` says at which level |
| job.retried | warning | job_id, task, queue, attempt, seconds, error, delay, message?, exception? |
| job.snoozed | info | job_id, task, queue, attempt |
| job.suspended | info | job_id, task, queue, attempt: it sleeps, or waits for a signal |
| job.cancelled | info | job_id, task, queue, attempt |
| job.dead | error | job_id, task, queue, attempt, reason, error, seconds?, message?, exception? |
| job.locked | warning | job_id, task, queue, attempt, outcome: another transaction has its row; written after that |
| job.released | info | job_id, task, queue, attempt |
| job.lined_up | debug | job_id, task, queue, attempt: it came past its limits, or too late for its token |
| limit.lagging | warning | seconds: a gate has wanted a look for so long |
| job.put_aside | warning | job_id, task, queue, attempt, reason, detail, jobs: of its task, in the last second |
| job.lost | warning | job_id, task, queue, attempt, gone: its claim is over or not renewed; the run is cancelled |
| job.failed_after_completion | warning | job_id, task, queue, attempt: its handler had completed it, then raised |
| job.policy_failed | error | job_id, task, error: of its retry policy; the default policy decides |
| job.stuck | warning | job_id, task, queue, attempt, why, stack: it was asked to end 5 s ago and goes on |
| job.rescued | warning | job_id, task, queue, attempt, crashed, of_worker: taken back; that worker lost its claim |
| job.rescue_failed | error | job_id, error: the database refuses to store it; the others are rescued |
| job.refused | warning | job_id, task, queue, attempt, outcome: the claim was lost, nothing was written |
| job.outcome_unsaved | error | job_id, task, outcome: the lease will run out, another worker takes over |
| job.outlived_stop | error | job_id, task: its handler or thread still runs after the limit |
| hook.failed | error | job_id, task, attempt, hook, error: an `on_error` function raised; the outcome stands |
| database.unreachable | warning | doing, error, retry_in (at most one line a second for each activity) |
| loop.failed | error | doing, error, retry_in: the database works, but refuses what this part of the worker wants |
| database.back | info | doing |
| loop.blocked | warning | seconds, job_id, task, stack: a task keeps the event loop from turning (at 1, 2, 4, ... s) |
| web.action | info | action, who: somebody changed something in the dashboard; the audit has the rest |
| sse.refused | warning | error: the database could not be reached for a stream of events |
| listener.failed | error | listener, event_type, job_id, error: a function of `app.on` raised |
| listener.lost_events | error | listener: it was told of nothing for longer than the log keeps events; it goes on |
| listener.lost | warning | error, retry_in |
| listener.deaf | error | channel, pooler: nothing said is heard there, as if it were `transaction`. Polling goes on |
| pooler.shared | error | pooler: sessions are not kept apart there; set `transaction`. Nothing is set for them |
| pooler.unlimited | warning | remedy: SQL; a statement whose client vanishes may keep its locks. Once an app |
| listener.ready | info | channel |
| archive.extended | info | partitions |
| archive.dropped | info | partitions: whole days of the archive, too old to be kept |
| archive.pruned | info | jobs: deleted from the archive one by one, by the age that their queue says |
| bundle.left | warning | bundle, error: its block failed, and it could not be cancelled: `bundles cancel` |
| bundle.refused | error | bundle, error, retry_in: the database refuses what its end would store, a callback perhaps |
| dependency.refused | error | dependency, error, retry_in: what comes after this job cannot begin, nor be ended |
| dependency.key_taken | warning | job_id: it cannot come back with the job that it needs: another has its unique key |
| dependencies.resolved | info | doomed, revived: jobs cancelled for want of one that failed; others that wait again |
| dependencies.healed | warning | ended, released: jobs that others wait for were gone, or their dependencies were |
| bundles.healed | warning | bundles: their last members are gone, deleted past us; they count as cancelled |
| limit.declared | info | limit, app: a worker's code says something new of it |
| limit.changed | info | limit, concurrency, rate, by_hand: it is so from now on; false: as declared again |
| schema.migrated | info | schema, migration |
| schema.waits | warning | schema, migration, holders: who uses a table that the migration needs; it is tried again |
| webhook.disabled | warning | webhook, host, reason: it is told of nothing any more; `webhooks resume` |
| webhook.lost_events | error | webhook: retention was quicker than its receiver, or its pause too long; it goes on |
| webhook.stuck | error | webhook, error: its row, or what the log has for it, cannot be read; tried again |
| bulk.failed | error | bulk, error: a page of it fails again and again, or what its row says cannot be done |
| bulk.finished | info | bulk, action, matched, changed |
| schedule.declared | info | schedule: the code of this worker has put it, or changed it |
| schedule.fired | debug | schedule, planned, job_id |
| schedule.missed | warning | schedule, reason, count, first, last: planned times were left out (`missed`, `overlap`) |
| schedule.held_up | warning | schedule, error, retry_in: an open transaction has the unique key of its job |
| schedule.broken | error | schedule, error: what its row or its code says cannot be a job; `schedules resume` |
| schedule.name_taken | error | schedule: one that was stored has the name that the code declares |
| schedule.forgotten | info | schedule: no worker has declared it for a week |
| http.listening | info | url: of the pages of `worker --http`, or of `web` |
| dashboard.authorize_failed | error | error: what `authorize` raised; TypeError if it gave something else |
| dashboard.database_away | warning | error: the database could not be asked for a page; once in 10 s |
| dashboard.failed | error | error, place: file and line; a page could not be made |

Parts that know their worker say it in each line. `outcome` is one of the words of the metric `tasks_processed_total`.
`seconds` is how long the handler ran. `error` is the class of an exception; its message, and its traceback, which ends
with that, are stored with the job. They may quote a payload: they are logged (`message`, `exception`) if `log_failures`
says so, and by default only where the command line writes to a terminal.
"""

import logging
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from functools import cache
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from structlog.types import FilteringBoundLogger


class Log:
    """A logger for the library's own events. Light: structlog (which loads rich) is imported at the first event."""

    __slots__ = ("_bound", "_name")

    def __init__(self, name: str, **bound: object) -> None:
        self._name = name
        self._bound = bound

    def bind(self, **facts: object) -> "Log":
        """The same logger with these facts in every event."""
        return Log(self._name, **{**self._bound, **facts})

    def says(self, level: str) -> bool:
        """False if events of this level would go nowhere."""
        logger = structlog_logger(self._name)
        enabled = getattr(logger, "is_enabled_for", None) or getattr(logger, "isEnabledFor", None)
        return enabled is None or bool(enabled(logging.getLevelNamesMapping()[level.upper()]))

    def debug(self, event: str, **facts: Any) -> None:
        """Log for those who look closely."""
        structlog_logger(self._name).debug(event, **self._bound, **facts)

    def info(self, event: str, **facts: Any) -> None:
        """Log what happens in good order."""
        structlog_logger(self._name).info(event, **self._bound, **facts)

    def warning(self, event: str, **facts: Any) -> None:
        """Log what the library deals with by itself."""
        structlog_logger(self._name).warning(event, **self._bound, **facts)

    def error(self, event: str, **facts: Any) -> None:
        """Log what somebody should look at."""
        structlog_logger(self._name).error(event, **self._bound, **facts)

    def critical(self, event: str, **facts: Any) -> None:
        """Log what ends a worker."""
        structlog_logger(self._name).critical(event, **self._bound, **facts)


_watched = False


def let_it_be_watched() -> None:
    """Somebody sits before the log of this process: by default it says more, of failures and of what went well."""
    global _watched
    _watched = True


def is_watched() -> bool:
    """Whether somebody sits before the log."""
    return _watched


def get_logger(name: str) -> Log:
    """The logger of a module or service."""
    return Log(name)


def structlog_logger(name: str) -> "FilteringBoundLogger":
    """A structlog logger that follows the user's structlog once it is configured, and stands on `logging` until then.

    The library configures neither: an embedding process keeps its own settings.
    """
    import structlog

    if structlog.is_configured():
        return cast("FilteringBoundLogger", structlog.get_logger(name))
    return _on_logging(name)


@cache
def _on_logging(name: str) -> "FilteringBoundLogger":
    import structlog

    wrapped = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    return cast("FilteringBoundLogger", wrapped)


def job_facts(claim: Any) -> dict[str, object]:
    """What every line about a job says of it, from its row."""
    return {"job_id": str(claim["id"]), "task": claim["task"], "queue": claim["queue"], "attempt": claim["attempt"]}


def bind_log(**facts: object) -> None:
    """Bind facts to every structlog line of the current task."""
    _binder()(**facts)


def bind_job_id(id: str) -> None:
    """Bind a job's id: the one fact that each job binds anew, in half the time that `bind_log` takes."""
    _job_id().set(id)


@cache
def _job_id() -> "ContextVar[str]":
    # in a copy: the caller would keep an empty id
    variable: ContextVar[str] = copy_context().run(_binder(), job_id="")["job_id"].var
    return variable


@cache
def _binder() -> Callable[..., Any]:
    from structlog.contextvars import bind_contextvars

    return bind_contextvars
