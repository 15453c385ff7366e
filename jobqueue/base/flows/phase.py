"""Phases, the durable steps of a job: as they are written, found again by a later run, and shown to people.

A sleep, and a wait for a signal, are kept as phases are, under names of the same kind.
"""

import json
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, TypeAlias
from uuid import UUID

PhaseKind: TypeAlias = Literal["phase", "sleep", "wait"]


class PhaseState(StrEnum):
    """Where a phase is. Nothing of it is stored: what has not ended is what its job makes of it."""

    RUNNING = "running"
    SLEEPING = "sleeping"
    WAITING = "waiting"
    """For a signal."""
    COMPLETED = "completed"
    FAILED = "failed"
    """It raised, or nothing came that it waited for. A phase that has failed runs again in the next run of its job."""
    INTERRUPTED = "interrupted"
    """It had begun when its run ended, and runs again in the next one, if there is one."""
    CANCELLED = "cancelled"
    """It had begun, or waited, when its job was cancelled."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase of a job as it stood when it was read."""

    name: str
    kind: PhaseKind
    state: PhaseState
    place: int
    """1 for the first that began in its run."""
    attempt: int
    """The number of the run that it was begun, or ended, in."""
    worker_id: UUID | None
    began_at: datetime
    ended_at: datetime | None
    wake_at: datetime | None
    """Until when it sleeps, or waits at the longest."""
    signal: str | None = None
    """The name of the signal that it waits for."""
    result_bytes: int | None = None
    """The size of its result as JSON text; None while there is none."""
    result_json: str | None = field(default=None, repr=False)
    """None as well if it was listed without results."""
    error_json: str | None = field(default=None, repr=False)

    @property
    def result(self) -> Any:
        """What it gave, as plain JSON values; None while there is none. Of a wait the signal's payload.

        Raises LookupError if it was not read.
        """
        if self.result_json is None and self.result_bytes is not None:
            raise LookupError("this phase was listed without its result: app.jobs.phases(id) reads it")
        return None if self.result_json is None else json.loads(self.result_json)

    @property
    def error(self) -> str | None:
        """How it failed, as `Class: message`; None if it did not."""
        if self.error_json is None:
            return None
        error = json.loads(self.error_json)
        if not isinstance(error, dict):  # written by hand
            return self.error_json
        return ": ".join(str(error[key]) for key in ("class", "message") if error.get(key))


@dataclass(frozen=True, slots=True)
class Found:
    """What an earlier run has left of a phase."""

    name: str
    kind: PhaseKind
    place: int
    over: bool
    failed: bool
    wake_at: datetime | None = None
    sleeps: float | None = None
    """Seconds until `wake_at` from the moment in which this was read; below 0 once that has passed."""
    result: str | None = field(default=None, repr=False)
    """JSON text; None if there is none, or it is so large that it is read on its own."""


@dataclass(frozen=True, slots=True)
class Record:
    """The last word of a running phase."""

    name: str
    kind: PhaseKind
    place: int
    attempt: int
    took: float
    """Seconds since it began."""
    over: bool
    sleeps: float | None = None
    until: datetime | None = None
    result: str | None = field(default=None, repr=False)
    error: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Waking:
    """Until when a sleep lasts: for good once it was said the first time."""

    at: datetime
    sleeps: float
    """Seconds until then, from the moment of the answer."""


@dataclass(frozen=True, slots=True)
class Wait:
    """A wait for the next signal of this name, which looks whether it is there."""

    name: str
    signal: str
    place: int
    attempt: int
    longest: float
    """Seconds."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What a wait has found: a payload, else until when to wait, and how many signals there had been."""

    payload: str | None = field(repr=False)
    seen: int
    waking: Waking


def state_of(kind: PhaseKind, job: str | None, *, over: bool, failed: bool, current: bool) -> PhaseState:
    """What a phase is, by the state of its job (None: it is gone); `current`: the run that has it goes on."""
    if over:
        return PhaseState.FAILED if failed else PhaseState.COMPLETED
    if job == "cancelled":
        return PhaseState.CANCELLED
    if job in (None, "completed", "dead"):
        return PhaseState.INTERRUPTED
    if kind != "phase":
        return PhaseState.SLEEPING if kind == "sleep" else PhaseState.WAITING
    return PhaseState.RUNNING if current else PhaseState.INTERRUPTED
