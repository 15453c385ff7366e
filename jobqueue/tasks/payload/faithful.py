"""Whether a value comes back from JSON as it was given: the two are walked side by side.

pydantic writes an instance of a subclass without its extra fields, keys of a dict as text, and NaN under `Any` as null,
all without a word. Each is refused here, with its path. Under `Any` the rest comes back as JSON's own types: a set, a
tuple as list, a model as dict.
"""

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from math import isfinite
from typing import Any, Final, NoReturn

from pydantic import BaseModel, Secret, SecretBytes, SecretStr, TypeAdapter

from jobqueue.base.codec import MAX_DEPTH, PathPart, describe, refuse_key
from jobqueue.base.errors import InvalidPayload

Path = tuple[PathPart, ...]

UNKNOWN: Final = object()
"""Stands for the counterpart of a value whose place in what came back is not known."""

_LEAVES = frozenset({str, int, bool, type(None)})


def refuse_difference(given: object, seen: object, what: str, path: Path) -> None:
    """Raise InvalidPayload where `seen`, read back from JSON, has silently lost something of `given`."""
    kind = type(given)
    if kind in _LEAVES:
        return
    if isinstance(given, float):
        if (seen is None or seen is UNKNOWN) and not isfinite(given):
            raise InvalidPayload(what, describe(path), "nan", "is NaN or infinite, which JSON cannot hold")
    elif isinstance(given, Mapping):
        _compare_mapping(given, seen, what, path)
    elif isinstance(given, list | tuple):
        _compare_sequence(given, seen, what, path)
    elif isinstance(given, set | frozenset):
        _compare_sets(given, seen, what, path)
    elif _is_record(given):
        _compare_record(given, seen, what, path)
    elif isinstance(given, SecretStr | SecretBytes | Secret):
        raise InvalidPayload(what, describe(path), "secret", "is a secret, which would be written as asterisks")


def refuse_unwritable(value: object, what: str, path: Path) -> NoReturn:
    """Raise InvalidPayload for the innermost part of `value` that pydantic cannot write as JSON."""
    too_deep = InvalidPayload(what, describe(path), "depth", f"is nested deeper than {MAX_DEPTH} levels")
    if len(path) > MAX_DEPTH:
        raise too_deep
    for part, child in _parts(value):
        if not _is_writable(child):
            refuse_unwritable(child, what, (*path, part))
    if isinstance(value, Mapping):
        for key in value:
            refuse_key(key, what, path)
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        raise too_deep  # nothing else is left: each part alone can be written
    if isinstance(value, str):
        raise InvalidPayload(what, describe(path), "surrogate", "contains half of a surrogate pair")
    if isinstance(value, bytes | bytearray):
        raise InvalidPayload(what, describe(path), "bytes", "has bytes that are not UTF-8; encode them, say as base64")
    rule = f"a value of type {type(value).__name__} cannot be written as JSON"
    raise InvalidPayload(what, describe(path), "type", rule)


_ANYTHING: TypeAdapter[Any] = TypeAdapter(Any)


def _is_writable(value: object) -> bool:
    try:
        _ANYTHING.serializer.to_python(value, mode="json", warnings=False)
    except Exception:  # any error of a user's serializer has the same meaning here
        return False
    return True


def _parts(value: object) -> Iterable[tuple[PathPart, object]]:
    if isinstance(value, Mapping):
        return ((key, child) for key, child in value.items() if isinstance(key, str))
    if isinstance(value, list | tuple | set | frozenset):
        return enumerate(value)
    return _stored(value)


def _compare_mapping(given: Mapping[Any, object], seen: object, what: str, path: Path) -> None:
    for key, value in given.items():
        if type(key) is not str or not key.isprintable():
            refuse_key(key, what, path)
        if type(value) not in _LEAVES:
            refuse_difference(value, _counterpart(seen, key), what, (*path, key))


def _compare_sequence(given: list[Any] | tuple[Any, ...], seen: object, what: str, path: Path) -> None:
    for index, value in enumerate(given):
        if type(value) not in _LEAVES:
            refuse_difference(value, _counterpart(seen, index), what, (*path, index))


def _compare_sets(given: set[Any] | frozenset[Any], seen: object, what: str, path: Path) -> None:
    """Members of sets have no places: of what came back only the types are looked at."""
    types = {type(member) for member in seen} if isinstance(seen, set | frozenset) else None
    for value in given:
        if types is not None and _is_record(value) and type(value) not in types:
            _refuse_other_type(value, what, path)
        refuse_difference(value, UNKNOWN, what, path)


def _compare_record(given: object, seen: object, what: str, path: Path) -> None:
    if type(seen) is not type(given) and _is_record(seen):
        _refuse_other_type(given, what, path)
    for name, value in _stored(given):
        if type(value) not in _LEAVES:
            refuse_difference(value, _counterpart(seen, name), what, (*path, name))
    if isinstance(given, BaseModel) and given.__pydantic_extra__:
        _compare_mapping(given.__pydantic_extra__, getattr(seen, "__pydantic_extra__", None), what, path)


def _counterpart(seen: object, part: PathPart) -> object:
    if isinstance(part, int):
        return seen[part] if isinstance(seen, list | tuple) and part < len(seen) else UNKNOWN
    if isinstance(seen, Mapping):
        return seen.get(part, UNKNOWN)
    return getattr(seen, part, UNKNOWN) if _is_record(seen) else UNKNOWN


def _is_record(value: object) -> bool:
    return isinstance(value, BaseModel) or (is_dataclass(value) and not isinstance(value, type))


def _refuse_other_type(given: object, what: str, path: Path) -> None:
    """A record would come back as a record of another type: of its base class, or of another member of a union."""
    rule = f"a {type(given).__name__} would come back as another type, perhaps without some of its fields"
    raise InvalidPayload(what, describe(path), "subclass", rule)


def _stored(record: object) -> Iterable[tuple[str, object]]:
    """Names and values of the fields that pydantic writes."""
    if isinstance(record, BaseModel):
        known = type(record).model_fields
        return [(name, value) for name, value in vars(record).items() if name in known and not known[name].exclude]
    if is_dataclass(record) and not isinstance(record, type):
        return [(field.name, getattr(record, field.name, None)) for field in fields(record)]
    return ()
