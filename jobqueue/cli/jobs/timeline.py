"""The phases of one job as a timeline, and which of them it is in."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import orjson

from jobqueue.base.flows.phase import Phase, PhaseState
from jobqueue.base.job import Job, JobState
from jobqueue.base.moments import LONGEST
from jobqueue.cli.terminal.output import length, moment, write, write_table

_COLUMNS = ["name", "kind", "state", "began", "took", "try", "bytes"]
_RIGHT = ("took", "try", "bytes")
_APART = ("name", "", "result")
_SHOWN = 50
_NAMED = 5
_ERROR_LENGTH = 70
_DAY = 86_400.0
_OPEN = (PhaseState.SLEEPING, PhaseState.WAITING)


def write_phases(phases: Sequence[Phase], now: datetime, payload: bool) -> None:
    """A line for each, and below it how it failed, or until when it sleeps."""
    shown = phases[-_SHOWN:]
    about = [""] if any(map(_about, shown)) else []
    columns = [*_COLUMNS, *about, *(["result"] if payload else [])]
    write("phases")
    if len(shown) < len(phases):
        write(f"  the last {len(shown)} of {len(phases)}; --json has all")
    rows = [
        [*_cells(phase, now), *([_about(phase)] if about else []), phase.result_json][: len(columns)] for phase in shown
    ]
    write_table(columns, rows, right=_RIGHT, apart=_APART, indent="  ")


def phase_document(phase: Phase, payload: bool) -> dict[str, object]:
    """A phase as JSON values."""
    document: dict[str, object] = {
        "name": phase.name,
        "kind": phase.kind,
        "state": phase.state,
        "place": phase.place,
        "attempt": phase.attempt,
        "worker": phase.worker_id,
        "began_at": phase.began_at,
        "ended_at": phase.ended_at,
        "wake_at": phase.wake_at,
        "signal": phase.signal,
        "result_bytes": phase.result_bytes,
        "error": _fragment(phase.error_json),
    }
    return document | ({"result": _fragment(phase.result_json)} if payload else {})


def is_parked(job: Job, phases: Sequence[Phase]) -> bool:
    """Whether it is scheduled because it sleeps, or waits for a signal, and not for another reason."""
    until = {phase.wake_at for phase in phases if phase.state in _OPEN}
    return job.state is JobState.SCHEDULED and bool(until) and job.due_at in {*until, job.deadline}


def where_it_is(job: Job, phases: Sequence[Phase], now: datetime) -> Iterator[str]:
    """What it sleeps in, and which signals it waits for, or which phases run: sentences."""
    if job.state is JobState.RUNNING:
        inside = [phase for phase in phases if phase.state is PhaseState.RUNNING]
        yield from _first([f"in phase {phase.name!r} for {length(phase.began_at, now)}" for phase in inside])
    elif is_parked(job, phases):
        parked = sorted((phase for phase in phases if phase.state in _OPEN), key=_wakes)
        yield from _first([_sleeps(phase) for phase in parked])
        if job.due_at == job.deadline:
            yield f"its budget ends before that: {moment(job.deadline)}"


def _first(sentences: Sequence[str]) -> Iterator[str]:
    yield from sentences[:_NAMED]
    if len(sentences) > _NAMED:
        yield f"and {len(sentences) - _NAMED} more"


def _sleeps(phase: Phase) -> str:
    until = _until(phase)
    if phase.state is PhaseState.SLEEPING:
        return f"sleeps in phase {phase.name!r} {until}"
    return f"waits for signal {phase.signal!r} {until}".rstrip()


def _cells(phase: Phase, now: datetime) -> list[object]:
    cut_short = phase.state in (PhaseState.INTERRUPTED, PhaseState.CANCELLED)
    took = None if cut_short else length(phase.began_at, phase.ended_at or now)
    began = f"{phase.began_at.astimezone(UTC):%m-%d %H:%M:%S}"
    return [phase.name, phase.kind, phase.state, began, took, phase.attempt, phase.result_bytes]


def _about(phase: Phase) -> str:
    """What else there is to say of it."""
    signal = f"signal {phase.signal!r}" if phase.signal not in (None, phase.name) else ""
    if phase.error is not None:
        kind, colon, message = phase.error.partition("\n")[0].partition(":")
        text = f"{kind.rpartition('.')[2]}{colon}{message}"
        return text if len(text) <= _ERROR_LENGTH else f"{text[: _ERROR_LENGTH - 1]}…"
    return ", ".join(part for part in (signal, _until(phase) if phase.state in _OPEN else "") if part)


def _until(phase: Phase) -> str:
    """`until ...`; nothing for a wait without a timeout, which is one of ten years."""
    if phase.kind == "wait" and (_wakes(phase) - phase.began_at).total_seconds() > LONGEST - _DAY:
        return ""
    return f"until {moment(phase.wake_at)}"


def _wakes(phase: Phase) -> datetime:
    return phase.wake_at or phase.began_at


def _fragment(text: str | None) -> object:
    return None if text is None else orjson.Fragment(text)
