"""Whether a value comes back from JSON as it was given: the two are walked side by side where they are not equal.

pydantic writes an instance of a subclass without its extra fields, leaves out excluded fields and private attributes,
turns keys of a dict into text, and NaN under `Any` into null, all without a word. And a validator sees a value again
that it has changed before. Each is refused here, with its path. A value may be given in the form that JSON has for it,
a UUID as text. Under `Any` what JSON does not have comes back as JSON's own types: a set, a tuple as list, a model
as dict.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from decimal import Decimal
from functools import cache
from math import isfinite
from typing import Any, Final, NoReturn

from pydantic import BaseModel, Secret, SecretBytes, SecretStr, TypeAdapter

from jobqueue.base.codec import MAX_DEPTH, PathPart, describe, refuse_key
from jobqueue.base.errors import InvalidPayload

Path = tuple[PathPart, ...]

UNKNOWN: Final = object()
"""Stands for the counterpart of a value whose place in what came back is not known."""

_LEAVES = frozenset({str, int, bool, type(None)})


def are_equal(given: object, seen: object) -> bool:
    """Whether two values are equal; those whose comparison fails, or gives no plain answer, are not."""
    try:
        return bool(given == seen)
    except Exception:  # whatever a class of the user's does
        return False


def refuse_difference(given: object, seen: object, what: str, path: Path, *, anything: bool = True) -> None:
    """Raise InvalidPayload where `seen`, read back from JSON, has silently lost or changed something of `given`.

    `anything`: the annotation has `Any` in it somewhere, where a value may come back as what JSON has for it.
    """
    _Walk(what, anything).compare(given, seen, path)


@dataclass(frozen=True, slots=True)
class _Walk:
    what: str
    anything: bool

    def compare(self, given: object, seen: object, path: Path) -> None:
        if isinstance(given, float) and not isfinite(given) and (seen is None or seen is UNKNOWN):
            raise self._fault(path, "nan", "is NaN or infinite, which JSON cannot hold")
        if type(given) in _LEAVES:
            self._compare_leaf(given, seen, path)
        elif isinstance(given, Mapping):
            self._compare_mapping(given, seen, path)
        elif isinstance(given, list | tuple):
            self._compare_sequence(given, seen, path)
        elif isinstance(given, set | frozenset):
            self._compare_sets(given, seen, path)
        elif _is_record(given):
            self._compare_record(given, seen, path)
        elif isinstance(given, SecretStr | SecretBytes | Secret):
            raise self._fault(path, "secret", "is a secret, which would be written as asterisks")
        else:
            self._compare_leaf(given, seen, path)

    def _compare_leaf(self, given: object, seen: object, path: Path) -> None:
        if seen is UNKNOWN or are_equal(given, seen) or _is_form_of(given, seen):
            return
        if self.anything and are_equal(_json_form(given), seen):
            return
        raise self._changed(given, path)

    def _compare_mapping(self, given: Mapping[Any, object], seen: object, path: Path) -> None:
        for key, value in given.items():
            if type(key) is not str or not key.isprintable():
                refuse_key(key, self.what, path)
            self.compare(value, self._counterpart(seen, key, path), (*path, key))
        if isinstance(seen, Mapping) and len(seen) > len(given):
            raise self._changed(given, path)

    def _compare_sequence(self, given: list[Any] | tuple[Any, ...], seen: object, path: Path) -> None:
        if isinstance(seen, list | tuple | set | frozenset) and len(seen) != len(given):
            raise self._changed(given, path)
        for index, value in enumerate(given):
            self.compare(value, self._counterpart(seen, index, path), (*path, index))

    def _compare_sets(self, given: set[Any] | frozenset[Any], seen: object, path: Path) -> None:
        """Members of sets have no places: each must be there, records by their types."""
        there = seen if isinstance(seen, set | frozenset) else None
        types = {type(member) for member in there or ()}
        for value in given:
            if there is not None and _is_record(value) and type(value) not in types:
                raise self._other_type(value, path)
            self.compare(value, UNKNOWN, path)
            if there is None or _is_record(value) or value in there:
                continue
            if not any(_is_form_of(value, member) for member in there):
                raise self._changed(given, path)

    def _compare_record(self, given: object, seen: object, path: Path) -> None:
        if type(seen) is not type(given) and _is_record(seen):
            raise self._other_type(given, path)
        for name, value in _stored(given):
            self.compare(value, self._counterpart(seen, name, path), (*path, name))
        if isinstance(given, BaseModel):
            if given.__pydantic_extra__:
                self._compare_mapping(given.__pydantic_extra__, getattr(seen, "__pydantic_extra__", None), path)
            if type(seen) is type(given):
                self._compare_hidden(given, seen, path)

    def _compare_hidden(self, given: BaseModel, seen: Any, path: Path) -> None:
        """What pydantic never writes: it is lost unless it is made anew, with the same value."""
        known = type(given).model_fields
        for name, value in vars(given).items():
            if name in known and known[name].exclude and not _is_made_anew(value, getattr(seen, name, UNKNOWN)):
                raise self._fault((*path, name), "excluded", "is never written (exclude=True), so it would be lost")
        made = seen.__pydantic_private__ or {}
        for name, value in (given.__pydantic_private__ or {}).items():
            if not _is_made_anew(value, made.get(name, UNKNOWN)):
                raise self._fault((*path, name), "private", "is never written, being private, so it would be lost")

    def _counterpart(self, seen: object, part: PathPart, path: Path) -> object:
        if isinstance(part, int):
            return seen[part] if isinstance(seen, list | tuple) and part < len(seen) else UNKNOWN
        if isinstance(seen, Mapping):
            if part not in seen and not self.anything:  # a TypedDict's, which knows no such key
                raise self._fault((*path, part), "lost", "is unknown to the annotation, and would be left out")
            return seen.get(part, UNKNOWN)
        return getattr(seen, part, UNKNOWN) if _is_record(seen) else UNKNOWN

    def _changed(self, given: object, path: Path) -> InvalidPayload:
        rule = f"a {type(given).__name__} that would arrive as another value: the annotation or a validator changes it"
        return self._fault(path, "changed", rule)

    def _other_type(self, given: object, path: Path) -> InvalidPayload:
        """A record would come back as a record of another type: of its base class, or of another union member."""
        rule = f"a {type(given).__name__} would come back as another type, perhaps without some of its fields"
        return self._fault(path, "subclass", rule)

    def _fault(self, path: Path, kind: str, rule: str) -> InvalidPayload:
        return InvalidPayload(self.what, describe(path), kind, rule)


def _is_form_of(given: object, seen: object) -> bool:
    """Whether a value was given in its JSON form: of what JSON has as text only, any text that is read as the value.

    A Decimal may also be given as the float that is nearest to it.
    """
    if isinstance(seen, Decimal) and isinstance(given, float):
        return float(seen) == given
    form = _json_form(seen)
    if isinstance(given, str):
        return isinstance(form, str) and not isinstance(seen, str)
    return type(form) is type(given) and are_equal(form, given)


def _json_form(value: object) -> object:
    try:
        form: object = _anything().serializer.to_python(value, mode="json", warnings=False)
    except Exception:  # any error of a user's serializer has the same meaning here
        return UNKNOWN
    return form


def _is_made_anew(given: object, other: object) -> bool:
    """Whether another instance has the same: an equal value, or an object of the same kind that nothing is equal to."""
    if are_equal(given, other):
        return True
    return type(given) is type(other) and type(given).__eq__ is object.__eq__


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


@cache
def _anything() -> TypeAdapter[Any]:
    """Made when it is needed first: it would be a thirtieth of a worker's start."""
    return TypeAdapter(Any)


def _is_writable(value: object) -> bool:
    return _json_form(value) is not UNKNOWN


def _parts(value: object) -> Iterable[tuple[PathPart, object]]:
    if isinstance(value, Mapping):
        return ((key, child) for key, child in value.items() if isinstance(key, str))
    if isinstance(value, list | tuple | set | frozenset):
        return enumerate(value)
    return _stored(value)


def _is_record(value: object) -> bool:
    return isinstance(value, BaseModel) or (is_dataclass(value) and not isinstance(value, type))


def _stored(record: object) -> Iterable[tuple[str, object]]:
    """Names and values of the fields that pydantic writes."""
    if isinstance(record, BaseModel):
        known = type(record).model_fields
        return [(name, value) for name, value in vars(record).items() if name in known and not known[name].exclude]
    if is_dataclass(record) and not isinstance(record, type):
        return [(field.name, getattr(record, field.name, None)) for field in fields(record)]
    return ()
