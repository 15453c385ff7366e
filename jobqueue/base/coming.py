"""New jobs in the making: checked and encoded in slices, so that some can be on their way while others are made."""

from collections.abc import Iterable, Iterator
from contextvars import copy_context
from typing import Any

from jobqueue.base.job import NewJob

_SLICE_ROWS, _SLICE_BYTES = 500, 1 << 20
"""Of what is made in one go: for some milliseconds the event loop does not turn."""


class Coming:
    """Jobs of one call, in order. Making the next ones may raise InvalidPayload."""

    def __init__(self, making: Iterable[NewJob[Any]]) -> None:
        self.made: list[NewJob[Any]] = []
        """Those that are made so far."""
        self._making: Iterator[NewJob[Any]] = iter(making)
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
        before, size = len(self.made), 0
        for job in self._making:
            self.made.append(job)
            size += len(job.args)
            if len(self.made) - before >= _SLICE_ROWS or size >= _SLICE_BYTES:
                break
        return len(self.made) - before
