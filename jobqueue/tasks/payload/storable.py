"""Whether all values of an annotation can be stored as JSON and come back: a look at pydantic's schema of it.

pydantic is content with annotations that only ever work inside one process, and writes secrets as asterisks. Both are
found here, at decoration, wherever in nested models they hide.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from pydantic import BaseModel, SecretBytes, SecretStr

Node = Mapping[str, Any]

_UNSTORABLE = {
    "callable": "contains a callable, which JSON cannot hold",
    "generator": "contains an iterator, which can be read only once; write list or Sequence",
    "is-instance": "contains objects of a class that pydantic cannot write as JSON",
    "is-subclass": "contains a class, which JSON cannot hold",
}
_ANYTHING = frozenset({"any", "function-plain"})
_SECRET = "contains a secret, which would be written as asterisks; pass a name to look it up by"  # noqa: S105 - a text
_KEYS = "contains a dict whose keys are not text; JSON has only text keys"

# Branches that JSON never takes, and values that belong to the user, not to the schema.
_SKIPPED = frozenset({"python_schema", "strict_schema", "metadata", "config", "default", "expected", "members"})
# Maps whose keys are the user's names.
_NAMED = frozenset({"fields", "choices"})


def find_fault(schema: Node, definitions: Mapping[str, Node]) -> str | None:
    """What keeps values of this schema from being stored, as the end of a sentence; None if nothing does."""
    faults = (_fault_of_node(node, definitions) for node in _nodes(schema, definitions))
    return next((fault for fault in faults if fault is not None), None)


def holds_anything(schema: Node, definitions: Mapping[str, Node]) -> bool:
    """Whether `Any` stands anywhere in a schema, or a function takes its place."""
    return any(node.get("type") in _ANYTHING for node in _nodes(schema, definitions))


def hides_differences(schema: Node, definitions: Mapping[str, Node]) -> bool:
    """Whether records of this schema can be equal though they differ: by a comparison of their own."""
    return any(_hides(node["cls"]) for node in _nodes(schema, definitions) if isinstance(node.get("cls"), type))


def _hides(record: type) -> bool:
    if issubclass(record, BaseModel):
        return record.__eq__ is not BaseModel.__eq__
    return is_dataclass(record) and not all(field.compare for field in fields(record))


def _nodes(schema: Node, definitions: Mapping[str, Node]) -> Iterator[Node]:
    """A schema and all that it consists of, each definition once."""
    visited: set[str] = set()
    open_nodes = [schema]
    while open_nodes:
        node = open_nodes.pop()
        yield node
        if node.get("type") == "definition-ref" and node["schema_ref"] not in visited:
            visited.add(node["schema_ref"])
            open_nodes.append(definitions[node["schema_ref"]])
        open_nodes.extend(_children(node))


def _children(node: Node) -> Iterator[Node]:
    for key, child in node.items():
        if key in _SKIPPED:
            continue
        if isinstance(child, dict) and key in _NAMED:
            yield from (named for named in child.values() if isinstance(named, dict))
        elif isinstance(child, dict):
            yield child
        elif isinstance(child, list):
            for item in child:  # the choices of a union stand alone or with a label: (schema, label)
                part = item[0] if isinstance(item, tuple) else item
                if isinstance(part, dict):
                    yield part


def _fault_of_node(node: Node, definitions: Mapping[str, Node]) -> str | None:
    if _is_secret(node):
        return _SECRET
    if "keys_schema" in node and not _has_text_keys(node["keys_schema"], definitions):
        return _KEYS
    return _UNSTORABLE.get(str(node.get("type")))


def _is_secret(node: Node) -> bool:
    function = node.get("function")
    if isinstance(function, type) and issubclass(function, SecretStr | SecretBytes):
        return True
    # Secret[T] shows itself by nothing but this function of pydantic.
    return getattr(function, "__module__", "") == "pydantic.types" and "secret" in getattr(function, "__name__", "")


def _has_text_keys(schema: Node, definitions: Mapping[str, Node]) -> bool:
    match schema["type"]:
        case "str" | "any":
            return True
        case "enum":
            return all(isinstance(member.value, str) for member in schema["members"])
        case "literal":
            return all(isinstance(value, str) for value in schema["expected"])
        case "definition-ref":
            return _has_text_keys(definitions[schema["schema_ref"]], definitions)
        case "function-after" | "function-before" | "function-wrap":
            return _has_text_keys(schema["schema"], definitions)
        case "union":
            return all(_has_text_keys(choice, definitions) for choice in schema["choices"])
    return False
