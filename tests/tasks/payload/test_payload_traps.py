"""Payloads that the libraries change without a word, and what is done about each."""

import json
import math
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

import pytest
from pydantic import (
    BaseModel,
    Json,
    SecretStr,
    field_serializer,
    field_validator,
    model_validator,
)

from jobqueue.base.errors import InvalidPayload
from tests.tasks.payload.payloads import (
    MARKER,
    Blue,
    Box,
    Cat,
    Colour,
    Dog,
    Letter,
    LongTag,
    Mail,
    Open,
    Options,
    Pair,
    Pet,
    Place,
    Point,
    Red,
    Slotted,
    Tag,
    UrgentMail,
    refusal,
    round_trip,
    taking,
)


@pytest.mark.parametrize(
    ("annotation", "value", "path"),
    [
        (float, math.nan, "p"),
        (float, math.inf, "p"),
        (Any, math.nan, "p"),
        (dict[str, Any], {"a": [1.0, math.nan]}, "p.a[1]"),
        (Point, Point(1, math.nan), "p.y"),
        (list[Point], [Point(1, 2), Point(1, math.inf)], "p[1].y"),
        (Box[Any], Box[Any](content={"x": math.nan}), "p.content.x"),
        (Open, Open.model_validate({"n": 1, "more": math.nan}), "p.more"),
        (Json, {"a": math.nan}, "p.a"),
        (set[float], {math.inf}, "p[0]"),
        (Letter, {"first": {"to": "a"}, "more": math.nan}, "p.more"),
    ],
)
def test_trap_nan_is_written_as_null(annotation: Any, value: Any, path: str) -> None:
    """NaN and Infinity, which the libraries write as null, are refused with their path."""
    error = refusal(annotation, value)

    assert (path, "nan") == (error.path, error.kind)


@pytest.mark.parametrize("annotation", [int, Any])
@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**30])
def test_trap_large_integers(annotation: Any, number: int) -> None:
    """Integers beyond 64 bits are refused at the defer; stored by SQL they are read exactly, not as floats."""
    error = refusal(dict[str, annotation], {"n": number})

    assert ("p.n", "integer") == (error.path, error.kind)
    assert ([], {"p": {"n": number}}) == taking(dict[str, annotation]).decode_args(f'{{"p": {{"n": {number}}}}}')


@pytest.mark.parametrize("text", ["1e400", "-1e400", "9" * 400])
def test_trap_numbers_beyond_all_limits_from_sql(text: str) -> None:
    """A stored number that no float can hold is refused, not read as infinity."""
    with pytest.raises(InvalidPayload):
        taking(Any).decode_args(f'{{"p": {text}}}')


@pytest.mark.parametrize("annotation", [Any, str])
@pytest.mark.parametrize(("text", "kind"), [(f"{MARKER}\0", "nul"), (f"{MARKER}\ud800", "surrogate")])
def test_trap_text_that_cannot_be_stored(annotation: Any, text: str, kind: str) -> None:
    """NUL and halves of surrogate pairs are refused with their path, in values and in keys."""
    in_value = refusal(dict[str, annotation], {"note": text})
    in_list = refusal(list[annotation], ["fine", text])
    in_key = refusal(dict[str, annotation], {"note": {text: 1} if annotation is Any else "x", text: "x"})

    assert ("p.note", kind) == (in_value.path, in_value.kind)
    assert ("p[1]", kind) == (in_list.path, in_list.kind)
    assert kind == in_key.kind
    assert in_key.path in {"p", "p.note"}


@pytest.mark.parametrize(
    ("annotation", "value", "path"),
    [
        (Mail, UrgentMail(to="a"), "p"),
        (Mail | None, UrgentMail(to="a"), "p"),
        (list[Mail], [Mail(to="a"), UrgentMail(to="b")], "p[1]"),
        (dict[str, Mail], {"x": UrgentMail(to="a")}, "p.x"),
        (Letter, Letter(mails=[UrgentMail(to="a")]), "p.mails[0]"),
        (Letter, Letter(by_name={"x": UrgentMail(to="a")}), "p.by_name.x"),
        (Letter, {"mails": [UrgentMail(to="a")]}, "p.mails[0]"),
        (Options, {"mail": UrgentMail(to="a")}, "p.mail"),
        (Pair, Pair(1, UrgentMail(to="a")), "p[1]"),
        (Point, Place(1, 2), "p"),
        (Slotted, Slotted([Place(1, 2)]), "p.points[0]"),
        (set[Tag], {LongTag("a")}, "p"),
        (Red | Blue, Blue(n=1), "p"),
    ],
)
def test_trap_subclass_instances_lose_fields(annotation: Any, value: Any, path: str) -> None:
    """An instance of a subclass, or one that a union would turn into another class, is refused with its path."""
    error = refusal(annotation, value)

    assert (path, "subclass") == (error.path, error.kind)


def test_a_union_with_a_discriminator_keeps_its_classes() -> None:
    """Members of a union that carry their kind come back as what they were."""
    assert [Dog(name="rex"), Cat(name="tom")] == round_trip(list[Pet], [Dog(name="rex"), Cat(name="tom")])


@pytest.mark.parametrize(
    ("annotation", "value", "path"),
    [
        (Mail, Mail.model_construct(to=5), "p.to"),
        (Mail, Mail.model_construct(copies=1), "p.to"),
        (Point, Point(MARKER, 1), "p.x"),  # type: ignore[arg-type]
        (Slotted, Slotted([Point(1, MARKER)]), "p.points[0].y"),  # type: ignore[arg-type]
        (Pair, Pair(MARKER, Mail(to="a")), "p[0]"),  # type: ignore[arg-type]
    ],
)
def test_trap_records_with_wrong_fields(annotation: Any, value: Any, path: str) -> None:
    """What was dumped is validated, so that a record with wrong field types fails at the defer, not in the worker."""
    assert path == refusal(annotation, value).path


def test_trap_a_model_changed_after_it_was_made() -> None:
    """Assigning a wrong value to a model, which pydantic lets pass, is found at the defer."""
    mail = Mail(to="a")
    mail.copies = MARKER  # type: ignore[assignment]

    assert "p.copies" == refusal(Mail, mail).path


@pytest.mark.parametrize("value", [{1: "a"}, {(1, 2): "a"}, {None: "a"}, {1.5: "a"}, {UUID(int=1): "a"}])
def test_trap_keys_become_text(value: dict[Any, Any]) -> None:
    """Dicts with keys that are not text are refused under Any too, wherever they stand."""
    for annotation, given_value, path in (
        (Any, value, "p"),
        (dict, value, "p"),
        (dict[str, Any], {"a": [value]}, "p.a[0]"),
        (Box[Any], Box[Any](content=value), "p.content"),
        (Open, Open.model_validate({"n": 1, "more": value}), "p.more"),
    ):
        error = refusal(annotation, given_value)
        assert (path, "key") == (error.path, error.kind)


def test_under_any_the_rest_comes_back_as_json() -> None:
    """Without an annotation a set, a tuple, a model or a time comes back as JSON's own types, as documented."""
    given_value = {
        "tuple": (1, 2),
        "model": Mail(to="a"),
        "uuid": UUID(int=1),
        "set": {5},
        "urgent": [UrgentMail(to="b")],
    }

    assert {
        "tuple": [1, 2],
        "model": {"to": "a", "copies": 1},
        "uuid": str(UUID(int=1)),
        "set": [5],
        "urgent": [{"to": "b", "copies": 1, "deadline": MARKER}],
    } == round_trip(Any, given_value)


@pytest.mark.parametrize(
    ("annotation", "value", "kind"),
    [
        (Any, object(), "type"),
        (Any, {"a": [object()]}, "type"),
        (Any, Mail, "type"),
        (Any, b"\xff", "bytes"),
        (bytes, b"\xff", "bytes"),
        (Any, SecretStr(MARKER), "secret"),
        (dict[str, Any], {"a": SecretStr(MARKER)}, "secret"),
        (Box[Any], Box[Any](content=[SecretStr(MARKER)]), "secret"),
        (int, MARKER, "int_parsing"),
        (list[int], MARKER, "list_type"),
        (Mail, {"to": "a", "copies": MARKER}, "int_parsing"),
        (Mail, {}, "missing"),
        (Literal["a"], MARKER, "literal_error"),
        (Colour, MARKER, "enum"),
        (Json, f"{{{MARKER}", "json_invalid"),
        (Json, b"\xff", "json_invalid"),
        (Decimal, Decimal("NaN"), "finite_number"),
    ],
)
def test_what_cannot_be_stored_or_does_not_fit_is_refused(annotation: Any, value: Any, kind: str) -> None:
    """Wrong types, opaque objects, secrets and bad bytes fail at the defer; no value shows. (S0-01, S4-05)"""
    assert kind == refusal(annotation, value).kind


def test_trap_validation_errors_quote_values() -> None:
    """The text of a refusal has path, kind and a general rule, whatever validators of the user's put into theirs."""

    class Loud(BaseModel):
        card: str

        @field_validator("card")
        @classmethod
        def check(cls, card: str) -> str:
            raise ValueError(f"bad card {card}")

    class Broken(BaseModel):
        card: str

        @model_validator(mode="after")
        def check(self) -> "Broken":
            raise KeyError(self.card)

    class Mute(BaseModel):
        card: str

        @field_serializer("card")
        def write(self, card: str) -> str:
            raise ZeroDivisionError(card)

    loud, broken, mute = (
        refusal(Loud, {"card": MARKER}),
        refusal(Broken, {"card": MARKER}),
        refusal(Mute, Mute(card=MARKER)),
    )

    assert ("p.card", "value_error") == (loud.path, loud.kind)
    assert "validator" == broken.kind
    assert "p" in mute.path
    for signature in (taking(Loud), taking(Broken)):
        with pytest.raises(InvalidPayload) as caught:
            signature.decode_args(json.dumps({"p": {"card": MARKER}}))
        assert MARKER not in str(caught.value)
        assert caught.value.__context__ is None


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


def test_trap_depth() -> None:
    """Ninety-nine levels below the arguments are fine; one more, thousands and endless loops are refused."""
    endless: dict[str, Any] = {}
    endless["a"] = endless

    assert nested(99) == round_trip(Any, nested(99))
    for value in (nested(100), nested(300), nested(3_000), endless):
        error = refusal(Any, value)
        assert "depth" == error.kind
        assert "100" in str(error)


def test_trap_size() -> None:
    """Arguments and results over their limit are refused by an error that names limit and setting."""
    signature = taking(str)
    text = "x" * 100

    assert 108 == len(signature.encode_args((text,), {}, 108))
    error = refusal(str, text, limit=107)
    assert "size" == error.kind
    assert "max_payload" in str(error)
    with pytest.raises(InvalidPayload, match="max_result"):
        signature.encode_result(text, 101)
