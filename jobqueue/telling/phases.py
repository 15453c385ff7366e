"""In which of its phases a job is, in words."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from jobqueue.base.flows.phase import Phase, PhaseState
from jobqueue.base.job import Job, JobState
from jobqueue.base.moments import LONGEST
from jobqueue.telling.spans import length, moment

OPEN = (PhaseState.SLEEPING, PhaseState.WAITING)
"""The states of a phase in which its job waits."""
_NAMED = 5
_DAY = 86_400.0


def is_parked(job: Job, phases: Sequence[Phase]) -> bool:
    """Whether it is scheduled because it sleeps, or waits for a signal, and not for another reason."""
    until = {phase.wake_at for phase in phases if phase.state in OPEN}
    return job.state is JobState.SCHEDULED and bool(until) and job.due_at in {*until, job.deadline}


def where_it_is(job: Job, phases: Sequence[Phase], now: datetime) -> Iterator[str]:
    """What it sleeps in, and which signals it waits for, or which phases run: sentences."""
    if job.state is JobState.RUNNING:
        inside = [phase for phase in phases if phase.state is PhaseState.RUNNING]
        yield from _first([f"in phase {phase.name!r} for {length(phase.began_at, now)}" for phase in inside])
    elif is_parked(job, phases):
        parked = sorted((phase for phase in phases if phase.state in OPEN), key=_wakes)
        yield from _first([_sleeps(phase) for phase in parked])
        if job.due_at == job.deadline:
            yield f"its budget ends before that: {moment(job.deadline)}"


def until_of(phase: Phase) -> str:
    """`until ...`; nothing for a wait without a timeout, which is one of ten years."""
    if phase.kind == "wait" and (_wakes(phase) - phase.began_at).total_seconds() > LONGEST - _DAY:
        return ""
    return f"until {moment(phase.wake_at)}"


def _first(sentences: Sequence[str]) -> Iterator[str]:
    yield from sentences[:_NAMED]
    if len(sentences) > _NAMED:
        yield f"and {len(sentences) - _NAMED} more"


def _sleeps(phase: Phase) -> str:
    until = until_of(phase)
    if phase.state is PhaseState.SLEEPING:
        return f"sleeps in phase {phase.name!r} {until}"
    return f"waits for signal {phase.signal!r} {until}".rstrip()


def _wakes(phase: Phase) -> datetime:
    return phase.wake_at or phase.began_at
