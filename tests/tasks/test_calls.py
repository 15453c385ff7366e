"""A call's arguments on their way to the database and back."""

from typing import Any

import pytest
from pydantic import BaseModel

from jobqueue.base.errors import InvalidPayload
from jobqueue.tasks.payload.signature import Signature

LIMIT = 1 << 20


class Mail(BaseModel):
    to: str
    copies: int = 1


def po(a: int, b: int = 2, /, c: int = 3, *, d: int = 4) -> None: ...


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ((1,), {}, '{"a":1}'),
        ((1, 5), {"d": 6}, '{"a":1,"b":5,"d":6}'),
        ((1, 2, 3), {"d": 4}, '{"a":1,"b":2,"c":3,"d":4}'),
        ((1,), {"c": 7}, '{"a":1,"c":7}'),
    ],
)
def test_only_what_is_given_is_stored(args: tuple[Any, ...], kwargs: dict[str, Any], text: str) -> None:
    """Arguments are keyed by parameter name; a default that was not overridden is left to the run."""
    assert text == Signature.of(po).encode_args(args, kwargs, LIMIT)


def test_positional_only_parameters_get_their_defaults_in_place() -> None:
    """What is called by position comes as a list, gaps filled with the function's own defaults."""
    signature = Signature.of(po)

    assert ([1, 2], {}) == signature.decode_args('{"a": 1}')
    assert ([1, 9], {"d": 5}) == signature.decode_args('{"b": 9, "a": 1, "d": 5}')


@pytest.mark.parametrize(
    ("args", "kwargs", "path", "kind"),
    [
        ((), {}, "a", "missing"),
        ((), {"a": 1}, "a", "unexpected"),
        ((1, 2, 3, 4), {}, "", "unexpected"),
        ((1, 2, 3), {"c": 3}, "c", "unexpected"),
        ((1,), {"z": 3}, "z", "unexpected"),
        (("x",), {}, "a", "int_parsing"),
    ],
)
def test_a_call_that_does_not_fit_is_refused(
    args: tuple[Any, ...], kwargs: dict[str, Any], path: str, kind: str
) -> None:
    """Missing, surplus, doubled and wrong arguments fail at the defer, each with its name. (S0-01)"""
    with pytest.raises(InvalidPayload) as caught:
        Signature.of(po).encode_args(args, kwargs, LIMIT)

    assert (path, kind) == (caught.value.path, caught.value.kind)


def test_names_that_pydantic_uses_are_fine() -> None:
    """Parameters may be called json, copy, _x, model_config or like methods of dict."""

    def odd(json: int, copy: int, _x: int, model_config: int, items: int, fields: int) -> None: ...

    signature = Signature.of(odd)
    values = dict(zip(signature.parameters, range(6), strict=True))

    assert ([], values) == signature.decode_args(signature.encode_args((), values, LIMIT))


def test_one_payload_is_the_first_argument() -> None:
    """A payload goes to the first parameter, whether that is positional or not."""

    def keyword(*, mail: Mail, urgent: bool = False) -> None: ...
    def two(mail: Mail, urgent: bool) -> None: ...
    def none() -> None: ...

    assert '{"mail":{"to":"a","copies":1}}' == Signature.of(keyword).encode_payload(Mail(to="a"), LIMIT)
    with pytest.raises(InvalidPayload, match="urgent: is missing"):
        Signature.of(two).encode_payload(Mail(to="a"), LIMIT)
    with pytest.raises(InvalidPayload, match="takes no arguments"):
        Signature.of(none).encode_payload(1, LIMIT)
