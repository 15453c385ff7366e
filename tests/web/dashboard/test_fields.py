"""Forms from JSON Schema: what may be put in, and that it comes out as the JSON that was meant, exactly."""

import json
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from jobqueue.tasks.payload.signature import Signature
from jobqueue.web.dashboard.showing import fields as form_fields
from jobqueue.web.dashboard.showing.fields import fields_of, filled, taken, unknown


class Size(Enum):
    SMALL = "small"
    TWO = 2


class Mail(BaseModel):
    """A model inside."""

    to: str
    copies: int = 0


async def everything(
    text: str,
    count: Annotated[int, Field(ge=1, le=9, description="How many")],
    share: float,
    sure: bool,
    size: Size,
    kind: Literal["a", "b"],
    at: datetime,
    mail: Mail,
    names: list[str],
    none: int | None,
    note: str | None = None,
    either: int | str = 3,
    anything: Any = None,
    amount: Decimal = Decimal("1.5"),
    day: date = date(2026, 1, 2),
    wait: timedelta = timedelta(minutes=5),
) -> None: ...


def fields(function: Any = everything) -> dict[str, form_fields.Field]:
    signature = Signature.of(function)
    return {each.name: each for each in fields_of(signature.json_schema, signature.defaults)}


def test_each_parameter_has_a_field_of_its_kind() -> None:
    """What no plain field can hold is written as JSON."""
    assert {
        "text": "text", "count": "integer", "share": "number", "sure": "boolean", "size": "choice", "kind": "choice",
        "at": "moment", "mail": "json", "names": "json", "none": "integer", "note": "text", "either": "json",
        "anything": "json", "amount": "json", "day": "date", "wait": "text",
    } == {name: each.kind for name, each in fields().items()}  # fmt: skip


def test_a_field_says_what_to_put_in() -> None:
    """Bounds, what stands in for nothing, the description, choices by their JSON."""
    found = fields()
    assert ("whole number at least 1, at most 9", "How many", True) == (
        found["count"].words, found["count"].description, found["count"].required,
    )  # fmt: skip
    assert (("2", "2") == found["size"].choices[1]) and ('"small"', "small") == found["size"].choices[0]
    assert [None, "null", "3", '"2026-01-02"', '"PT5M"'] == [
        found[name].default for name in ("text", "note", "either", "day", "wait")
    ]
    assert (True, True, False) == (found["none"].takes_null, found["note"].takes_null, found["text"].takes_null)


@pytest.mark.parametrize(
    ("name", "given", "wanted"),
    [
        ("text", {"arg.text": "007"}, '"007"'),
        ("text", {"arg.text": ' a "b"\té '}, '" a \\"b\\"\\té "'),
        ("text", {"arg.text": ""}, '""'),
        ("text", {"arg.text": "  "}, '"  "'),
        ("count", {"arg.count": " 9007199254740993 "}, "9007199254740993"),
        ("count", {"arg.count": "+007"}, "7"),
        ("share", {"arg.share": "0.1000000000000000055511151231257827"}, "0.1000000000000000055511151231257827"),
        ("sure", {"arg.sure": "false"}, "false"),
        ("size", {"arg.size": "2"}, "2"),
        ("kind", {"arg.kind": '"b"'}, '"b"'),
        ("at", {"arg.at": "2026-03-01T12:00Z"}, '"2026-03-01T12:00Z"'),
        ("mail", {"json.mail": ' {"to": "ada"} '}, ' {"to": "ada"} '),
        ("none", {"arg.none": ""}, "null"),
        ("none", {"json.none": "null"}, "null"),
        ("note", {"arg.note": ""}, None),
        ("note", {}, None),
        ("note", {"json.note": "null"}, "null"),
        ("either", {"json.either": '"18446744073709551615"'}, '"18446744073709551615"'),
    ],
)
def test_what_is_put_in_is_the_json_that_was_meant(name: str, given: dict[str, str], wanted: str | None) -> None:
    """No number is rounded, no text is taken for a number, nothing is given that nobody gave."""
    field, text = taken(fields()[name], given)
    assert (None, wanted) == (field.error, text)


@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        ("count", {"arg.count": "1.5"}, "must be a whole number"),
        ("count", {"arg.count": "٣"}, "must be a whole number"),
        ("count", {"arg.count": "9" * 5_000}, "must be a whole number"),
        ("count", {"arg.count": ""}, "is missing"),
        ("share", {"arg.share": "NaN"}, "must be a number"),
        ("share", {"arg.share": "0x10"}, "must be a number"),
        ("sure", {"arg.sure": "yes"}, "choose one of these"),
        ("size", {"arg.size": '"huge"'}, "choose one of these"),
        ("kind", {"arg.kind": ""}, "is missing"),
        ("mail", {"json.mail": "{to: ada}"}, "is not valid JSON"),
        ("mail", {}, "is missing"),
    ],
)
def test_what_cannot_be_stands_beside_its_field(name: str, given: dict[str, str], told: str) -> None:
    """With what was put in, so that nobody has to write it twice."""
    field, text = taken(fields()[name], given)
    assert text is None
    assert told in (field.error or "")
    assert next(iter(given.values()), "") == field.value


VALUES: dict[str, Any] = {
    "text": "two\r\nlines", "count": 2**63 - 1, "share": 1, "sure": True, "size": 2, "kind": "a",
    "at": "2026-03-01T12:00:00+01:00", "mail": {"to": "<b>"}, "names": [], "none": None, "note": "", "either": "3",
    "amount": "1.10", "day": "2026-01-02", "wait": "PT1H",
}  # fmt: skip


def test_a_filled_form_gives_back_what_it_was_filled_with() -> None:
    """What a plain field would change stands there as JSON."""
    shown = filled(tuple(fields().values()), VALUES)
    data = {each.input: each.value for each in shown}
    again = {each.name: taken(each, data) for each in fields().values()}
    assert {} == {name: field.error for name, (field, _) in again.items() if field.error}
    assert VALUES == {name: json.loads(text) for name, (_, text) in again.items() if text is not None}
    assert {"text", "none", "note"} <= {each.name for each in shown if each.kind == "json"}


def test_an_argument_that_is_no_more_is_told() -> None:
    """A deploy may rename one while the form is open: what was put in must not be dropped in silence."""
    assert ["old"] == unknown(tuple(fields().values()), {"arg.text": "x", "json.old": "1", "back": "/"})


def test_a_schema_that_has_no_words_for_something_is_written_as_json() -> None:
    """One odd annotation does not cost the whole form."""

    class Odd:
        @classmethod
        def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
            from pydantic_core import core_schema

            return core_schema.no_info_plain_validator_function(str)

    async def odd(one: Odd, other: int) -> None: ...

    assert {"one": "json", "other": "integer"} == {name: each.kind for name, each in fields(odd).items()}
