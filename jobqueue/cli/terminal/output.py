"""How facts are written to stdout: tables in a terminal, plain text for programs that read lines, and JSON."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID

import orjson

from jobqueue.base.job import JobState
from jobqueue.cli.terminal.safe_text import escaped

Row = Sequence[object]

_COLOURS = {
    JobState.RUNNING: "cyan",
    JobState.COMPLETED: "green",
    JobState.CANCELLED: "yellow",
    JobState.DEAD: "red",
    JobState.SCHEDULED: "blue",
}
_UNITS = ((172_800, 86_400, "days"), (7_200, 3_600, "h"), (120, 60, "min"), (0, 1, "s"))


def write(text: str) -> None:
    """One line on stdout, on one line."""
    sys.stdout.write(f"{escaped(text)}\n")


def write_heading(text: str) -> None:
    """A line that begins a part."""
    sys.stdout.write(f"\n{escaped(text)}\n")


def write_json(document: object, *, line: bool = False) -> None:
    """One JSON document; times as ISO 8601, ids as text. `line`: one of several, each on a line of its own."""
    option = orjson.OPT_APPEND_NEWLINE | (0 if line else orjson.OPT_INDENT_2)
    sys.stdout.write(orjson.dumps(document, default=_id_as_text, option=option).decode())
    if line:
        sys.stdout.flush()  # somebody waits for it


def write_table(headers: Sequence[str], rows: Iterable[Row], whole: str = "", right: Iterable[str] = ()) -> None:
    """A table. The column `whole` is never cut, for people copy from it; those in `right` hold numbers."""
    cells = [["" if cell is None else escaped(str(cell)) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _rich_table(headers, cells, whole, set(right))
    else:
        _plain_table(headers, cells, set(right))


def write_facts(facts: Mapping[str, object], indent: str = "  ") -> None:
    """Names and values, one below the other; what has no value is left out."""
    shown = {name: value for name, value in facts.items() if value not in (None, "")}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        write(f"{indent}{name:<{width}}  {value}")


def ago(moment: datetime | None, now: datetime | None = None) -> str | None:
    """A time as people say it: `3 s ago`, `in 5 min`."""
    if moment is None:
        return None
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"{duration(seconds)} ago" if seconds > 0 else f"in {duration(-seconds)}"


def duration(seconds: float) -> str:
    """Seconds as people say them: `90 s`, `5 min`, `3 h`, `4 days`."""
    size, unit = next((size, unit) for least, size, unit in _UNITS if seconds >= least)
    return f"{seconds / size:.0f} {unit}"


def number(jobs: int, about: bool) -> str:
    """A number of jobs; ~ stands before what is estimated."""
    return f"~{jobs}" if about else str(jobs)


def moment(time: datetime | None) -> str | None:
    """A time to the second, and how long ago it is."""
    return None if time is None else f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC ({ago(time)})"


def _id_as_text(value: object) -> str:
    if isinstance(value, UUID):  # the driver has a UUID class of its own, which orjson does not take for one
        return str(value)
    raise TypeError(f"{type(value).__name__} is not for JSON")


def _plain_table(headers: Sequence[str], rows: list[list[str]], right: set[str]) -> None:
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
    for row in [list(headers), *rows]:
        cells = [
            cell.rjust(width) if header in right else cell.ljust(width)
            for cell, width, header in zip(row, widths, headers, strict=True)
        ]
        sys.stdout.write("  ".join(cells).rstrip() + "\n")


def _rich_table(headers: Sequence[str], rows: list[list[str]], whole: str, right: set[str]) -> None:
    from rich.console import Console  # only a terminal needs it
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for header in headers:
        table.add_column(
            header,
            justify="right" if header in right else "left",
            no_wrap=header in right or header == whole,
            min_width=36 if header == whole else None,
            overflow="fold",
        )
    colours: Mapping[str, str] = {str(state): colour for state, colour in _COLOURS.items()}
    for row in rows:
        table.add_row(*(Text(cell, style=colours.get(cell, "")) for cell in row))
    Console(highlight=False).print(table)
