"""`after=`: a job of a bundle that waits for others."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias, TypeVar
from uuid import UUID

from jobqueue.base.errors import InvalidOption
from jobqueue.base.job import Edges, Job, NewJob
from jobqueue.tasks.handle import JobHandle
from jobqueue.tasks.options import check_id

R = TypeVar("R")
After: TypeAlias = Sequence[JobHandle[Any] | Job | UUID | str]
"""Jobs that were stored, or added, before: by their handles, or by id."""
AfterWhen: TypeAlias = Literal["completed", "ended"]
"""What must have become of them: completed, all of them; or ended, however."""


def coming_after(job: NewJob[R], after: After, when: AfterWhen) -> NewJob[R]:
    """The job as one that waits for others. Raises InvalidOption."""
    if when not in ("completed", "ended"):
        raise InvalidOption("when", 'must be "completed" or "ended"')
    if isinstance(after, str | bytes) or not isinstance(after, Sequence):
        raise InvalidOption("after", f"must be a list of jobs, such as after=[first], not {type(after).__name__}")
    ids = tuple(dict.fromkeys(_id(each) for each in after))
    return replace(job, edges=Edges(waits=True, after=ids, any_end=when == "ended")) if ids else job


def _id(each: Any) -> UUID:
    if isinstance(each, NewJob):
        raise InvalidOption(
            "after", "must name what b.add(...) gave for this job, not the job itself: it is not added yet"
        )
    return each.id if isinstance(each, JobHandle | Job) else check_id(each, "after")
