"""Log events: dotted names with facts as fields, never prose, never a payload.

| event | level | fields |
|---|---|---|
| worker.started | info | worker, queues, concurrency, listening |
| worker.draining | info | worker, running, limit |
| worker.stopped | info | worker, clean |
| worker.slot_lost | critical | worker, error |
| job.claimed | debug | job_id, task, queue, attempt |
| job.completed | info | job_id, task, queue, attempt, seconds |
| job.retried | warning | job_id, task, queue, attempt, error, delay |
| job.snoozed | info | job_id, task, queue, attempt |
| job.cancelled | info | job_id, task, queue, attempt |
| job.dead | error | job_id, task, queue, attempt, reason, error |
| job.released | info | job_id, task, queue, attempt |
| job.put_aside | warning | job_id, task, queue, reason |
| job.refused | warning | job_id, task, outcome: the claim was lost, nothing was written |
| job.outcome_unsaved | error | job_id, task, outcome: the lease will run out, another worker takes over |
| job.outlived_stop | error | job_id, task: its handler or thread still runs after the limit |
| job.late_error | warning | job_id, task, error: raised after the job had ended |
| database.unreachable | warning | doing, error, retry_in (at most one line a second for each activity) |
| database.back | info | doing |
| listener.lost | warning | error, retry_in |
| listener.ready | info | channel |
| archive.extended | info | partitions |
| schema.migrated | info | schema, migration |

`error` is the class of an exception; its message is stored with the job, not logged, for it may quote a payload.
"""

import logging
from typing import cast

import structlog
from structlog.types import FilteringBoundLogger, Processor

_PROCESSORS: list[Processor] = [
    structlog.stdlib.filter_by_level,
    structlog.contextvars.merge_contextvars,
    structlog.processors.KeyValueRenderer(key_order=["event"]),
]


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger that follows the user's structlog once it is configured, and stands on `logging` until then.

    The library configures neither: an embedding process keeps its own settings.
    """
    if structlog.is_configured():
        return cast(FilteringBoundLogger, structlog.get_logger(name))
    wrapped = structlog.wrap_logger(
        logging.getLogger(name), processors=_PROCESSORS, wrapper_class=structlog.stdlib.BoundLogger
    )
    return cast(FilteringBoundLogger, wrapped)
