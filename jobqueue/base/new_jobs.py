"""New jobs in the making: checked and encoded in slices, so that some can be on their way while others are made.

And as jobs, where nothing stores them.
"""

import time
from collections.abc import Iterable, Iterator
from contextvars import copy_context
from dataclasses import field, fields, make_dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, cast

from jobqueue.base.errors import InvalidOption
from jobqueue.base.job import Job, JobState, NewJob, R_co

_SLICE_ROWS, _SLICE_BYTES, _SLICE_SECONDS = 500, 1 << 20, 0.02
"""Of what is made in one go: for so long the event loop does not turn."""

_GENERIC: Any = Generic  # below their fields, both must have the same bases; mypy knows it only in a class statement
_FIELDS = [(each.name, each.type, field(default=each.default)) for each in fields(NewJob)]
Draft = cast(
    "type[NewJob[Any]]",
    make_dataclass("Draft", _FIELDS, bases=(_GENERIC[R_co],), slots=True, eq=False, repr=False, match_args=False),
)
"""Makes what `sealed` turns into a NewJob: 1.3 us instead of 3.2, for a frozen dataclass sets each field by a call."""


def sealed(draft: NewJob[Any]) -> NewJob[Any]:
    """The job that a Draft has become: its fields lie where those of a NewJob do, and cannot be changed any more."""
    draft.__class__ = NewJob
    return draft


def new_jobs(given: Iterable[NewJob[Any]]) -> list[NewJob[Any]]:
    """What a caller gives, as jobs. Raises InvalidOption."""
    if isinstance(given, NewJob) or not isinstance(given, Iterable):
        raise InvalidOption("jobs", f"must be several, as task.job(...) makes them, not one {type(given).__name__}")
    jobs = list(given)
    for each in jobs:
        if not isinstance(each, NewJob):
            raise InvalidOption("jobs", f"must be jobs, as task.job(...) makes them, not {type(each).__name__}")
    return jobs


class NewJobs:
    """Jobs of one call, in order. Making the next ones may raise InvalidPayload, then each time that it is asked."""

    def __init__(self, making: Iterable[NewJob[Any]]) -> None:
        self.made: list[NewJob[Any]] = []
        """Those that are made so far."""
        self._making: Iterator[NewJob[Any]] = iter(making)
        self._failed: BaseException | None = None
        self._here = copy_context()  # a validator sees what it would in the caller, in whatever task it is called

    def more(self) -> int:
        """Make the next slice; 0 if all are made."""
        return self._here.run(self._more)

    def all(self) -> list[NewJob[Any]]:
        """All of them, made now as far as they are not."""
        while self.more():
            pass
        return self.made

    def _more(self) -> int:
        if self._failed is not None:  # a generator that has failed would look like one that has ended
            raise self._failed
        before, size, until = len(self.made), 0, time.monotonic() + _SLICE_SECONDS
        try:
            for job in self._making:
                self.made.append(job)
                size += len(job.args)
                if len(self.made) - before >= _SLICE_ROWS or size >= _SLICE_BYTES or time.monotonic() > until:
                    break
        except BaseException as error:
            self._failed = error
            raise
        return len(self.made) - before


def job_from(new: NewJob[Any], state: JobState, now: datetime, **stands: Any) -> Job:
    """A new job as one that is stored, where nothing stores it; `stands` says what has become of it since."""
    facts: dict[str, Any] = {
        "queue": new.queue,
        "priority": new.priority,
        "attempt": 0,
        "due_at": now,
        "created_at": now,
        "deadline": None if new.budget is None else now + timedelta(seconds=new.budget),
        "expires_at": None if new.expires is None else now + timedelta(seconds=new.expires),
    }
    return Job(
        id=new.id,
        task=new.task,
        state=state,
        max_attempts=new.max_attempts,
        crashes=0,
        lost=0,
        timeout=new.timeout,
        origin=new.origin,
        key=new.key,
        gates=new.gates,
        bundle_id=new.bundle,
        args_json=new.args,
        meta_json=new.meta,
        read_at=now,
        **(facts | stands),
    )
