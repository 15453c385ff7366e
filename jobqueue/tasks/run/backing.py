"""What stands behind a run: its job, and whoever takes what its handler has to say. One object for all: a run is made
for every job, and most need nothing of it."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from jobqueue.base.job import Job
from jobqueue.base.outcome import Done
from jobqueue.tasks.phases.journal import Journal


class Backing(Protocol):
    """Of one run."""

    def job(self) -> Job:
        """The job as it was claimed."""
        ...

    def report(self, report: str) -> None:
        """Take over a report of progress, in whatever thread the handler runs."""
        ...

    def transaction(self, given: object | None) -> AbstractAsyncContextManager[tuple[Any, Callable[[Done], None]]]:
        """A connection in a transaction, of ours or as given, and what has the job end so with its commit.

        Raises ConfigurationError where there is no job to complete.
        """
        ...

    def bundle(self) -> Any:
        """What the job has of its bundle; None without one."""
        ...

    def journal(self) -> Journal:
        """What keeps its phases."""
        ...
