"""Values of one annotation to JSON text and back, strictly.

What is written is read back at once: a model with wrong fields, a value that JSON or a validator would change or a
payload that is too large fails where it was made, not in the worker. No error quotes a value, and none has a cause that
does. To compare what was given with what would arrive costs a comparison in C where they are equal, which is nearly
always (measured: 12 µs for a small model instead of 22); only else are they walked.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, cast

from pydantic import PydanticUndefinedAnnotation, PydanticUserError, TypeAdapter, ValidationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, JsonSchemaWarningKind

from jobqueue.base.codec import PathPart, describe, encode, refuse_bad_json
from jobqueue.base.errors import InvalidPayload
from jobqueue.tasks.payload.faithful import are_equal, refuse_difference, refuse_unwritable
from jobqueue.tasks.payload.storable import Node, find_fault, hides_differences, holds_anything

_FAILED: Final = object()
_KIND = re.compile(r"[a-z][a-z_]{0,59}")
_RULES = {
    "missing": "is missing",
    "extra_forbidden": "is unknown to the signature",
    "json_invalid": "is not valid JSON",
}


class Incomplete(Exception):
    """Raised while a model in the annotation refers to a name that is not defined yet; it may be later."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class _Described(GenerateJsonSchema):
    """Leaves out what JSON Schema has no words for, instead of an error."""

    def emit_warning(self, kind: JsonSchemaWarningKind, detail: str) -> None:
        """Nobody reads it."""

    def handle_invalid_for_json_schema(self, schema: object, error_info: str) -> JsonSchemaValue:
        """`{}`: anything."""
        return {}


class Adapter:
    """Writes and reads values of one annotation. Making one costs about 0.3 ms, most of it pydantic's schema.

    Raises Incomplete, or what pydantic says of an annotation that it cannot handle.
    """

    __slots__ = ("_definitions", "_dump", "_hides", "_schema", "_validate", "takes_none")

    def __init__(self, annotation: Any) -> None:
        try:
            adapter: TypeAdapter[Any] = TypeAdapter(annotation)
            self._schema: Node = dict(adapter.core_schema.items())  # of an incomplete model only now an error
        except PydanticUndefinedAnnotation as error:
            raise Incomplete(error.name or "?") from None
        except PydanticUserError as error:
            if error.code != "class-not-fully-defined":
                raise
            raise Incomplete(_name_in(error)) from None
        listed = self._schema["definitions"] if self._schema["type"] == "definitions" else ()
        self._definitions = {definition["ref"]: definition for definition in listed}
        self._hides = hides_differences(self.schema, self._definitions)
        self._dump = adapter.serializer.to_python
        self._validate = adapter.validator.validate_json
        self.takes_none = self.schema["type"] in ("any", "none")
        """Whether None needs no look: it is a value of it, and JSON has it as null."""

    @property
    def schema(self) -> Node:
        """pydantic's schema, without the definitions around it."""
        schema: Node = self._schema["schema"] if self._schema["type"] == "definitions" else self._schema
        return schema

    @property
    def definitions(self) -> Mapping[str, Node]:
        """The schemas that it refers to, by their references."""
        return self._definitions

    @property
    def json_schema(self) -> dict[str, Any]:
        """Of the JSON that is read, as JSON Schema; `{}` stands for what cannot be said in it."""
        return _Described().generate(cast(Any, self._schema), mode="validation")

    def fields(self) -> Mapping[str, Node]:
        """The schemas of a TypedDict's fields."""
        return {name: field["schema"] for name, field in self.schema["fields"].items()}

    def find_fault(self, schema: Node) -> str | None:
        """What keeps values of (a part of) this adapter's schema from being stored."""
        return find_fault(schema, self._definitions)

    def write(self, value: Any, what: str, limit: int, setting: str, raw: Mapping[str, str] | None = None) -> str:
        """JSON text of `value`; `raw` are fields that are JSON text already. Raises InvalidPayload."""
        try:
            dumped = self._dump(value, mode="json", by_alias=True, round_trip=True, warnings=False)
        except Exception:  # any error of a user's serializer has the same meaning; none may show the value
            dumped = _FAILED
        if dumped is _FAILED:
            refuse_unwritable(value, what, ())
        if raw:
            dumped.update(raw)
        text = encode(dumped, what, limit, setting)
        seen = self._read(text, what)
        if self._hides or not are_equal(value, seen):
            self._refuse_difference(value, seen, what)
        return text

    def canonical(self, text: str, what: str) -> str:
        """The one text of all that are read as the same value: `3` for a float is `3.0`. Nothing is added to it."""
        seen = self._read(text, what)
        same = self._dump(seen, mode="json", by_alias=True, round_trip=True, exclude_unset=True, warnings=False)
        return encode(same, what, 4 * len(text) + 100, "max_payload")

    def read(self, text: str, what: str) -> Any:
        """The value of a JSON text. Raises InvalidPayload if it does not fit the annotation."""
        refuse_bad_json(text, what)
        return self._read(text, what)

    def _refuse_difference(self, value: Any, seen: Any, what: str) -> None:
        """Look at arguments one by one: what one of them may be is no excuse for another."""
        fields = self.fields() if self.schema["type"] == "typed-dict" and isinstance(value, Mapping) else {}
        for name in fields.keys() & getattr(value, "keys", tuple)():
            anything = holds_anything(fields[name], self._definitions)
            refuse_difference(value[name], seen[name], what, (name,), anything=anything)
        if not fields or value.keys() - fields:
            refuse_difference(value, seen, what, (), anything=holds_anything(self.schema, self._definitions))

    def _read(self, text: str, what: str) -> Any:
        try:
            return self._validate(text)
        except ValidationError as error:
            fault = _first_fault(error, what)
        except Exception as error:  # a user's validator may raise anything
            fault = InvalidPayload(what, "", "validator", f"a validator raised {type(error).__name__}")
        raise fault


def _first_fault(error: ValidationError, what: str) -> InvalidPayload:
    """The first of pydantic's findings, without its message, which quotes the value."""
    found = error.errors(include_input=False, include_context=False)[0]
    path: tuple[PathPart, ...] = found["loc"]
    # pydantic's own kinds have a page to link to; a user's own kind may carry a value.
    kind = found["type"] if "url" in found and _KIND.fullmatch(found["type"]) else "custom"
    return InvalidPayload(what, describe(path), kind, _RULES.get(kind, f"does not fit the annotation ({kind})"))


def _name_in(error: PydanticUserError) -> str:
    named = re.search(r"define `([^`]+)`", error.message)
    return named[1] if named else "?"
