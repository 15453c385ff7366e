"""What a job in memory keeps of its phases, sleeps and signals, from one run to the next."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NoReturn

from jobqueue.base.errors import ConfigurationError
from jobqueue.base.flows.phase import Found, Looked, PhaseKind, Record, Wait, Waking

NO_DATABASE = (
    "app.testing() has no database; for what needs one take app.testing(connection=...) or the fixture jobqueue_app"
)


@dataclass(slots=True)
class _Phase:
    kind: PhaseKind
    place: int
    over: bool
    failed: bool
    wake_at: datetime | None = None
    result: str | None = field(default=None, repr=False)


class KeptPhases:
    """A `Journal`, which documents its methods, of all runs of one job."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.sent = 0
        """How many signals the job was sent."""
        self._now = now
        self._phases: dict[str, _Phase] = {}
        self._signals = defaultdict[str, list[str]](list)

    def send(self, name: str, payload: str) -> None:
        """Leave a signal."""
        self._signals[name].append(payload)
        self.sent += 1

    @property
    def unread(self) -> int:
        """How many of them nobody has read."""
        return sum(map(len, self._signals.values()))

    async def load(self) -> Sequence[Found]:
        """What earlier runs have left."""
        return [
            Found(name, one.kind, one.place, one.over, one.failed, one.wake_at, self._left(one.wake_at), one.result)
            for name, one in self._phases.items()
        ]

    async def result_of(self, name: str) -> str | None:
        """The result of a completed phase."""
        one = self._phases.get(name)
        return one.result if one is not None and one.over else None

    async def record(self, record: Record) -> Waking | None:
        """Keep the last word of a phase."""
        self.note(record)
        return self._waking(self._phases[record.name].wake_at)

    def note(self, record: Record) -> None:
        """Keep it."""
        before = self._phases.get(record.name)
        if before is not None and before.over and not before.failed:
            return
        wake_at = before.wake_at if before is not None and before.kind == record.kind else None
        if record.kind != "phase" and wake_at is None:
            wake_at = record.until or self._now() + timedelta(seconds=record.sleeps or 0.0)
        failed = record.error is not None
        self._phases[record.name] = _Phase(record.kind, record.place, record.over, failed, wake_at, record.result)

    async def record_on(self, connection: Any, record: Record) -> NoReturn:
        """There are no connections here."""
        raise ConfigurationError(f"phase {record.name!r}: {NO_DATABASE}")

    async def look(self, wait: Wait) -> Looked:
        """Take the next signal of a wait, or say until when it waits."""
        before, there = self._phases.get(wait.name), self._signals[wait.signal]
        wake_at = before.wake_at if before is not None and before.kind == "wait" else None
        wake_at = wake_at or self._now() + timedelta(seconds=wait.longest)
        payload = there.pop(0) if there else None
        self._phases[wait.name] = _Phase("wait", wait.place, payload is not None, False, wake_at, payload)
        return Looked(payload, self.sent, Waking(wake_at, (wake_at - self._now()).total_seconds()))

    def _left(self, wake_at: datetime | None) -> float | None:
        return None if wake_at is None else (wake_at - self._now()).total_seconds()

    def _waking(self, wake_at: datetime | None) -> Waking | None:
        return None if wake_at is None else Waking(wake_at, (wake_at - self._now()).total_seconds())
