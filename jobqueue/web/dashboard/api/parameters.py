"""What a reader or a verb takes, read off its signature; and a request's words turned into that."""

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, create_model
from starlette.datastructures import QueryParams

from jobqueue.base.errors import InvalidOption
from jobqueue.web.dashboard.api.table import Row
from jobqueue.web.dashboard.reading.view import Model

_NAMED = re.compile(r"\{(\w+)(?::\w+)?\}")
_QUOTED = 80


@dataclass(frozen=True, slots=True)
class Parameters:
    """Of one row."""

    said: type[BaseModel]
    """What is in path and query, by name."""
    in_path: tuple[str, ...]
    body: tuple[str, type[Model]] | None
    gives: TypeAdapter[Any]

    def read(self, path: Mapping[str, object], query: QueryParams) -> dict[str, object]:
        """The arguments that path and query say. Raises InvalidOption."""
        words: dict[str, object] = {}
        for name in query:
            several = name in self.said.model_fields and _is_list(self.said.model_fields[name].annotation)
            words[name] = query.getlist(name) if several else query[name]
        if twice := next((name for name in query if name in self.in_path), None):
            raise InvalidOption(twice[:_QUOTED], "is in the path already")
        with _as_option():
            said = self.said.model_validate(words | {name: path[name] for name in self.in_path})
        return {name: getattr(said, name) for name in said.model_fields_set}

    def read_body(self, body: bytes) -> dict[str, object]:
        """The argument that the body is; none if there is none to be. Raises InvalidOption."""
        if self.body is None:
            return {}
        name, model = self.body
        with _as_option():
            return {name: model.model_validate_json(body)}


@cache
def parameters(row: Row) -> Parameters:
    """What this row takes and gives."""
    hints = get_type_hints(row.answer, include_extras=True)
    in_path = tuple(_NAMED.findall(row.path))
    fields: dict[str, Any] = {}
    body: tuple[str, type[Model]] | None = None
    for name, parameter in list(inspect.signature(row.answer).parameters.items())[1:]:
        if row.method != "GET" and name not in in_path and _is_model(hints[name]):
            body = (name, hints[name])
        else:
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            fields[name] = (hints[name], default)
    if missing := set(in_path) - set(fields):
        raise TypeError(f"{row.path}: {row.answer.__name__} does not take {missing}")
    said = create_model(f"{row.answer.__name__}_said", __config__=ConfigDict(extra="forbid"), **fields)
    return Parameters(said, in_path, body, TypeAdapter(_without_none(hints["return"])))


@contextmanager
def _as_option() -> Iterator[None]:
    """Turns what pydantic finds into one clear error, which does not quote what was sent."""
    try:
        yield
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])[:_QUOTED] or "body"
        rule = "there is no such field" if first["type"] == "extra_forbidden" else str(first["msg"])
        raise InvalidOption(where, rule) from None


def _is_model(hint: object) -> bool:
    return isinstance(hint, type) and issubclass(hint, Model)


def _without_none(hint: Any) -> Any:
    if get_origin(hint) in (Union, UnionType):
        return Union[tuple(each for each in get_args(hint) if each is not NoneType)]  # noqa: UP007 - of a tuple
    return hint


def _is_list(hint: object) -> bool:
    found = get_origin(hint)
    if found in (list, tuple, set, frozenset, Sequence):
        return True
    return any(_is_list(each) for each in get_args(hint)) if found is not None else False
