"""JSON as markup: exactly what is stored, number by number, pretty and escaped; as much as there is room for."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from markupsafe import Markup, escape

ROOM = 64 << 10
"""Characters that are shown unless all are asked for."""
DEPTH = 100
"""What lies deeper is not shown."""
_COLOURED = 256 << 10
_TAB = "  "

Token: TypeAlias = tuple[str, str]
"""A kind, which is a class of CSS, or nothing; and a text."""


class Number(str):
    """A number by its digits: no number of 64 bits, or with many places, is rounded."""

    __slots__ = ()


class Pairs(list[tuple[str, Any]]):
    """An object with all its keys, also those that stand in it twice."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Shown:
    """JSON as markup."""

    html: Markup
    whole: bool
    """False if there was no room for the rest."""


def parsed(text: str) -> Any:
    """JSON as Pairs, lists, texts, Numbers, True, False and None. Raises ValueError, RecursionError."""
    return json.loads(text, parse_int=Number, parse_float=Number, parse_constant=Number, object_pairs_hook=Pairs)


def shown(text: str, room: int | None = ROOM) -> Shown:
    """This JSON text as markup; what is none is shown as it is. `room`: None for all of it, a long one uncoloured."""
    try:
        tokens = _value(parsed(text), 0)
    except (ValueError, RecursionError):
        tokens = iter([("", text)])
    if room is None and len(text) > _COLOURED:
        return Shown(escape("".join(part for _, part in tokens)), True)
    parts: list[Markup] = []
    used = 0
    for kind, part in tokens:
        if room is not None and used + len(part) > room:
            parts.append(_marked(kind, part[: max(0, room - used)]))
            return Shown(Markup("").join(parts), False)
        used += len(part)
        parts.append(_marked(kind, part))
    return Shown(Markup("").join(parts), True)


def as_json(value: Any) -> str:
    """JSON that was parsed, as text again."""
    return "".join(text for _, text in _value(value, 0))


def _marked(kind: str, text: str) -> Markup:
    return Markup('<span class="{}">{}</span>').format(kind, text) if kind else escape(text)


def _value(value: Any, depth: int) -> Iterator[Token]:
    if isinstance(value, list) and value:
        if depth >= DEPTH:
            yield "j-more", f"… (deeper than {DEPTH} levels)"
            return
        yield from _inside(value, depth)
    elif isinstance(value, Number):
        yield "j-num", str(value)
    elif isinstance(value, str):
        yield "j-str", quoted(value)
    elif isinstance(value, list):
        yield "j-lit", "{}" if isinstance(value, Pairs) else "[]"
    else:
        yield "j-lit", json.dumps(value)


def _inside(value: Any, depth: int) -> Iterator[Token]:
    is_object = isinstance(value, Pairs)
    margin = _TAB * (depth + 1)
    yield "", "{\n" if is_object else "[\n"
    for place, item in enumerate(value):
        yield "", f",\n{margin}" if place else margin
        if is_object:
            yield "j-key", quoted(item[0])
            yield "", ": "
        yield from _value(item[1] if is_object else item, depth + 1)
    yield "", f"\n{_TAB * depth}" + ("}" if is_object else "]")


def quoted(text: str) -> str:
    """A string of JSON that every page can hold: letters as they are, what cannot be shown as an escape."""
    plain = json.dumps(text, ensure_ascii=False)
    return plain if plain.isprintable() else "".join(map(_letter, plain))


def _letter(letter: str) -> str:
    if letter.isprintable():
        return letter
    units = letter.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
