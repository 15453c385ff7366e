"""A form from the JSON Schema of a task's arguments: a field for each, and what was put into it as JSON, exactly.

A field that is left empty gives nothing, so that the task's own default counts where it runs. What no plain field can
hold is written as JSON: then the field's name in the form begins with `json.`, else with `arg.`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import orjson
from pydantic import ConfigDict, TypeAdapter

from jobqueue.base.codec import loads
from jobqueue.base.errors import InvalidPayload

Kind: TypeAlias = Literal["text", "integer", "number", "boolean", "choice", "moment", "date", "json"]
_ANYTHING: TypeAdapter[Any] = TypeAdapter(Any, config=ConfigDict(ser_json_inf_nan="constants"))

AS_TYPED, AS_JSON = "arg.", "json."
_MOST_CHOICES = 200
_WORDS: Mapping[str, str] = {
    "text": "text", "integer": "whole number", "number": "number", "boolean": "true or false",
    "choice": "one of these", "moment": "time", "date": "date", "json": "JSON",
}  # fmt: skip
_HINTS: Mapping[str, str] = {"moment": "2026-03-01T12:00:00+01:00", "date": "2026-03-01"}
_KINDS: Mapping[object, Kind] = {"string": "text", "integer": "integer", "number": "number", "boolean": "boolean"}
_FORMATS: Mapping[object, Kind] = {"date-time": "moment", "date": "date"}
_INTEGER = re.compile(r"[+-]?\d{1,40}", re.ASCII)
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Field:
    """One argument in the form."""

    name: str
    kind: Kind
    required: bool
    takes_null: bool = False
    description: str | None = None
    default: str | None = None
    """As JSON text; None without one, or if it cannot be shown."""
    choices: tuple[tuple[str, str], ...] = ()
    """JSON text, and what stands on the page."""
    bounds: str | None = None
    """`at least 1`."""
    value: str = ""
    error: str | None = None

    @property
    def input(self) -> str:
        """Its name in the form."""
        return f"{AS_JSON if self.kind == 'json' else AS_TYPED}{self.name}"

    @property
    def words(self) -> str:
        """What is to be put in, for the reader."""
        parts = [_WORDS[self.kind], *([self.bounds] if self.bounds else []), *(["or null"] if self.takes_null else [])]
        return " ".join(parts)

    @property
    def hint(self) -> str:
        """An example; empty without."""
        return _HINTS.get(self.kind, "")


def fields_of(schema: Mapping[str, Any], defaults: Mapping[str, Any]) -> tuple[Field, ...]:
    """The fields for the arguments of a task, in the order of its parameters."""
    definitions = schema.get("$defs", {})
    required = frozenset(schema.get("required", ()))
    return tuple(
        _field(name, node, name in required, defaults, definitions)
        for name, node in schema.get("properties", {}).items()
    )


def filled(fields: tuple[Field, ...], values: Mapping[str, Any]) -> tuple[Field, ...]:
    """The same with these values, as JSON has them; what a plain field cannot hold exactly stands there as JSON."""
    return tuple(_filled(field, values[field.name]) if field.name in values else field for field in fields)


def taken(field: Field, data: Mapping[str, str]) -> tuple[Field, str | None]:
    """What was put into a field: itself with that, and with an error if it cannot be; and the JSON text of it."""
    typed = AS_JSON + field.name not in data
    text = data.get((AS_TYPED if typed else AS_JSON) + field.name, "")
    given = replace(field, kind=field.kind if typed else "json", value=text)
    if not text.strip() and not (text and given.kind == "text"):
        return _nothing(given)
    fault, json_text = _read(given, text)
    return replace(given, error=fault), json_text


def unknown(fields: tuple[Field, ...], data: Mapping[str, str]) -> list[str]:
    """Arguments in a form that the task does not have any more."""
    names = {field.name for field in fields}
    given = {name.partition(".")[2] for name in data if name.startswith((AS_TYPED, AS_JSON))}
    return sorted(given - names)


def json_of(value: object) -> str | None:
    """JSON text of a value of any kind; None for what has none."""
    try:
        return _ANYTHING.dump_json(value).decode()
    except Exception:  # whatever a user's default is made of
        return None


def _field(
    name: str, node: Mapping[str, Any], required: bool, defaults: Mapping[str, Any], definitions: Mapping[str, Any]
) -> Field:
    plain, takes_null = _plain(node, definitions)
    choices = _choices(plain)
    kind: Kind = "choice" if choices else _kind(plain)
    if kind == "boolean":
        choices = (("true", "true"), ("false", "false"))
    return Field(
        name, kind, required, takes_null, node.get("description") or plain.get("description"),
        json_of(defaults[name]) if name in defaults else None, choices, _bounds(plain),
    )  # fmt: skip


def _plain(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """A schema without references and without `or null`; and whether null would do."""
    if isinstance(reference := node.get("$ref"), str):
        return _plain(definitions.get(reference.rpartition("/")[2], {}), {})
    options = node.get("anyOf")
    if not isinstance(options, list):
        return node, False
    others = [option for option in options if option.get("type") != "null"]
    if len(others) == 1:
        return _plain(others[0], definitions)[0], len(options) > 1
    return {}, False


def _kind(plain: Mapping[str, Any]) -> Kind:
    kind = plain.get("type")
    if kind == "string":
        return _FORMATS.get(plain.get("format"), "text")
    return _KINDS.get(kind, "json") if isinstance(kind, str) else "json"


def _choices(plain: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    values = plain.get("enum", [plain["const"]] if "const" in plain else [])
    if not 0 < len(values) <= _MOST_CHOICES:
        return ()
    return tuple(
        (json_of(value) or "null", value if isinstance(value, str) else json_of(value) or "") for value in values
    )


def _bounds(plain: Mapping[str, Any]) -> str | None:
    words = {
        "minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below",
        "minLength": "of at least characters:", "maxLength": "of at most characters:",
    }  # fmt: skip
    said = [f"{word} {plain[key]}" for key, word in words.items() if key in plain]
    return ", ".join(said) or None


def _filled(field: Field, value: Any) -> Field:
    text = json_of(value) or "null"
    exact = {
        "text": isinstance(value, str) and bool(value) and not re.search(r"[\r\n]", value),
        "moment": isinstance(value, str), "date": isinstance(value, str),
        "integer": type(value) is int, "number": type(value) in (int, float),
        "boolean": isinstance(value, bool), "choice": any(text == choice for choice, _ in field.choices), "json": False,
    }[field.kind]  # fmt: skip
    if not exact:
        return replace(field, kind="json", value=text)
    return replace(field, value=value if field.kind in ("text", "moment", "date") else text)


def _nothing(field: Field) -> tuple[Field, str | None]:
    if not field.required:
        return field, None
    if field.takes_null and field.kind != "json":
        return field, "null"
    if field.kind == "text":
        return field, '""'
    return replace(field, error="is missing"), None


def _read(field: Field, text: str) -> tuple[str | None, str | None]:
    """What is wrong, or the JSON text."""
    match field.kind:
        case "text" | "moment" | "date":
            return (None, orjson.dumps(text).decode()) if _is_unicode(text) else ("is no text that can be stored", None)
        case "integer":
            whole = text.strip()
            return (None, str(int(whole))) if _INTEGER.fullmatch(whole) else ("must be a whole number", None)
        case "number":
            number = text.strip()
            return (None, number) if _NUMBER.fullmatch(number) else ("must be a number, such as 0.25", None)
        case "boolean" | "choice":
            return (None, text) if any(text == choice for choice, _ in field.choices) else ("choose one of these", None)
        case "json":
            return _json(text)


def _json(text: str) -> tuple[str | None, str | None]:
    try:
        loads(text, "JSON")
    except InvalidPayload as error:
        return error.rule, None
    return None, text


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
