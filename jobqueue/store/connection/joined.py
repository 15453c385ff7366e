"""How many rows go into one statement, and a column of them as one text parameter.

`string_to_array($1, chr(31), '')` in a statement takes it apart.

A list parameter costs the driver 0.3 µs for each value, most of it to find out that the value is no list itself; this
costs 0.05, and it is the same on every kind of connection. Nothing that we store has the separator in it, nor is any
such value empty: JSON escapes control characters, names must be printable. Free text does not go this way.
"""

from collections.abc import Sequence

import asyncpg

_SEPARATOR = "\x1f"


def join(values: Sequence[object]) -> str | None:
    """The text of a column; None if no row has a value.

    Raises DataError if a value has the separator in it, as the database would: JSON cannot have it.
    """
    if not any(values) and not any(value is not None for value in values):
        return None
    text = _SEPARATOR.join(["" if value is None else str(value) for value in values])
    if text.count(_SEPARATOR) != len(values) - 1:
        raise asyncpg.DataError("a value has the character U+001F in it, which no JSON and no name has")
    return text


def chunks(sizes: Sequence[int], rows: int, size: int) -> list[slice]:
    """Cut a sequence of items with these sizes into runs of at most `rows` items and `size` bytes."""
    cuts, start, held = [], 0, 0
    for place, item in enumerate(sizes):
        if place > start and (place - start >= rows or held + item > size):
            cuts.append(slice(start, place))
            start, held = place, 0
        held += item
    if start < len(sizes):
        cuts.append(slice(start, len(sizes)))
    return cuts
