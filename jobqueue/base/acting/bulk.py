"""A bulk action: one on all jobs of a filter, which workers do page by page."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID


class BulkState(StrEnum):
    """How far it has come."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    CANCELLED = "cancelled"
    """What was done before stands."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Bulk:
    """One, as it stood when it was looked at."""

    id: UUID
    at: datetime
    """When it was asked for, by the database's clock: jobs that came later, or ended later, are not touched."""
    who: str | None
    via: str | None
    action: str
    """`cancel`, `retry`, `reschedule`, `move`, `set_priority`, `delete`."""
    filter: Mapping[str, Any]
    to: Mapping[str, Any]
    """What the action needs beside the jobs: `to`, `priority`, `at` or `delay`, `from_start`."""
    state: BulkState
    matched: int
    """How many jobs it has found and dealt with so far."""
    changed: int
    """To how many of them it happened."""
    refused: Mapping[str, int] = field(default_factory=dict)
    """How many were refused, by the reason: see `Change`."""
    finished_at: datetime | None = None
    error: str | None = None
    """What has ended it, if it has failed: a class, no text that could quote a payload."""

    @property
    def finished(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self.finished_at is not None
