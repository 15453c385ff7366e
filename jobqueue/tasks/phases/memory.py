"""Phases without a database, for `task.run`: steps run once, sleeps are over at once, signals are given beforehand."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

from jobqueue.base.errors import ConfigurationError
from jobqueue.base.flows.phase import Found, Looked, Record, Wait, Waking
from jobqueue.base.moments import LONGEST


class MemoryJournal:
    """A `Journal` of one run."""

    def __init__(self, signals: Mapping[str, Sequence[str]] | None = None) -> None:
        """`signals` are payloads by the name of the signal, as JSON texts, in the order in which they come."""
        self._signals = {name: list(payloads) for name, payloads in (signals or {}).items()}
        self._results: dict[str, str | None] = {}

    async def load(self) -> Sequence[Found]:
        """Nothing: there was no earlier run."""
        return ()

    async def result_of(self, name: str) -> str | None:
        """The result of a phase of this run."""
        return self._results.get(name)

    async def record(self, record: Record) -> Waking | None:
        """Keep a result. A sleep is over as soon as it is said."""
        self.note(record)
        return None if record.kind == "phase" else Waking(datetime.now(UTC), 0.0)

    def note(self, record: Record) -> None:
        """Keep a result."""
        if record.over and record.error is None:
            self._results[record.name] = record.result

    async def record_on(self, connection: Any, record: Record) -> NoReturn:
        """There are no connections here."""
        raise ConfigurationError(f"phase {record.name!r}: only a worker has a transaction for it; task.run has none")

    async def look(self, wait: Wait) -> Looked:
        """The next signal that was given beforehand; without one a wait is over at once."""
        there = self._signals.get(wait.signal)
        if not there and wait.longest >= LONGEST:
            raise ConfigurationError(
                f"ctx.wait_for({wait.name!r}): no signal {wait.signal!r} is left; give as many as are waited for: "
                f"task.options(signals={{{wait.signal!r}: [...]}}).run(...)"
            )
        return Looked(there.pop(0) if there else None, 0, Waking(datetime.now(UTC), 0.0))
