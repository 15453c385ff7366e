"""Values that would arrive as other ones: refused where they are given, or exact."""

import hashlib
import threading
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from uuid import UUID, uuid4

import pytest
from pydantic import AfterValidator, BaseModel, Field, HttpUrl, PrivateAttr, StringConstraints, field_validator
from typing_extensions import TypedDict

from jobqueue.tasks.options import Unique
from tests.tasks.payload.payloads import LIMIT, MARKER, Colour, Mail, Point, refusal, round_trip, taking
from tests.tasks.recording import Recorder, open_home


class Account(BaseModel):
    password: str

    @field_validator("password")
    @classmethod
    def hashed(cls, password: str) -> str:
        return hashlib.sha256(password.encode()).hexdigest()


class Price(BaseModel):
    cents: int

    @field_validator("cents")
    @classmethod
    def from_euros(cls, euros: int) -> int:
        return euros * 100


class Trimmed(BaseModel):
    name: Annotated[str, StringConstraints(strip_whitespace=True, to_lower=True)]
    tags: Annotated[list[int], AfterValidator(sorted)]


class Cart(BaseModel):
    prices: list[Price] = []
    by_name: dict[str, Price] = {}


class Hiding(BaseModel):
    n: int
    cache: Any = Field(default=None, exclude=True)
    _seen: list[int] = PrivateAttr(default_factory=list)
    _lock: Any = PrivateAttr(default_factory=threading.Lock)


class Lenient(BaseModel):
    """Says of itself that it is equal to everything."""

    n: int
    cache: Any = Field(default=None, exclude=True)

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


@dataclass
class Counter:
    n: int
    steps: Annotated[int, AfterValidator(lambda steps: 2 * steps)] = field(default=0, compare=False)


class Knows(TypedDict, total=False):
    a: int


class Level(IntEnum):
    HIGH = 3


class Shade(StrEnum):
    DARK = "dark"


class Spot(NamedTuple):
    x: int
    price: Price


def doubled(number: int) -> int:
    return 2 * number


def hidden(**said: Any) -> Hiding:
    made = Hiding(n=1)
    for name, value in said.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    ("annotation", "value", "path"),
    [
        (Account, Account(password=MARKER), "p.password"),
        (Price, Price(cents=3), "p.cents"),
        (Cart, Cart(prices=[Price(cents=0), Price(cents=3)]), "p.prices[1].cents"),
        (Cart, Cart(by_name={"x": Price(cents=3)}), "p.by_name.x.cents"),
        (Spot, Spot(1, Price(cents=3)), "p[1].cents"),
        (list[Price | None], [None, Price(cents=3)], "p[1].cents"),
        (Annotated[int, AfterValidator(doubled)], 300, "p"),
        (Annotated[str, StringConstraints(strip_whitespace=True)], f" {MARKER} ", "p"),
        (Annotated[list[int], AfterValidator(sorted)], [2, 1], "p[0]"),
        (Annotated[list[int], AfterValidator(lambda given: given[:1])], [2, 1], "p"),
        (Annotated[dict[str, int], AfterValidator(lambda given: {**given, "more": 1})], {"a": 1}, "p"),
        (Annotated[set[int], AfterValidator(lambda given: {doubled(n) for n in given})], {1}, "p"),
        (int, "1", "p"),
        (float, "1.5", "p"),
        (bool, "yes", "p"),
        (str, UUID(int=1), "p"),
        (str, datetime(2030, 1, 1, tzinfo=UTC), "p"),
        (dict[str, int], {"a": "1"}, "p.a"),
        (datetime, 1_700_000_000, "p"),
        (datetime, date(2030, 1, 1), "p"),
        (set[int], [1, 1, 2], "p"),
        (Point, Point("1", None), "p.x"),  # type: ignore[arg-type]
        (Mail, Mail.model_construct(to="a", copies="2"), "p.copies"),
    ],
)  # fmt: skip
def test_what_would_arrive_as_another_value_is_refused(annotation: Any, value: Any, path: str) -> None:
    """A validator that runs a second time, a text for a number: refused with its path, and never quoted."""
    error = refusal(annotation, value)

    assert path == error.path
    assert "changed" == error.kind


@pytest.mark.parametrize(
    ("value", "path", "kind"),
    [
        (hidden(cache={"a": 1}), "p.cache", "excluded"),
        (hidden(cache=object()), "p.cache", "excluded"),
        (hidden(_seen=[1]), "p._seen", "private"),
    ],
)
def test_what_is_never_written_is_not_lost_silently(value: Hiding, path: str, kind: str) -> None:
    """Excluded fields and private attributes that hold something of their own are refused by name."""
    for annotation, given, place in ((Hiding, value, path), (list[Hiding], [value], path.replace("p.", "p[0]."))):
        error = refusal(annotation, given)
        assert (place, kind) == (error.path, error.kind)


def test_what_is_made_anew_is_not_missed() -> None:
    """Excluded fields and private attributes that are as they begin, a lock for one, stand in nobody's way."""
    assert 1 == round_trip(Hiding, Hiding(n=1)).n
    assert Counter(1) == round_trip(Counter, Counter(1))


def test_records_that_are_equal_by_their_own_word_are_looked_at() -> None:
    """A class that compares less than all of itself hides nothing that way."""
    lenient = Lenient(n=1, cache=MARKER)

    assert ("p.cache", "excluded") == (refusal(Lenient, lenient).path, refusal(Lenient, lenient).kind)
    assert ("p.steps", "changed") == (refusal(Counter, Counter(1, 5)).path, refusal(Counter, Counter(1, 5)).kind)


def test_a_key_that_a_typed_dict_does_not_know_is_refused() -> None:
    """It would be left out, silently."""
    error = refusal(Knows, {"a": 1, "b": 2})

    assert ("p.b", "lost") == (error.path, error.kind)


@pytest.mark.parametrize(
    ("annotation", "value", "arrives"),
    [
        (UUID, str(UUID(int=1)), UUID(int=1)),
        (datetime, "2030-01-01T00:00:00Z", datetime(2030, 1, 1, tzinfo=UTC)),
        (list[date], ["2030-01-01"], [date(2030, 1, 1)]),
        (set[UUID], {str(UUID(int=1))}, {UUID(int=1)}),
        (UUID, "ABCDEFAB-0000-4000-8000-000000000000", UUID("abcdefab-0000-4000-8000-000000000000")),
        (Path, "/a/b", Path("/a/b")),
        (Colour, "red", Colour.RED),
        (Decimal, "1.50", Decimal("1.50")),
        (Decimal, 0.1, Decimal("0.1")),
        (HttpUrl, "http://EXAMPLE.org", HttpUrl("http://example.org/")),
        (bytes, "a", b"a"),
        (float, 3, 3.0),
        (int, True, 1),
        (int, Level.HIGH, 3),
        (str, Shade.DARK, "dark"),
        (Mail, {"to": "a"}, Mail(to="a")),
        (tuple[int, ...], [1, 2], (1, 2)),
        (Trimmed, Trimmed(name=" A ", tags=[2, 1]), Trimmed(name="a", tags=[1, 2])),
        (dict[str, Any], {"when": date(2030, 1, 1)}, {"when": "2030-01-01"}),
        (timedelta, timedelta(seconds=90), timedelta(seconds=90)),
    ],
)
def test_what_arrives_as_it_was_meant_passes(annotation: Any, value: Any, arrives: Any) -> None:
    """A value in the form that JSON has for it, or equal to what arrives, is what the annotation says."""
    assert arrives == round_trip(annotation, value)


def test_one_argument_that_may_be_anything_is_no_excuse_for_another() -> None:
    """Beside a parameter annotated Any the others are held to their annotations."""

    async def task(name: str, load: Any) -> None: ...

    signature = type(taking(int)).of(task)
    assert '{"name":"a","load":"00000000-0000-0000-0000-000000000001"}' == signature.encode_args(
        ("a", UUID(int=1)), {}, LIMIT
    )
    with pytest.raises(ValueError, match=r"arguments: name: "):
        signature.encode_args((UUID(int=1), UUID(int=1)), {}, LIMIT)


@pytest.mark.parametrize(
    ("annotation", "values"),
    [
        (float, [3, 3.0, True * 3]),
        (int, [1, True, 1]),
        (Decimal, ["1.5", Decimal("1.5"), 1.5]),
        (UUID, [UUID(int=1), str(UUID(int=1))]),
        (datetime, ["2030-01-01T00:00:00+00:00", datetime(2030, 1, 1, tzinfo=UTC)]),
        (Point, [Point(1, 2), Point(1.0, 2.0)]),
    ],
)
def test_what_arrives_as_the_same_has_one_unique_key(annotation: Any, values: list[Any]) -> None:
    """However a value is given, a key made of the arguments is that of what the handler will see."""
    home = open_home(Recorder())

    async def task(p: Any) -> None: ...

    task.__annotations__ = {"p": annotation, "return": None}
    made = home.task(unique=Unique())(task)
    keys = {made.job(value).key for value in values}

    assert 1 == len(keys)


def test_a_default_is_no_part_of_a_key() -> None:
    """What is left out stays out of the key, also of a model given as a dict: it may be another one each time."""

    class Stamped(BaseModel):
        n: int
        id: UUID = Field(default_factory=uuid4)

    home = open_home(Recorder())

    async def task(p: Stamped) -> None: ...

    task.__annotations__ = {"p": Stamped, "return": None}
    made: Any = home.task(unique=Unique())(task)

    assert 1 == len({made.job({"n": 1}).key for _ in range(3)})
