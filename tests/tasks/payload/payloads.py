"""Payloads of many kinds, and the way that they take: what both files of payload tests share."""

from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

import pytest
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    Json,
    RootModel,
    computed_field,
)
from typing_extensions import TypedDict

from jobqueue.base.errors import InvalidPayload
from jobqueue.tasks.payload.signature import Signature

LIMIT = 1 << 20
MARKER = "hunter2"
T = TypeVar("T")


class Mail(BaseModel):
    to: str
    copies: int = 1


class UrgentMail(Mail):
    deadline: str = MARKER


class Letter(BaseModel):
    mails: list[Mail] = []
    by_name: dict[str, Mail] = {}
    first: Mail | None = None


@dataclass
class Point:
    x: float
    y: float | None = None


@dataclass
class Place(Point):
    name: str = MARKER


@dataclass(frozen=True)
class Tag:
    name: str


@dataclass(frozen=True)
class LongTag(Tag):
    more: str = MARKER


@dataclass(slots=True)
class Slotted:
    points: list[Point] = field(default_factory=list)


class Options(TypedDict, total=False):
    depth: int
    mail: Mail


class Pair(NamedTuple):
    left: int
    right: Mail


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Box(BaseModel, Generic[T]):
    content: T


class Numbers(RootModel[list[int]]):
    pass


class WithComputed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    n: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> int:
        return 2 * self.n


class WithAlias(BaseModel):
    sender: str = Field(alias="from")


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    n: int


class Cached(BaseModel):
    n: int
    cache: Any = Field(default=None, exclude=True)


class HoldsJson(BaseModel):
    document: Json[dict[str, int]]


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    name: str


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    name: str


class Red(BaseModel):
    n: int


class Blue(BaseModel):
    n: int


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]


def taking(annotation: Any) -> Signature:
    """The signature of a task with one parameter `p` of this annotation, and a result of it."""

    def task(p: Any) -> Any: ...

    task.__annotations__ = {"p": annotation, "return": annotation}
    return Signature.of(task)


def round_trip(annotation: Any, value: Any) -> Any:
    signature = taking(annotation)
    positional, named = signature.decode_args(signature.encode_args((value,), {}, LIMIT))
    assert ([], ["p"]) == (positional, list(named))
    return named["p"]


def refusal(annotation: Any, value: Any, limit: int = LIMIT) -> InvalidPayload:
    with pytest.raises(InvalidPayload) as caught:
        taking(annotation).encode_args((value,), {}, limit)
    assert MARKER not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return caught.value
