"""When and where a failed attempt's job runs again: as its handler asks, else as its task's retry policy says."""

import inspect
from dataclasses import dataclass
from datetime import datetime

from jobqueue.base.job import Job
from jobqueue.base.moments import LONGEST, check_moment, plain_seconds
from jobqueue.base.names import check_whole
from jobqueue.base.outcome import Retry
from jobqueue.base.retry import DEFAULT_RETRY, RetryPolicy
from jobqueue.tasks.options import PRIORITIES, check_queue


@dataclass(frozen=True, slots=True)
class Again:
    """The next run: in `delay` seconds or at `at`, perhaps elsewhere."""

    delay: float | None = None
    at: datetime | None = None
    queue: str | None = None
    priority: int | None = None


async def next_run(policy: RetryPolicy, job: Job, error: BaseException) -> Again | None:
    """The next run after this failure; None if the policy wants none.

    Raises whatever the policy raises, and InvalidOption for an answer that is no moment or is out of the range.
    """
    if isinstance(error, Retry) and (error.delay is not None or error.at is not None):
        moment = check_moment(error.delay, error.at)
    else:
        answer = policy(job, error)
        answer = await answer if inspect.isawaitable(answer) else answer
        if answer is None:
            return None
        if isinstance(answer, datetime):
            moment = check_moment(None, answer)
        else:
            seconds = plain_seconds("delay", answer)
            moment = check_moment(0.0 if -LONGEST < seconds < 0 else seconds, None)
    if not isinstance(error, Retry):
        return Again(*moment)
    return Again(*moment, check_queue(error.queue), check_whole("priority", error.priority, PRIORITIES))


def by_default(job: Job, error: BaseException) -> Again:
    """The next run by the default policy, for when the task's own has failed."""
    return Again(DEFAULT_RETRY(job, error))
