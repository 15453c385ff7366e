"""What an annotation is as JSON, as far as pydantic's schema of it tells: which names an object has, what may be a key.

Only what is certain is refused: behind `Any`, a dict or a serializer of the user's anything may come.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Node: TypeAlias = Mapping[str, Any]

MISSING = object()
"""In place of a default: there is none."""

_INNER = {
    "default": "schema",
    "nullable": "schema",
    "function-after": "schema",
    "function-before": "schema",
    "function-wrap": "schema",
    "json-or-python": "json_schema",
    "definitions": "schema",
}
_RECORDS = frozenset({"typed-dict", "model-fields", "dataclass-args"})
_KEYS = frozenset({
    "str", "int", "uuid", "date", "time", "datetime", "timedelta", "decimal", "url", "multi-host-url", "bytes",
})  # fmt: skip
_WORDS = {"str": "text", "int": "a whole number", "uuid": "a UUID", "bool": "true or false"}
_NO_KEYS = frozenset({
    "float", "bool", "complex", "list", "set", "frozenset", "tuple", "dict", "typed-dict", "model-fields",
    "dataclass-args",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Field:
    """One name of an object: what stands there, and what is meant where it is left out."""

    schema: Node
    otherwise: Any


def shapes(schema: Node, definitions: Mapping[str, Node]) -> Iterator[Node]:
    """What values of a schema may be as JSON, without what only wraps them. Empty: null alone."""
    kind = schema["type"]
    if "serialization" in schema:
        yield {"type": "str" if schema["serialization"]["type"] == "to-string" else "any"}
    elif kind == "definition-ref":
        yield from shapes(definitions[schema["schema_ref"]], definitions)
    elif kind in _INNER:
        yield from shapes(schema[_INNER[kind]], definitions)
    elif kind in ("model", "dataclass"):
        inner = schema["schema"]
        free = _takes_more(schema)
        yield from ([{"type": "any"}] if free else shapes(inner, definitions))
    elif kind == "union":
        for choice in schema["choices"]:
            yield from shapes(choice[0] if isinstance(choice, tuple) else choice, definitions)
    elif kind == "tagged-union":
        for choice in schema["choices"].values():
            yield from shapes(choice, definitions)
    elif kind != "none":
        yield schema


def names(shape: Node) -> Mapping[str, Field] | None:
    """What an object of this shape has, by its names as JSON; None if it has no fixed names."""
    if shape["type"] not in _RECORDS:
        return None
    listed = shape["fields"]
    pairs = [(each["name"], each) for each in listed] if isinstance(listed, list) else listed.items()
    return {
        field.get("serialization_alias") or name: Field(field["schema"], _otherwise(field))
        for name, field in pairs
        if not field.get("serialization_exclude")
    }


def below(shape: Node, name: str) -> Field | None:
    """What stands under a name of a shape; None if nothing can."""
    listed = names(shape)
    if listed is not None:
        return listed.get(name) or (Field({"type": "any"}, MISSING) if _takes_more(shape) else None)
    if shape["type"] == "dict":
        return Field(shape.get("values_schema", {"type": "any"}), MISSING)
    return None if shape["type"] in _KEYS | _NO_KEYS | {"enum", "literal"} else Field({"type": "any"}, MISSING)


def may_be_key(shape: Node) -> bool:
    """Whether a value of this shape can be the key of a limit."""
    if shape["type"] == "enum":
        return all(_is_key(member.value) for member in shape["members"])
    if shape["type"] == "literal":
        return all(_is_key(getattr(value, "value", value)) for value in shape["expected"])
    return shape["type"] not in _NO_KEYS


def say(shape: Node) -> str:
    """A shape, in one word."""
    kind = str(shape["type"])
    return "an object" if kind in _RECORDS else _WORDS.get(kind, f"a {kind}")


def _is_key(value: object) -> bool:
    return value is None or (isinstance(value, str | int) and not isinstance(value, bool))


def _takes_more(schema: Node) -> bool:
    """Whether there may be names that nobody has written down."""
    said = schema.get("extra_behavior") or (schema.get("config") or {}).get("extra_fields_behavior")
    return said == "allow"


def _otherwise(field: Node) -> Any:
    """What is meant where the name is left out, as Python has it."""
    schema = field["schema"]
    if schema["type"] == "default" and "default" in schema:
        return schema["default"]
    return None if field.get("required") is False else MISSING
