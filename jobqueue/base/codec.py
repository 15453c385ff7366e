"""JSON in and out, exact or not at all.

orjson is fast but forgiving: it writes NaN as `null` and reads integers beyond 64 bits as floats. So what it writes is
looked at again wherever it could have been forgiving, and only then the value itself is walked, to find the place. No
error quotes a value: it names the path, the kind of fault and the rule.
"""

import json
import re
from collections.abc import Iterable
from enum import Enum
from hashlib import sha256
from math import isfinite
from typing import Any

import orjson

from jobqueue.base.errors import InvalidPayload

MAX_DEPTH = 100
"""Containers inside each other, the outermost one counted."""

PathPart = str | int

_EXACT = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
_LONG_NUMBER = re.compile(r"\d{19}")
_SHOWN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")
_SHOWN_PARTS = 8
_ATOMS = frozenset({str, int, bool, type(None)})


def encode(value: object, what: str, limit: int, setting: str = "max_payload") -> str:
    """JSON text of `value`, at most `limit` bytes. Raises InvalidPayload, which says where and why.

    UUIDs and enum members are written as their text or value; dataclasses and datetimes are refused, as all else.
    """
    data = _dump(value)
    if data is None:
        refuse_faults(value, what)
        raise InvalidPayload(what, "", "type", "cannot be written as JSON")
    if len(data) > limit:
        raise InvalidPayload(what, "", "size", f"{len(data)} bytes of JSON, more than {setting} allows ({limit})")
    # None and many brackets are common: a quick look tells most of them from NaN and from depth, of which each level
    # takes two bytes.
    deep = len(data) > 2 * MAX_DEPTH and data.count(b"{") + data.count(b"[") > MAX_DEPTH
    suspicious = deep or b"null" in data
    if b"\\u0000" in data or (suspicious and not _is_shallow_and_finite(value)):
        refuse_faults(value, what)
    return data.decode()


def loads(text: str, what: str = "JSON") -> Any:
    """The value of a JSON text, integers of any size exactly. Raises InvalidPayload."""
    refuse_bad_json(text, what)
    try:
        return json.loads(text) if _LONG_NUMBER.search(text) else orjson.loads(text)
    except RecursionError:
        raise InvalidPayload(what, "", "depth", f"is nested deeper than {MAX_DEPTH} levels") from None


def refuse_bad_json(text: str, what: str) -> None:
    """Raise InvalidPayload unless `text` is JSON whose numbers are finite and whose text is Unicode."""
    try:
        orjson.loads(text)
        return
    except orjson.JSONDecodeError:  # it carries the whole text, so ours must not be raised in here
        pass
    raise InvalidPayload(what, "", "json", "is not valid JSON, or has a number beyond all limits")


def fingerprint(text: str) -> str:
    """SHA-256 of a JSON text that `encode` wrote; the order of keys does not matter."""
    return sha256(orjson.dumps(orjson.loads(text), option=orjson.OPT_SORT_KEYS)).hexdigest()


def refuse_faults(value: object, what: str, path: tuple[PathPart, ...] = ()) -> None:
    """Walk a value made of JSON's own types and raise InvalidPayload for the first part that JSON cannot hold."""
    if isinstance(value, Enum):
        value = value.value
    fault = _text_fault(value) if isinstance(value, str) else _number_fault(value)
    if fault is not None:
        raise InvalidPayload(what, describe(path), *fault)
    if isinstance(value, dict | list | tuple):
        if len(path) >= MAX_DEPTH:
            raise InvalidPayload(what, describe(path), "depth", f"is nested deeper than {MAX_DEPTH} levels")
        if isinstance(value, dict):
            _refuse_bad_keys(value, what, path)
        for part, child in value.items() if isinstance(value, dict) else enumerate(value):
            refuse_faults(child, what, (*path, part))
    elif not isinstance(value, str | int | float | None) and _dump(value) is None:
        rule = f"a value of type {type(value).__name__} cannot be written as JSON"
        raise InvalidPayload(what, describe(path), "type", rule)


def refuse_key(key: object, what: str, path: tuple[PathPart, ...]) -> None:
    """Raise InvalidPayload for a dict's key that JSON would change or cannot hold."""
    if not isinstance(key, str):
        rule = f"has a key of type {type(key).__name__}; JSON has only text keys"
        raise InvalidPayload(what, describe(path), "key", rule)
    fault = _text_fault(key)
    if fault is not None:
        raise InvalidPayload(what, describe(path), fault[0], f"has a key that {fault[1]}")


def describe(path: Iterable[PathPart]) -> str:
    """A path as text: `mail.to[0]`. Only keys that look like names are shown, for others may be data."""
    parts = list(path)
    text = ""
    for part in parts[:_SHOWN_PARTS]:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _SHOWN_KEY.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += "[?]"
    return text + ("..." if len(parts) > _SHOWN_PARTS else "")


def _dump(value: object) -> bytes | None:
    try:
        return orjson.dumps(value, option=_EXACT)
    except TypeError:
        return None


def _refuse_bad_keys(value: dict[Any, Any], what: str, path: tuple[PathPart, ...]) -> None:
    for key in value:
        refuse_key(key, what, path)


def _is_shallow_and_finite(value: object) -> bool:
    """Level by level: 5 ms for 75 000 values, where `refuse_faults` takes 40, for it keeps the path."""
    level: list[Any] = [value]
    for depth in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for part in level:
            if type(part) in _ATOMS:
                continue
            if depth == MAX_DEPTH and isinstance(part, dict | list | tuple):
                return False
            if isinstance(part, dict):
                below.extend(part.values())
            elif isinstance(part, list | tuple):
                below.extend(part)
            elif isinstance(part, Enum):
                below.append(part.value)
            elif isinstance(part, float) and not isfinite(part):
                return False
        if not below:
            return True
        level = below
    return False


def _text_fault(text: str) -> tuple[str, str] | None:
    if "\0" in text:
        return "nul", "contains a NUL character, which PostgreSQL cannot store"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "surrogate", "contains half of a surrogate pair, which is not valid Unicode"
    return None


def _number_fault(value: object) -> tuple[str, str] | None:
    if isinstance(value, float) and not isfinite(value):
        return "nan", "is NaN or infinite, which JSON cannot hold"
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return "integer", "is an integer beyond 64 bits; send it as text"
    return None
