"""A bar of progress for whoever waits at a terminal; on stderr, for stdout is what programs read."""

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from jobqueue.base.flows.bundle import Bundle
from jobqueue.cli.terminal.safe_text import escaped


class Bar:
    """Shows nothing unless stderr is a terminal."""

    def __init__(self) -> None:
        name = TextColumn("{task.description}", markup=False)
        columns = (name, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        shown = sys.stderr.isatty()
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True, disable=not shown)
        self._row = self._progress.add_task("", total=None)

    def show(self, bundle: Bundle) -> None:
        """The bundle as it stands."""
        words = escaped(bundle.name) + (f", {bundle.dead} dead" if bundle.dead else "")
        self._progress.update(self._row, description=words, total=bundle.added, completed=bundle.ended)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
