"""Which functions can be tasks, and what is said of those that cannot."""

import functools
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal, Never, NoReturn, Optional, TypeVar
from uuid import UUID

import pytest
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Secret, SecretBytes, SecretStr

from jobqueue.base.errors import InvalidSignature
from jobqueue.tasks.context import JobContext
from jobqueue.tasks.payload.signature import Signature

LIMIT = 1 << 20
F = TypeVar("F", bound=Callable[..., Any])


class Mail(BaseModel):
    to: str
    copies: int = 1


class Account(BaseModel):
    name: str
    password: SecretStr


class Branch(BaseModel):
    accounts: list[Account] = []
    branches: list["Branch"] = []


@dataclass
class Ledger:
    rows: dict[int, str]


class Colour(StrEnum):
    A = "a"


class Opaque:
    pass


class Holder(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    opaque: Opaque


class Shop:
    def method(self, x: int) -> None: ...

    def bare_method(self, x):  # type: ignore[no-untyped-def]
        ...

    def __call__(self, x: int) -> None: ...

    @staticmethod
    def static(x: int) -> None: ...


def fault(function: Any) -> str:
    with pytest.raises(InvalidSignature) as caught:
        Signature.of(function)
    return str(caught.value)


def generator(x: int) -> Iterator[int]:
    yield x


async def async_generator(x: int) -> AsyncIterator[int]:
    yield x


def any_number(*numbers: int) -> None: ...
def any_names(**names: int) -> None: ...
def bare(x) -> None: ...  # type: ignore[no-untyped-def]
def bare_context(ctx, x: int) -> None: ...  # type: ignore[no-untyped-def]
def late_context(x: int, ctx: JobContext) -> None: ...
def keyword_context(*, ctx: JobContext) -> None: ...
def two_contexts(ctx: JobContext, again: JobContext) -> None: ...
def maybe_context(ctx: JobContext | None) -> None: ...
def maybe_context_in_old_words(ctx: Optional[JobContext]) -> None: ...  # noqa: UP045 - the old spelling is tested too
def annotated_context(ctx: Annotated[JobContext, "mine"]) -> None: ...
def default_context(ctx: JobContext = None) -> None: ...  # type: ignore[assignment]
def opaque(x: Opaque) -> None: ...
def opaque_inside(x: Holder) -> None: ...
def opaque_result(x: int) -> Opaque: ...  # type: ignore[empty-body]
def callback(x: Callable[[], int]) -> None: ...
def a_class(x: type[int]) -> None: ...
def an_iterator(x: Iterator[int]) -> None: ...
def secret(x: SecretStr) -> None: ...
def secret_bytes(x: SecretBytes | None) -> None: ...
def secret_number(x: list[Secret[int]]) -> None: ...
def secret_in_model(x: Account) -> None: ...
def secret_deep_inside(x: dict[str, list[Branch]]) -> None: ...
def secret_result(x: int) -> Account: ...  # type: ignore[empty-body]
def number_keys(x: dict[int, str]) -> None: ...
def uuid_keys(x: list[dict[UUID, str]]) -> None: ...
def number_keys_inside(x: Ledger) -> None: ...
def number_keys_result() -> dict[int, str]: ...  # type: ignore[empty-body]


def store_parcel(parcel: "Parcel") -> "Parcel": ...  # type: ignore[empty-body]


STORE_PARCEL = Signature.of(store_parcel)
PARAMETERS_AT_DECORATION = STORE_PARCEL.parameters


class Parcel(BaseModel):
    weight: int


def called_self(self: int) -> None: ...
def shared_list(x: list[int] = []) -> None: ...  # noqa: B006 - it is what is to be refused
def shared_model(x: Parcel = Parcel(weight=1)) -> None: ...  # noqa: B008 - the same


# Each is wrong in one way; beside it what the error says of it.
FAULTS: list[tuple[Any, list[str]]] = [
    (functools.partial(any_number, 1), ["partial"]),
    (Shop, ["Shop", "class"]),
    (Shop(), ["not a plain function"]),
    (Shop().method, ["bound method"]),
    (Shop.method, ["Shop.method", "it is a method"]),
    (Shop.bare_method, ["Shop.bare_method", "it is a method"]),
    (staticmethod(generator), ["staticmethod"]),
    (len, ["not a plain function"]),
    (lambda x: x, ["lambda"]),
    (generator, ["generator"]),
    (async_generator, ["generator"]),
    (any_number, ["*numbers"]),
    (any_names, ["**names"]),
    (bare, ["'x'", "no annotation"]),
    (bare_context, ["'ctx'", "no annotation"]),
    (called_self, ["'self'", "choose another"]),
    (shared_list, ["'x'", "its default is a list"]),
    (shared_model, ["'x'", "its default is a Parcel"]),
    (late_context, ["'ctx'", "first parameter"]),
    (keyword_context, ["'ctx'", "positional"]),
    (two_contexts, ["'again'", "first parameter"]),
    (maybe_context, ["'ctx'", "annotated JobContext"]),
    (maybe_context_in_old_words, ["'ctx'", "annotated JobContext"]),
    (annotated_context, ["'ctx'", "annotated JobContext"]),
    (default_context, ["'ctx'", "no default"]),
    (opaque, ["'x'", "pydantic cannot handle", "Opaque"]),
    (opaque_inside, ["'x'", "cannot write as JSON"]),
    (opaque_result, ["the result", "pydantic cannot handle"]),
    (callback, ["'x'", "callable"]),
    (a_class, ["'x'", "a class"]),
    (an_iterator, ["'x'", "iterator"]),
    (secret, ["'x'", "secret", "asterisks"]),
    (secret_bytes, ["'x'", "secret"]),
    (secret_number, ["'x'", "secret"]),
    (secret_in_model, ["'x'", "secret"]),
    (secret_deep_inside, ["'x'", "secret"]),
    (secret_result, ["the result", "secret"]),
    (number_keys, ["'x'", "keys are not text"]),
    (uuid_keys, ["'x'", "keys are not text"]),
    (number_keys_inside, ["'x'", "keys are not text"]),
    (number_keys_result, ["the result", "keys are not text"]),
]


@pytest.mark.parametrize(("function", "texts"), FAULTS)
def test_each_fault_has_a_sentence_of_its_own(function: Any, texts: list[str]) -> None:
    """A function that cannot be a task is refused at decoration, by name and with the reason. (S4-21)"""
    found = fault(function)

    assert "cannot be a task: " in found
    for text in texts:
        assert text in found


def test_a_static_function_in_a_class_can_be_a_task() -> None:
    """A function without `self` is a function, wherever it stands."""
    assert ("x",) == Signature.of(Shop.static).parameters


@pytest.mark.parametrize(
    "annotation",
    [
        dict[str, int],
        dict[Literal["a", "b"], int],
        dict[Annotated[str, Field(max_length=3)], int],
        dict[Annotated[str, AfterValidator(str.lower)], int],
        dict[Colour, int],
        dict[Colour | Literal["b"], int],
        dict[Any, int],
        dict,
        Mapping[str, int],
        Counter[str],
        defaultdict[str, int],
    ],
)
def test_dicts_with_text_keys_are_fine(annotation: Any) -> None:
    """Keys may be of any annotation whose values are text."""

    def f(x: Any) -> None: ...

    f.__annotations__["x"] = annotation
    signature = Signature.of(f)

    assert ([], {"x": {"a": 1}}) == signature.decode_args(signature.encode_args(({"a": 1},), {}, LIMIT))


def test_what_a_signature_tells() -> None:
    """The context is found, the parameters are named without it, the result's annotation is known."""

    async def with_context(ctx: JobContext, path: str, /, count: int = 1, *, width: int) -> Mail: ...  # type: ignore[empty-body]
    def without(path: str): ...  # type: ignore[no-untyped-def]

    first, second = Signature.of(with_context), Signature.of(without)

    assert (True, True, ("path", "count", "width"), Mail) == (
        first.wants_context,
        first.is_async,
        first.parameters,
        first.returns,
    )
    assert (False, False, ("path",), Any) == (second.wants_context, second.is_async, second.parameters, second.returns)


@pytest.mark.parametrize("annotation", [NoReturn, Never])
def test_a_task_that_never_returns_can_be_written_so(annotation: Any) -> None:
    """`-> NoReturn` is no annotation to convert a result by."""

    def f() -> None: ...

    f.__annotations__["return"] = annotation

    assert Signature.of(f).returns is Any


def test_a_decorated_function_is_seen_through() -> None:
    """functools.wraps keeps parameters and kind: also of an async function behind a plain wrapper."""

    def traced(function: F) -> F:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return wrapper  # type: ignore[return-value]

    @traced
    async def send(mail: Mail) -> None: ...

    signature = Signature.of(send)

    assert (True, ("mail",)) == (signature.is_async, signature.parameters)


# Annotations as text, as `from __future__ import annotations` makes them all.


def test_text_annotations_are_read_at_decoration() -> None:
    """Names that are known are found at once, and faults in them too."""

    def good(ctx: "JobContext", mail: "Mail", more: "list[Mail]") -> "Mail": ...  # type: ignore[empty-body]
    def bad(x: "dict[int, str]") -> None: ...

    assert (True, ("mail", "more"), Mail) == (
        Signature.of(good).wants_context,
        Signature.of(good).parameters,
        Signature.of(good).returns,
    )
    assert "'x'" in fault(bad)


def test_a_name_defined_later_is_found_at_first_use() -> None:
    """A model written below its task is fine once the task is used."""

    assert () == PARAMETERS_AT_DECORATION

    assert '{"parcel":{"weight":3}}' == STORE_PARCEL.encode_args((Parcel(weight=3),), {}, LIMIT)
    assert ("parcel",) == STORE_PARCEL.parameters


def test_local_names_are_found_where_they_are_given() -> None:
    """Types that live in a function are found through the names that the decorator passes on."""

    class Local(BaseModel):
        x: int

    def store(local: "Local") -> None: ...

    signature = Signature.of(store, locals())

    assert '{"local":{"x":1}}' == signature.encode_args((Local(x=1),), {}, LIMIT)


def test_a_name_that_never_appears_is_named_with_its_parameter() -> None:
    """At first use the error names the parameter and the missing name, and where to look. (S4-21)"""

    def send(mail: "Nowhere", n: int) -> None: ...  # type: ignore[name-defined]  # noqa: F821 - it is missing on purpose
    def answer(n: int) -> "Nowhere": ...  # type: ignore[name-defined]  # noqa: F821 - it is missing on purpose

    for function, place in ((send, "parameter 'mail'"), (answer, "the result")):
        signature = Signature.of(function)
        for use in (
            signature.resolve,
            lambda signature=signature: signature.encode_args((1, 2), {}, LIMIT),
            lambda signature=signature: signature.decode_args("{}"),
            lambda signature=signature: signature.encode_result(1, LIMIT),
            lambda signature=signature: signature.decode_result("1"),
        ):
            with pytest.raises(InvalidSignature, match=f"{place}.*'Nowhere'.*TYPE_CHECKING"):
                use()


def test_a_model_that_waits_for_another_is_complete_later() -> None:
    """A model whose own annotations are not known yet makes its task wait too."""

    class Later(BaseModel):
        inner: "Inner"

    def store(x: Later) -> None: ...

    signature = Signature.of(store)
    with pytest.raises(InvalidSignature, match="parameter 'x'"):
        signature.resolve()

    class Inner(BaseModel):
        n: int

    Later.model_rebuild(_types_namespace={"Inner": Inner})
    assert '{"x":{"inner":{"n":1}}}' == signature.encode_args((Later(inner=Inner(n=1)),), {}, LIMIT)


def test_the_context_may_be_imported_for_type_checkers_only() -> None:
    """`JobContext` is recognised by its name, even where nothing of that name exists at run time."""
    space: dict[str, Any] = {}
    exec('async def f(ctx: "jobqueue.JobContext", n: int) -> None: ...', space)  # noqa: S102 - a module without imports
    signature = Signature.of(space["f"])

    assert (True, ("n",)) == (signature.wants_context, signature.parameters)


def test_awaitables_in_annotations_are_refused() -> None:
    """A coroutine cannot be stored."""

    def f(x: Awaitable[int]) -> None: ...

    assert "'x'" in fault(f)
