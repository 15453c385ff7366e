"""The phases of one run, as its handler comes to them: all goes to the recorder of the worker."""

from collections.abc import Sequence
from typing import Any

from jobqueue.base.flows.phase import Found, Looked, Record, Wait, Waking
from jobqueue.worker.ending.recording import Recorder
from jobqueue.worker.keeping.holds import Hold


class HoldJournal:
    """A `Journal` of one claimed job, which documents its methods."""

    def __init__(self, recorder: Recorder, hold: Hold) -> None:
        self._recorder = recorder
        self._hold = hold

    async def load(self) -> Sequence[Found]:
        """What earlier runs have left."""
        return await self._recorder.load(self._hold)

    async def result_of(self, name: str) -> str | None:
        """The result of a completed phase."""
        return await self._recorder.text(self._hold, name)

    async def record(self, record: Record) -> Waking | None:
        """Store it."""
        return await self._recorder.store(self._hold, record)

    def note(self, record: Record) -> None:
        """Store it soon."""
        self._recorder.note(self._hold, record)

    async def record_on(self, connection: Any, record: Record) -> None:
        """Store it with a transaction."""
        await self._recorder.store_on(connection, self._hold, record)

    async def look(self, wait: Wait) -> Looked:
        """Take a signal."""
        return await self._recorder.look(self._hold, wait)
