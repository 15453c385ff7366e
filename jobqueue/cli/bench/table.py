"""The table of `bench`, in 80 columns: a row as soon as it is measured; in a terminal the one under way below it."""

import contextlib
import sys
import time
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from jobqueue.bench.figures import Cost, Row, Series
from jobqueue.cli.bench.documents import Findings, durability, figure, number, ratio
from jobqueue.cli.terminal.output import write, write_facts, write_heading
from jobqueue.telling.spans import duration

if TYPE_CHECKING:
    from rich.live import Live

FIRST_HEADING = "raw limit"


class CannotWrite(Exception):
    """Raised in place of an OSError of stdout, which must not be taken for one of the database's."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class Table:
    """Use it as a context: in a terminal it draws meanwhile."""

    def __init__(self, measurements: int, repeats: int) -> None:
        self._measurements = measurements
        self._repeats = repeats
        self._against: str | None = None
        self._done = 0
        self._began = time.monotonic()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if sys.stdout.isatty():
            from rich.console import Console  # slow to import, and without a terminal nobody wants it
            from rich.live import Live

            self._live = Live(console=Console(highlight=False, markup=False), transient=True, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Draw no more."""
        if self._live is not None:
            self._live.stop()

    def begin(self, findings: Findings) -> None:
        """Say where, and how much. Raises CannotWrite."""
        with _told_apart():
            write(findings.database)
            write(f"{number(findings.jobs)} jobs, median of {findings.repeats}; ours and the limit in turns")
            sys.stdout.flush()

    def tell(self, series: Series, last: bool) -> None:
        """Write the rows of what is done; draw those of what is not. Raises CannotWrite."""
        if last:
            self._done += 1
            self._draw("")
        with _told_apart():
            self._write_heading(series)
            for row in series.rows if last else ():
                write(line(row))
            sys.stdout.flush()
        if not last:
            self._draw(self._under_way(series))

    def end(self, findings: Findings) -> None:
        """Write what processes took, and the settings."""
        costs = [(series.lines[0], *series.costs) for series in findings.series if series.against == FIRST_HEADING]
        if any(ours for _, ours, _ in costs):
            write_heading(f"{'per process':<34}{'CPU s/1000 jobs':>16}{'peak MiB':>14}{'first job s':>14}")
            write(
                f"{'':<34}" + "".join(f"{text:>{width}}" for _ in range(3) for text, width in (("ours", 8), ("raw", 6)))
            )
            for what, ours, raw in costs:
                if ours and raw:
                    write(cost_line(what, ours, raw))
        write_heading("settings")
        write_facts(findings.settings)
        write(durability(findings.settings))

    def _draw(self, text: str) -> None:
        if self._live is not None:
            from rich.text import Text

            self._live.update(Text(text, no_wrap=True, overflow="ellipsis"), refresh=True)

    def _write_heading(self, series: Series) -> None:
        if series.against != self._against:
            self._against = series.against
            what = "what" if series.against == FIRST_HEADING else "drain of no-ops, 1 process, with"
            write_heading(f"{what:<34}{'ours':>14}{series.against:>16}{'ratio':>8}")

    def _under_way(self, series: Series) -> str:
        step = min(len(series.beside) + 1, self._repeats)
        took = duration(time.monotonic() - self._began)
        rows = "\n".join(line(row) for row in series.rows)
        return f"{rows}\n  run {step} of {self._repeats}, measurement {self._done + 1} of {self._measurements}, {took}"


@contextlib.contextmanager
def _told_apart() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CannotWrite(error) from None


def line(row: Row) -> str:
    """One row, in 72 columns."""
    ours, beside = figure(row.ours, row.unit), figure(row.beside, row.unit)
    return f"{row.what:<34}{ours:>14}{beside:>16}{ratio(row.ratio):>8}"


def cost_line(what: str, ours: Cost, raw: Cost) -> str:
    """What the processes of a measurement took, in 78 columns."""
    starts = [f"{cost.start:.2f}" if cost.start is not None else "-" for cost in (ours, raw)]
    return f"{what:<34}{ours.cpu:>10.3f}{raw.cpu:>6.3f}{ours.rss:>8.0f}{raw.rss:>6.0f}{starts[0]:>8}{starts[1]:>6}"
