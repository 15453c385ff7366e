"""Limits and rates as values: what is refused at once, and the names and order of gates."""

from datetime import timedelta
from enum import IntEnum, StrEnum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobqueue.base.errors import InvalidOption
from jobqueue.base.flows.limit import (
    Limit,
    Rate,
    Turn,
    check_limit_name,
    fair_gate,
    key_text,
    parts_of,
    say_gate,
)

ID = UUID("01a20469-ed06-73fd-819c-8942033b9223")


class Colour(StrEnum):
    RED = "red"


class Size(IntEnum):
    SMALL = 1


async def no_key(tenant: str) -> str:
    return tenant


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("limit", {}),
        ("concurrency", {"concurrency": 0}),
        ("concurrency", {"concurrency": True}),
        ("concurrency", {"concurrency": 1_000_001}),
        ("concurrency", {"concurrency": "5"}),
        ("rate", {"rate": 5}),
        ("ordered", {"concurrency": 2, "ordered": True}),
        ("ordered", {"rate": Rate(1, 1), "ordered": True}),
        ("ordered", {"concurrency": 1, "rate": Rate(1, 1), "ordered": True}),
        ("ordered", {"concurrency": 1, "ordered": "yes"}),
        ("name", {"concurrency": 1, "name": "~smtp"}),
        ("name", {"concurrency": 1, "name": "fair:mail"}),
        ("name", {"concurrency": 1, "name": "a\nb"}),
        ("name", {"concurrency": 1, "name": ""}),
        ("name", {"concurrency": 1, "name": "x" * 101}),
        ("name", {"concurrency": 1, "name": 5}),
        ("key", {"concurrency": 1, "key": ""}),
        ("key", {"concurrency": 1, "key": "mail..tenant"}),
        ("key", {"concurrency": 1, "key": 5}),
        ("key", {"concurrency": 1, "key": no_key}),
    ],
)
def test_what_no_limit_can_be_is_refused_at_once(option: str, said: dict[str, Any]) -> None:
    """A limit that makes no sense is refused where it is written, by the name of what is wrong."""
    with pytest.raises(InvalidOption, match=f"^{option}: ") as caught:
        Limit(**said)
    assert option == caught.value.option


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("count", (0, 1)),
        ("count", (True, 1)),
        ("count", (1.5, 1)),
        ("count", (None, 1)),
        ("per", (1, 0)),
        ("per", (1, -1)),
        ("per", (1, None)),
        ("per", (1, "60")),
        ("per", (1, float("nan"))),
        ("per", (1, timedelta(days=4_000))),
        ("burst", (5, 1, 0)),
        ("burst", (5, 1, 6)),
        ("burst", (5, 1, None)),
    ],
)
def test_what_no_rate_can_be_is_refused_at_once(option: str, said: tuple[Any, ...]) -> None:
    """A rate out of its limits is refused where it is written, by the name of what is wrong."""
    with pytest.raises(InvalidOption, match=f"^{option}: "):
        Rate(*said)


@given(st.integers(1, 1_000), st.integers(1, 10**6), st.data())
def test_no_span_has_more_than_the_rate_allows(count: int, per: int, data: st.DataObject) -> None:
    """A burst, and what comes after it at the distances of `every`, is `count` when a span of `per` is over."""
    burst = data.draw(st.integers(1, count))
    rate = Rate(count, timedelta(seconds=per), burst)
    assert per == rate.seconds
    assert pytest.approx(count) == burst - 1 + per / rate.every


def test_gates_are_named_by_limit_and_key() -> None:
    """A gate is the limit's name and the key below it; a mark stands before one that holds no place."""
    rate = Rate(5, 60)
    assert ["smtp", "smtp\nacme", "~smtp", "~smtp\nacme", "smtp\nacme", "~fair:mail\nacme"] == [
        Limit(5).gate("smtp"),
        Limit(5, key="tenant").gate("smtp", "acme"),
        Limit(rate=rate).gate("smtp"),
        Limit(rate=rate, key="tenant").gate("smtp", "acme"),
        Limit(5, rate=rate, key="tenant").gate("smtp", "acme"),
        fair_gate("mail", "acme"),
    ]


@pytest.mark.parametrize(
    ("gate", "parts", "said"),
    [
        ("smtp", ("smtp", None), "smtp"),
        ("~smtp", ("smtp", None), "smtp"),
        ("smtp\nacme", ("smtp", "acme"), "smtp of acme"),
        ("smtp\n", ("smtp", ""), "smtp of "),
        ("smtp\na\nb", ("smtp", "a\nb"), "smtp of a\nb"),
        ("~fair:mail\nacme", ("fair:mail", "acme"), "fair:mail of acme"),
    ],
)
def test_a_gate_is_taken_apart_again(gate: str, parts: tuple[str, str | None], said: str) -> None:
    """The first line is the limit's name, all behind it the key, whatever that has in it."""
    assert (parts, said) == (parts_of(gate), say_gate(gate))


def test_all_tasks_pass_gates_in_one_order() -> None:
    """Ordered gates come first, narrow ones before wide ones, a rate last: no two jobs wait for each other."""
    rate = Rate(1, 1)
    limits = [
        Limit(1, rate=rate), Limit(rate=rate, key="a"), Limit(1), Limit(1, key="a"), Limit(1, ordered=True),
    ]  # fmt: skip
    assert [Turn.RATED, Turn.RATED, Turn.SHARED, Turn.KEYED, Turn.ORDERED] == [each.turn for each in limits]


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (None, None),
        ("acme", "acme"),
        ("", ""),
        (5, "5"),
        (10**30, "1" + "0" * 30),
        (ID, str(ID)),
        (Colour.RED, "red"),
        (Size.SMALL, "1"),
        ("x" * 200, "x" * 200),
    ],
)
def test_a_key_as_text(key: Any, text: str | None) -> None:
    """Text, whole numbers and UUIDs are keys, members of an enum by their value; None is no key."""
    assert text == key_text(key)


@pytest.mark.parametrize("key", [True, 1.5, b"secret", ["secret"], "secret" * 40, "secret\0", "secret\ud800", object()])
def test_what_is_no_key_is_refused_unseen(key: Any) -> None:
    """Anything else is refused, by a rule that does not quote it."""
    with pytest.raises(ValueError, match=r"^must ") as caught:
        key_text(key)
    assert "secret" not in str(caught.value)


def test_a_limit_with_a_place_has_the_name_that_is_given() -> None:
    """A name as queues have them is taken as it is."""
    assert "crème: 5" == check_limit_name("name", "crème: 5")
