"""How facts are written to stdout: tables in a terminal, plain text for programs that read lines, and JSON."""

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from shutil import get_terminal_size
from unicodedata import east_asian_width
from uuid import UUID

import orjson

from jobqueue.base.flows.phase import PhaseState
from jobqueue.base.job import JobState
from jobqueue.cli.terminal.safe_text import escaped

Row = Sequence[object]

_COLUMNS = 80
_HEADER = "\n"  # no cell is that
_COLOURS: Mapping[str, str] = {
    _HEADER: "1",
    JobState.RUNNING: "36",
    JobState.COMPLETED: "32",
    JobState.CANCELLED: "33",
    JobState.DEAD: "31",
    JobState.SCHEDULED: "34",
    PhaseState.SLEEPING: "34",
    PhaseState.WAITING: "34",
    PhaseState.FAILED: "31",
}


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


def write_table(
    headers: Sequence[str], rows: Iterable[Row], right: Iterable[str] = (), apart: Sequence[str] = (), indent: str = ""
) -> None:
    """A table; the columns in `right` hold numbers.

    No cell is broken over two lines, for people copy from it. If not all fit into a terminal, those `apart` stand on a
    line of their own: in the first column the long ones alone, above their row; of other columns all, below it.
    """
    cells = [["" if cell is None else escaped(str(cell)) for cell in row] for row in rows]
    columns: list[Sequence[str]] = list(zip(headers, *cells, strict=True))
    if sys.stdout.isatty() and _room_beside(columns) < len(indent):
        below = [column for column in columns[1:] if column[0] in apart]
        columns = [column for column in columns if column not in below]
        above = [""] * len(columns[0])
        if headers[0] in apart:
            above, columns[0] = _long_ones(columns[0], max(0, _room_beside(columns[1:]) - 2 - len(indent)))
    else:
        below, above = [], [""] * len(columns[0])
    for place, row in enumerate(zip(*(_aligned(column, column[0] in right) for column in columns), strict=True)):
        rest = [column[place] for column in below if column[place]]
        lines = [above[place], "  ".join(row).rstrip(), f"    {'  '.join(rest)}" if rest else ""]
        sys.stdout.write("".join(f"{indent}{line}\n" for line in lines if line))


def _room_beside(columns: Sequence[Sequence[str]]) -> int:
    """How much is left of the terminal's width."""
    return get_terminal_size().columns - sum(map(_width, columns)) - 2 * (len(columns) - 1)


def _long_ones(column: Sequence[str], room: int) -> tuple[list[str], list[str]]:
    """What is too long for so much room, and the rest."""
    fits = [_length(cell) <= room for cell in column]
    return (
        ["" if short else cell for short, cell in zip(fits, column, strict=True)],
        [cell if short else "" for short, cell in zip(fits, column, strict=True)],
    )


def write_drawing(draw: Callable[[int, Callable[[str, str], str]], str]) -> None:
    """What is drawn for so many columns, with what gives words the colour of a state. Who draws escapes names."""
    columns = get_terminal_size().columns if sys.stdout.isatty() else _COLUMNS
    sys.stdout.write(f"{draw(columns, _coloured)}\n")


def write_facts(facts: Mapping[str, object], indent: str = "  ") -> None:
    """Names and values, one below the other; what has no value is left out."""
    shown = {name: value for name, value in facts.items() if value not in (None, "")}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        write(f"{indent}{name:<{width}}  {value}")


def _id_as_text(value: object) -> str:
    if isinstance(value, UUID):  # the driver has a UUID class of its own, which orjson does not take for one
        return str(value)
    raise TypeError(f"{type(value).__name__} is not for JSON")


def _aligned(column: Sequence[str], right: bool) -> list[str]:
    """Its cells, all of one width; states have their colour in a terminal."""
    width = _width(column)
    cells = [" " * (width - _length(cell)) + cell if right else cell + " " * (width - _length(cell)) for cell in column]
    return [_coloured(word, cell) for word, cell in zip([_HEADER, *column[1:]], cells, strict=True)]


def _coloured(word: str, text: str) -> str:
    """The text in the colour that this word has, where a person sees it."""
    code = _COLOURS.get(word)
    return f"\x1b[{code}m{text}\x1b[0m" if code and sys.stdout.isatty() and not os.environ.get("NO_COLOR") else text


def _width(column: Sequence[str]) -> int:
    return max(map(_length, column))


def _length(text: str) -> int:
    """How many columns of a terminal it takes: some letters of East Asia take two."""
    return len(text) if text.isascii() else sum(1 + (east_asian_width(letter) in "WF") for letter in text)
