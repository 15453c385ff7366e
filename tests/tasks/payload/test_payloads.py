"""Payloads and results come back as they went, and stored ones that do not fit only raise."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    Json,
)

from jobqueue.base.errors import InvalidPayload
from jobqueue.tasks.payload.signature import Signature
from tests.tasks.payload.payloads import (
    LIMIT,
    MARKER,
    Box,
    Cached,
    Cat,
    Colour,
    Dog,
    HoldsJson,
    Letter,
    Level,
    Mail,
    Numbers,
    Open,
    Options,
    Pair,
    Pet,
    Point,
    Slotted,
    Tag,
    UrgentMail,
    WithAlias,
    WithComputed,
    refusal,
    round_trip,
    taking,
)

ROUND_TRIPS: list[tuple[Any, Any]] = [
    (dict, {"a": [1, None, {"b": 1.5}], "ö": "✓"}),
    (dict[str, Any], {"a": {"b": None}}),
    (list[int], [1, 2]),
    (list, [1, "a", None]),
    (int | None, None),
    (str, ""),
    (bool, True),
    (float, 0.1),
    (Any, None),
    (Point, Point(1.5, None)),
    (Slotted, Slotted([Point(1, 2)])),
    (Mail, Mail(to="a@b.c", copies=2)),
    (Letter, Letter(mails=[Mail(to="a")], by_name={"x": Mail(to="b")}, first=Mail(to="c"))),
    (Options, {"depth": 3, "mail": Mail(to="a")}),
    (Pair, Pair(1, Mail(to="a"))),
    (Colour, Colour.RED),
    (Level, Level.HIGH),
    (Literal["a", 1], 1),
    (datetime, datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)),
    (date, date(2030, 1, 2)),
    (timedelta, timedelta(days=1, microseconds=3)),
    (UUID, UUID(int=7)),
    (Decimal, Decimal("1.10")),
    (bytes, "grüße".encode()),
    (Path, Path("a/b.txt")),
    (set[int], {1, 2}),
    (frozenset[Tag], frozenset({Tag("a"), Tag("b")})),
    (tuple[int, str], (1, "a")),
    (tuple[Mail, ...], (Mail(to="a"), Mail(to="b"))),
    (dict[Literal["a"], set[int]], {"a": {1}}),
    (list[Mail | None] | None, [None, Mail(to="a")]),
    (int | str | list[int], "5"),
    (Pet, Dog(name="rex")),
    (list[Pet], [Cat(name="tom"), Dog(name="rex")]),
    (Box[Mail], Box[Mail](content=Mail(to="a"))),
    (Box[list[int]], Box[list[int]](content=[1])),
    (Numbers, Numbers([1, 2])),
    (WithComputed, WithComputed(n=1)),
    (WithAlias, WithAlias.model_validate({"from": "a"})),
    (Open, Open.model_validate({"n": 1, "more": {"x": 1}})),
    (HoldsJson, HoldsJson.model_validate({"document": '{"a": 1}'})),
]


@pytest.mark.parametrize(("annotation", "value"), ROUND_TRIPS)
def test_values_come_back_as_they_went(annotation: Any, value: Any) -> None:
    """Dicts, lists, records, enums, times, sets and the like arrive as what they are. (S4-05)"""
    seen = round_trip(annotation, value)

    assert value == seen
    assert type(value) is type(seen)


@pytest.mark.parametrize(("annotation", "value"), ROUND_TRIPS)
def test_results_come_back_as_they_went(annotation: Any, value: Any) -> None:
    """A result is decoded by the return annotation. (S4-36)"""
    signature = taking(annotation)
    seen = signature.decode_result(signature.encode_result(value, LIMIT))

    assert value == seen
    assert type(value) is type(seen)


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | texts


@given(st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner)))
def test_whatever_json_holds_comes_back_under_any(value: Any) -> None:
    """Plain values are the same after the way through JSON, without any annotation to help. (S4-05)"""
    assert value == round_trip(Any, value)


def test_raw_json_is_passed_through() -> None:
    """A parameter annotated `pydantic.Json` takes JSON text or bytes; the handler sees the value. (S4-05)"""
    signature = taking(Json[dict[str, int]])
    for raw in ('{"a": 1}', b'{"a": 1}', {"a": 1}):
        assert ([], {"p": {"a": 1}}) == signature.decode_args(signature.encode_args((raw,), {}, LIMIT))
    assert "json_invalid" == refusal(Json, '{"a": ').kind
    assert "p.a" == refusal(Json[dict[str, int]], '{"a": "x"}').path


def test_fields_that_are_never_written_may_be_left_alone() -> None:
    """A field with exclude=True stands in nobody's way as long as it is as it begins."""
    assert Cached(n=1) == round_trip(Cached, Cached(n=1))


def test_none_and_an_empty_object_are_told_apart() -> None:
    """A result of None is stored as null, {} as {}. (S4-36)"""
    for annotation in (Any, dict[str, int] | None):
        signature = taking(annotation)
        assert ("null", "{}") == (signature.encode_result(None, LIMIT), signature.encode_result({}, LIMIT))
        assert (None, {}) == (signature.decode_result("null"), signature.decode_result("{}"))


def test_a_result_that_does_not_fit_is_refused() -> None:
    """A result of another type than annotated, or that JSON cannot hold, raises without quoting it."""
    for annotation, value in ((int, MARKER), (Mail, UrgentMail(to="a")), (Any, {1: MARKER}), (type(None), MARKER)):
        with pytest.raises(InvalidPayload, match="task result") as caught:
            taking(annotation).encode_result(value, LIMIT)
        assert MARKER not in str(caught.value)


# Stored payloads that do not fit (any more).


@pytest.mark.parametrize(
    ("stored", "path", "kind"),
    [
        ('{"p": {"to": 5}}', "p.to", "string_type"),
        ('{"p": {}}', "p.to", "missing"),
        ("{}", "p", "missing"),
        ('{"p": {"to": "a"}, "q": "hunter2"}', "q", "extra_forbidden"),
        ('{"p": {"to": "a"}, "hunter2 is my password": 1}', "[?]", "extra_forbidden"),
        ('{"p": ["hunter2"]}', "p", "model_type"),
        ("[]", "", "dict_type"),
        ("null", "", "dict_type"),
        ('"hunter2"', "", "dict_type"),
        ("{", "", "json"),
        ('{"p": "\\ud800"}', "", "json"),
    ],
)
def test_stored_arguments_that_do_not_fit_only_raise(stored: str, path: str, kind: str) -> None:
    """Whatever stands in the database, decoding runs no code of the payload's choice and raises one error. (S3-26)"""
    with pytest.raises(InvalidPayload) as caught:
        taking(Mail).decode_args(stored)

    assert (path, kind) == (caught.value.path, caught.value.kind)
    assert MARKER not in str(caught.value)


def test_a_new_default_lets_old_jobs_run() -> None:
    """A parameter added with a default accepts jobs stored before; one without refuses them, never runs short."""

    def before(a: int) -> None: ...
    def with_default(a: int, b: int = 2) -> None: ...
    def without_default(a: int, b: int) -> None: ...

    stored = Signature.of(before).encode_args((1,), {}, LIMIT)

    assert ([], {"a": 1}) == Signature.of(with_default).decode_args(stored)
    with pytest.raises(InvalidPayload, match="b: is missing"):
        Signature.of(without_default).decode_args(stored)


@given(st.text())
def test_any_stored_text_is_decoded_or_refused(text: str) -> None:
    """No text makes decoding raise anything but InvalidPayload. (S3-26)"""
    decode: Callable[[str], object] = taking(dict[str, Any]).decode_args
    try:
        decode(text)
    except InvalidPayload as error:
        assert "task arguments" in str(error)
