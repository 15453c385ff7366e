"""The phases of one job as a table."""

from collections.abc import Sequence
from datetime import UTC, datetime

import orjson

from jobqueue.base.flows.phase import Phase, PhaseState
from jobqueue.cli.terminal.output import write, write_table
from jobqueue.telling.phases import OPEN, until_of
from jobqueue.telling.spans import length

_COLUMNS = ["name", "kind", "state", "began", "took", "try", "bytes"]
_RIGHT = ("took", "try", "bytes")
_APART = ("name", "", "result")
_SHOWN = 50
_ERROR_LENGTH = 70


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
    return ", ".join(part for part in (signal, until_of(phase) if phase.state in OPEN else "") if part)


def _fragment(text: str | None) -> object:
    return None if text is None else orjson.Fragment(text)
