"""The strict JSON codec: exact or not at all, and never a value in an error."""

import json
import math
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, StrEnum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobqueue.base.codec import MAX_DEPTH, describe, encode, fingerprint, loads
from jobqueue.base.errors import InvalidPayload

LIMIT = 1 << 20


class Odd(Enum):
    NUMBER = math.nan
    TEXT = "x\0"


MARKER = "hunter2"

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
)
keys = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
json_values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=20)

bad_leaves = st.sampled_from(
    [
        float("nan"),
        float("-inf"),
        2**64,
        -(2**63) - 1,
        f"{MARKER}\0",
        f"{MARKER}\ud800",
        {MARKER},
        MARKER.encode(),
        object(),
        datetime.now(UTC),
        {1: MARKER},
        {(1, 2): MARKER},
        {None: MARKER},
        {f"{MARKER}\0": 1},
        {f"{MARKER}\udfff": 1},
    ]
)
bad_values = st.recursive(
    bad_leaves,
    lambda inner: (
        st.tuples(st.lists(scalars), inner).map(lambda pair: [*pair[0], pair[1]])
        | st.tuples(st.sampled_from(["mail", "a b"]), inner).map(lambda pair: {"first": MARKER, pair[0]: pair[1]})
    ),
    max_leaves=10,
)


def refusal(value: object, limit: int = LIMIT) -> InvalidPayload:
    with pytest.raises(InvalidPayload) as caught:
        encode(value, "send_mail arguments", limit)
    return caught.value


@given(json_values)
def test_what_is_written_is_read_back_as_it_was(value: Any) -> None:
    """Every JSON value within the limits comes back equal, by our reader and by everybody else's. (S4-05)"""
    text = encode(value, "value", LIMIT)

    assert value == loads(text)
    assert value == json.loads(text)


@given(bad_values)
def test_a_refusal_is_always_an_invalid_payload_and_quotes_nothing(value: Any) -> None:
    """Whatever JSON cannot hold, wherever it stands, is refused by InvalidPayload without the value in its text."""
    error = refusal({"payload": value})

    assert error.kind in {"nan", "integer", "nul", "surrogate", "type", "key"}
    assert error.path.startswith("payload")
    assert MARKER not in str(error)
    assert error.__context__ is None


@pytest.mark.parametrize(
    ("value", "path", "kind"),
    [
        (float("nan"), "", "nan"),
        ({"mail": {"to": [1, float("inf")]}}, "mail.to[1]", "nan"),
        ({"a": [{"b": 2**64}]}, "a[0].b", "integer"),
        ({"a": -(2**63) - 1}, "a", "integer"),
        ({"a": "x\0"}, "a", "nul"),
        ({"a": "x\ud800"}, "a", "surrogate"),
        ({"a": {"x\0": 1}}, "a", "nul"),
        ({"a": {"x\ud800": 1}}, "a", "surrogate"),
        ({"a": {1: 2}}, "a", "key"),
        ({"a": {(1, 2): 2}}, "a", "key"),
        ({"a": {1, 2}}, "a", "type"),
        (OrderedDict(a=[math.nan]), "a[0]", "nan"),
        ({"a": Odd.NUMBER}, "a", "nan"),
        ({"a": Odd.TEXT}, "a", "nul"),
    ],
)
def test_a_refusal_names_path_and_kind(value: object, path: str, kind: str) -> None:
    """The error says where the fault is and of which kind, for programs and in its text."""
    error = refusal(value)

    assert (path, kind) == (error.path, error.kind)
    assert str(error).startswith(f"send_mail arguments: {path}: " if path else "send_mail arguments: ")


def test_text_that_only_looks_like_an_escape_is_fine() -> None:
    """A backslash followed by u0000, and the word null, are text like any other."""
    value = {"a": "\\u0000", "b": "null", "c": None}

    assert value == loads(encode(value, "value", LIMIT))


@pytest.mark.parametrize("number", [2**64 - 1, -(2**63), 1e308, 5e-324, -0.0, 0.1])
def test_numbers_at_the_edge_are_exact(number: float) -> None:
    """The largest integers and the odd floats come back exactly."""
    assert repr(number) == repr(loads(encode(number, "value", LIMIT)))


def test_large_integers_from_elsewhere_are_read_exactly() -> None:
    """An integer beyond 64 bits, which SQL may have stored, is not read as a float."""
    assert {"n": 123456789012345678901234567890} == loads('{"n": 123456789012345678901234567890}')


@pytest.mark.parametrize(
    "text", ["", "{", "[NaN]", "[Infinity]", "1e400", "9" * 400, '"\\ud800"', f'{{"a": {MARKER}}}']
)
def test_bad_json_is_refused(text: str) -> None:
    """Text that is not JSON, or has a number beyond all limits, raises InvalidPayload and is not quoted. (S4-05)"""
    with pytest.raises(InvalidPayload) as caught:
        loads(text, "stored arguments")

    assert "json" == caught.value.kind
    assert MARKER not in str(caught.value)
    assert caught.value.__context__ is None


def nested(depth: int, value: object = 1) -> object:
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


def test_depth_is_limited() -> None:
    """A hundred levels are fine, one more is refused, and so are a thousand and a list that contains itself."""
    endless: list[object] = []
    endless.append(endless)

    assert nested(MAX_DEPTH) == loads(encode(nested(MAX_DEPTH), "value", LIMIT))
    for value in (nested(MAX_DEPTH + 1), nested(MAX_DEPTH, []), nested(MAX_DEPTH, {}), nested(900), endless):
        error = refusal(value)
        assert "depth" == error.kind
        assert str(MAX_DEPTH) in str(error)


def test_many_brackets_are_not_depth() -> None:
    """Wide values and brackets in text are no deeper than they are."""
    value = {"wide": [{} for _ in range(500)], "text": "[" * 500}

    assert value == loads(encode(value, "value", LIMIT))


def test_size_is_limited() -> None:
    """JSON of exactly the limit passes; one byte more is refused by an error that names limit and setting."""
    text = "é" * 10  # 20 bytes and two quotes

    assert f'"{text}"' == encode(text, "value", 22)
    error = refusal(text, limit=21)
    assert ("", "size") == (error.path, error.kind)
    assert "22 bytes" in str(error)
    assert "max_payload" in str(error)
    assert "21" in str(error)


def test_the_setting_in_a_size_error_can_be_another() -> None:
    """A result's size error names the limit of results."""
    with pytest.raises(InvalidPayload, match="max_result"):
        encode("long", "send_mail result", 3, setting="max_result")


def test_uuids_and_enums_have_a_text() -> None:
    """UUIDs and enum members are written, for they have one obvious JSON form."""

    class Colour(StrEnum):
        RED = "red"

    assert '["00000000-0000-0000-0000-000000000007","red"]' == encode([UUID(int=7), Colour.RED], "value", LIMIT)


def test_dataclasses_are_not_written_behind_your_back() -> None:
    """The codec itself writes JSON's own types; records are pydantic's business."""

    @dataclass
    class Point:
        x: int = 1

    error = refusal({"p": Point()})

    assert ("p", "type") == (error.path, error.kind)
    assert "Point" in str(error)


def test_paths_show_names_and_hide_data() -> None:
    """Keys that look like names are shown; others may be data, such as addresses, and are not; long paths are cut."""
    assert "mail.to[0]" == describe(["mail", "to", 0])
    assert "users[?].age" == describe(["users", "a@b.c", "age"])
    assert "a.a.a.a.a.a.a.a..." == describe(["a"] * 9)


@given(st.dictionaries(keys, scalars))
def test_a_fingerprint_ignores_the_order_of_keys(value: dict[str, Any]) -> None:
    """The same object written in another order has the same fingerprint, also after a round trip."""
    turned = dict(reversed(value.items()))

    assert fingerprint(encode(value, "value", LIMIT)) == fingerprint(encode(turned, "value", LIMIT))


def test_different_values_have_different_fingerprints() -> None:
    """Values that differ, if only in type, have different fingerprints of 64 characters."""
    prints = {fingerprint(text) for text in ('{"a":1}', '{"a":"1"}', '{"a":1.5}', '{"b":1}', '{"a":null}', "{}")}

    assert 6 == len(prints)
    assert {64} == {len(text) for text in prints}
