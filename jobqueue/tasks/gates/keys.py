"""The key of a limit in a job's arguments: by a path in their JSON, or by a function of the user's."""

import inspect
from collections.abc import Callable
from difflib import get_close_matches
from functools import cache
from typing import Any, Protocol

from pydantic import TypeAdapter

from jobqueue.base.codec import loads
from jobqueue.base.errors import InvalidOption, InvalidPayload
from jobqueue.base.flows.limit import Key, key_text
from jobqueue.tasks.gates.shapes import MISSING, Field, Node, below, may_be_key, names, say, shapes
from jobqueue.tasks.payload.signature import Signature

_NAMED = 8


class Arguments:
    """Of one job: read at most once, and only if a key wants them."""

    __slots__ = ("_document", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._document: Any = MISSING

    @property
    def text(self) -> str:
        """As JSON."""
        return self._text

    @property
    def document(self) -> Any:
        """As JSON's own values."""
        if self._document is MISSING:
            self._document = loads(self._text, "arguments")
        return self._document


class KeyReader(Protocol):
    """Finds the key."""

    def of(self, arguments: Arguments) -> str | None:
        """The key as text; None if the job has none. Raises InvalidPayload, which does not quote it."""
        ...


def key_reader(option: str, key: str | Callable[..., Key], signature: Signature) -> KeyReader:
    """What finds this key in the arguments of a task. Raises InvalidOption if they cannot have it."""
    return _Path(option, key, signature) if isinstance(key, str) else _Function(option, key, signature)


class _Path:
    def __init__(self, option: str, path: str, signature: Signature) -> None:
        self._path = path
        self._what = signature.what
        self._steps = _steps(option, path, signature)

    def of(self, arguments: Arguments) -> str | None:
        value = arguments.document
        for name, otherwise in self._steps:
            if value is None:
                return None
            if not isinstance(value, dict):
                raise self._fault("is not in an object; a limit has it as its key")
            value = value.get(name, otherwise)
            if value is MISSING:
                raise self._fault("is missing; a limit has it as its key, null if there is none")
        try:
            return key_text(value)
        except ValueError as error:
            rule = f"{error}, as the key of a limit"
        raise self._fault(rule)

    def _fault(self, rule: str) -> InvalidPayload:
        return InvalidPayload(self._what, self._path, "key", rule)


class _Function:
    def __init__(self, option: str, function: Callable[..., Key], signature: Signature) -> None:
        self._function = function
        self._signature = signature
        self._defaults = signature.defaults
        self._positional = signature.positional
        self._named = [name for name in signature.parameters if name not in self._positional]
        try:
            inspect.signature(function).bind(*self._positional, **dict.fromkeys(self._named))
        except TypeError:
            takes = ", ".join(signature.parameters)
            raise InvalidOption(option, f"its function must take the arguments of the task: ({takes})") from None
        except ValueError:  # written in C, it does not say what it takes
            pass

    def of(self, arguments: Arguments) -> str | None:
        only, given = self._signature.decode_args(arguments.text)
        given = {**self._defaults, **given}
        rest = [given[name] for name in self._positional[len(only) :]]
        key = self._function(*only, *rest, **{name: given[name] for name in self._named})
        try:
            return key_text(key)
        except ValueError as error:
            rule = f"the key of a limit {error}"
        raise InvalidPayload(self._signature.what, "", "key", rule)


def _steps(option: str, path: str, signature: Signature) -> list[tuple[str, Any]]:
    """The names on the way, each with what is meant where it is left out. Raises InvalidOption."""
    schema, definitions = signature.schema
    found, steps, gone = [schema], [], ""
    for name in path.split("."):
        fields = [field for shape in found if (field := below(shape, name)) is not None]
        if not fields:
            raise InvalidOption(option, _unknown(path, name, gone, found))
        otherwise = signature.defaults.get(name, MISSING) if not gone else _one_default(fields)
        steps.append((name, _as_json(otherwise)))
        found = [shape for field in fields for shape in shapes(field.schema, definitions)]
        gone = f"{gone}.{name}" if gone else name
    if found and not any(map(may_be_key, found)):
        raise InvalidOption(option, f"{path!r} is {say(found[0])}; a key is text, a whole number or a UUID")
    return steps


def _one_default(fields: list[Field]) -> Any:
    """Of alternatives that differ none: the job must have it then."""
    first = fields[0].otherwise
    return first if all(field.otherwise is first for field in fields) else MISSING


def _as_json(value: Any) -> Any:
    if value is MISSING:
        return MISSING
    try:
        return _anything().dump_python(value, mode="json", by_alias=True, round_trip=True)
    except Exception:  # what cannot be written is asked for
        return MISSING


@cache
def _anything() -> TypeAdapter[Any]:
    """Made when first needed: it loads much of pydantic."""
    return TypeAdapter(Any)


def _unknown(path: str, name: str, gone: str, found: list[Node]) -> str:
    there = [each for shape in found for each in names(shape) or ()]
    where = f"{gone!r}" if gone else "the task"
    if not there:
        kind = say(found[0]) if found else "null"
        return f"{path!r}: {where} is {kind}, which has no names" if gone else f"{path!r}: the task takes no arguments"
    close = get_close_matches(name, there, 1)
    listed = ", ".join(there[:_NAMED]) + (", ..." if len(there) > _NAMED else "")
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{path!r}: {where} has no {name!r}, but {listed}{hint}"
