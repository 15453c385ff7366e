"""All that is public in the package root, which loads each name when it is first asked for.

A name stands in three lists, which a test compares: for type checkers, for those who run, and in `__all__`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobqueue.app import App
    from jobqueue.base.acting.audit import AuditEntry, AuditPage, By
    from jobqueue.base.acting.bulk import Bulk, BulkState
    from jobqueue.base.errors import (
        AppClosed,
        BulkNotFound,
        BundleEnded,
        BundleNotFound,
        ClaimLost,
        ConfigurationError,
        DatabaseError,
        DeferUnknown,
        DuplicateJob,
        DuplicatePhase,
        DuplicateTask,
        EventsLost,
        InvalidOption,
        InvalidPayload,
        InvalidSignature,
        JobCancelled,
        JobFailed,
        JobNotFound,
        JobQueueError,
        KeyLocked,
        LimitConflict,
        NotMigrated,
        QueueLocked,
        ResultTimeout,
        RouterNotIncluded,
        ScheduleNotFound,
        SchemaTooNew,
        TooManySignals,
        UnknownLimit,
        WaitTimeout,
        WebhookNotFound,
    )
    from jobqueue.base.flows.bundle import Bundle, BundleCounts
    from jobqueue.base.flows.event import Event
    from jobqueue.base.flows.graph import GraphJob, Unlinked
    from jobqueue.base.flows.limit import Limit, LimitLine, LimitStats, Rate, Rule
    from jobqueue.base.flows.phase import Phase, PhaseState
    from jobqueue.base.flows.schedule import Schedule, Timing
    from jobqueue.base.flows.webhook import Delivery, DeliveryPage, Webhook
    from jobqueue.base.job import AttemptError, Conflict, Job, JobState, NewJob, Sent
    from jobqueue.base.outcome import Cancel, Fatal, Retry, Snooze
    from jobqueue.base.retry import exponential, linear, steps
    from jobqueue.base.settings import Settings
    from jobqueue.base.steering import Change, Changes, Holder
    from jobqueue.base.version import __version__
    from jobqueue.bundles.building import BundleBuilder
    from jobqueue.bundles.graph import BundleGraph
    from jobqueue.cron.schedules import Backfilled
    from jobqueue.events.listening import Listener
    from jobqueue.events.stream import EventStream
    from jobqueue.store.looking.errors import ErrorGroup, ErrorGroups
    from jobqueue.store.looking.listing import JobPage
    from jobqueue.store.looking.overview import Counts, Dependency, Kept, QueueStats, Waits
    from jobqueue.tasks.bounded import bounded_map
    from jobqueue.tasks.context import JobContext, current_job
    from jobqueue.tasks.handle import JobHandle
    from jobqueue.tasks.options import Unique
    from jobqueue.tasks.router import Router
    from jobqueue.tasks.run.hooks import FailedAttempt
    from jobqueue.tasks.task import Task
    from jobqueue.worker.snapshot import Snapshot
    from jobqueue.worker.work import Work

_NAMES = {
    "jobqueue.app": "App",
    "jobqueue.base.acting.audit": "AuditEntry AuditPage By",
    "jobqueue.base.acting.bulk": "Bulk BulkState",
    "jobqueue.base.errors": (
        "AppClosed BulkNotFound BundleEnded BundleNotFound ClaimLost ConfigurationError DatabaseError "
        "DeferUnknown DuplicateJob DuplicatePhase DuplicateTask EventsLost InvalidOption InvalidPayload "
        "InvalidSignature JobCancelled JobFailed JobNotFound JobQueueError KeyLocked LimitConflict "
        "NotMigrated QueueLocked ResultTimeout RouterNotIncluded ScheduleNotFound SchemaTooNew TooManySignals "
        "UnknownLimit WaitTimeout WebhookNotFound"
    ),
    "jobqueue.base.flows.bundle": "Bundle BundleCounts",
    "jobqueue.base.flows.event": "Event",
    "jobqueue.base.flows.graph": "GraphJob Unlinked",
    "jobqueue.base.flows.limit": "Limit LimitLine LimitStats Rate Rule",
    "jobqueue.base.flows.phase": "Phase PhaseState",
    "jobqueue.base.flows.schedule": "Schedule Timing",
    "jobqueue.base.flows.webhook": "Delivery DeliveryPage Webhook",
    "jobqueue.base.job": "AttemptError Conflict Job JobState NewJob Sent",
    "jobqueue.base.outcome": "Cancel Fatal Retry Snooze",
    "jobqueue.base.retry": "exponential linear steps",
    "jobqueue.base.settings": "Settings",
    "jobqueue.base.steering": "Change Changes Holder",
    "jobqueue.base.version": "__version__",
    "jobqueue.bundles.building": "BundleBuilder",
    "jobqueue.bundles.graph": "BundleGraph",
    "jobqueue.cron.schedules": "Backfilled",
    "jobqueue.events.listening": "Listener",
    "jobqueue.events.stream": "EventStream",
    "jobqueue.store.looking.errors": "ErrorGroup ErrorGroups",
    "jobqueue.store.looking.listing": "JobPage",
    "jobqueue.store.looking.overview": "Counts Dependency Kept QueueStats Waits",
    "jobqueue.tasks.bounded": "bounded_map",
    "jobqueue.tasks.context": "JobContext current_job",
    "jobqueue.tasks.handle": "JobHandle",
    "jobqueue.tasks.options": "Unique",
    "jobqueue.tasks.router": "Router",
    "jobqueue.tasks.run.hooks": "FailedAttempt",
    "jobqueue.tasks.task": "Task",
    "jobqueue.worker.snapshot": "Snapshot",
    "jobqueue.worker.work": "Work",
}
HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}
"""In which module each is found: what type checkers read above, for those who run."""

__all__ = [
    "App",
    "AppClosed",
    "AttemptError",
    "AuditEntry",
    "AuditPage",
    "Backfilled",
    "Bulk",
    "BulkNotFound",
    "BulkState",
    "Bundle",
    "BundleBuilder",
    "BundleCounts",
    "BundleEnded",
    "BundleGraph",
    "BundleNotFound",
    "By",
    "Cancel",
    "Change",
    "Changes",
    "ClaimLost",
    "ConfigurationError",
    "Conflict",
    "Counts",
    "DatabaseError",
    "DeferUnknown",
    "Delivery",
    "DeliveryPage",
    "Dependency",
    "DuplicateJob",
    "DuplicatePhase",
    "DuplicateTask",
    "ErrorGroup",
    "ErrorGroups",
    "Event",
    "EventStream",
    "EventsLost",
    "FailedAttempt",
    "Fatal",
    "GraphJob",
    "Holder",
    "InvalidOption",
    "InvalidPayload",
    "InvalidSignature",
    "Job",
    "JobCancelled",
    "JobContext",
    "JobFailed",
    "JobHandle",
    "JobNotFound",
    "JobPage",
    "JobQueueError",
    "JobState",
    "Kept",
    "KeyLocked",
    "Limit",
    "LimitConflict",
    "LimitLine",
    "LimitStats",
    "Listener",
    "NewJob",
    "NotMigrated",
    "Phase",
    "PhaseState",
    "QueueLocked",
    "QueueStats",
    "Rate",
    "ResultTimeout",
    "Retry",
    "Router",
    "RouterNotIncluded",
    "Rule",
    "Schedule",
    "ScheduleNotFound",
    "SchemaTooNew",
    "Sent",
    "Settings",
    "Snapshot",
    "Snooze",
    "Task",
    "Timing",
    "TooManySignals",
    "Unique",
    "UnknownLimit",
    "Unlinked",
    "WaitTimeout",
    "Waits",
    "Webhook",
    "WebhookNotFound",
    "Work",
    "__version__",
    "bounded_map",
    "current_job",
    "exponential",
    "linear",
    "steps",
]
