"""A task as code: its signature in one line, and how it is deferred from Python and from SQL."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_type_hints

_LONGEST = 60


def signature_text(function: Callable[..., Any], parameters: Sequence[str]) -> str:
    """`(order: int, *, cents: int = 100) -> None`: these parameters, annotations as they are written."""
    shape, hints = inspect.signature(function), _hints(function)
    shown = [part for part in shape.parameters.values() if part.name in parameters]
    kinds = [part.kind for part in shown]
    words: list[str] = []
    for place, part in enumerate(shown):
        if part.kind is part.KEYWORD_ONLY and part.KEYWORD_ONLY not in kinds[:place]:
            words.append("*")
        words.append(_parameter(part, hints))
        if part.kind is part.POSITIONAL_ONLY and part.POSITIONAL_ONLY not in kinds[place + 1 :]:
            words.append("/")
    result = hints.get("return", shape.return_annotation)
    return f"({', '.join(words)})" + ("" if result is shape.empty else f" -> {_annotation(result)}")


def python_call(function: Callable[..., Any], needed: Sequence[str], only_by_place: Sequence[str]) -> str:
    """How a program defers it; `...` stands for each argument that must be given."""
    name = function.__qualname__
    given = [name if name not in only_by_place else "..." for name in needed]
    args = ", ".join("..." if each == "..." else f"{each}=..." for each in given)
    return f"from {function.__module__} import {name}\n\nawait {name}.defer({args})"


def sql_call(schema: str, task: str, needed: Sequence[str], queue: str) -> str:
    """How SQL does; `null` stands for each argument that must be given."""
    args = ", ".join(f'"{name}": null' for name in needed)
    elsewhere = "" if queue == "default" else f", queue => {_text(queue)}"
    return f"select {_name(schema)}.defer({_text(task)}, {_text('{' + args + '}')}{elsewhere});"


def _hints(function: Callable[..., Any]) -> Mapping[str, Any]:
    """The annotations without what stands beside types; nothing where a name is unknown here."""
    try:
        return get_type_hints(function)
    except Exception:  # whatever the names of a user's annotations lead to
        return {}


def _parameter(part: inspect.Parameter, hints: Mapping[str, Any]) -> str:
    annotation = hints.get(part.name, part.annotation)
    text = part.name if annotation is part.empty else f"{part.name}: {_annotation(annotation)}"
    return text if part.default is part.empty else f"{text} = {_shown(part.default)}"


def _annotation(annotation: Any) -> str:
    """As it would be written: without the modules that names come from."""
    if annotation is type(None):
        return "None"
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\b(?:[A-Za-z_]\w*\.)+(?=[A-Za-z_])", "", text)


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # whatever a user's class does there
        return "…"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _name(value: str) -> str:
    return (
        value if value.isidentifier() and value.islower() and value.isascii() else '"' + value.replace('"', '""') + '"'
    )
