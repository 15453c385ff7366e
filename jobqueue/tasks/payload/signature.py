"""What a task's function takes and gives, looked at once, and both as strict JSON.

On the wire the arguments are an object keyed by parameter name. Only what a call gives is stored: a default is applied
where the job runs, so that a deploy which changes it changes waiting jobs too.
"""

import contextlib
import inspect
import re
from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, Never, NoReturn, NotRequired

from pydantic import ConfigDict
from typing_extensions import TypedDict

from jobqueue.base.codec import describe
from jobqueue.base.errors import InvalidPayload, InvalidSignature
from jobqueue.tasks.context import JobContext
from jobqueue.tasks.payload.adapter import Adapter, Incomplete
from jobqueue.tasks.payload.annotations import Unresolved, mentions, resolve
from jobqueue.tasks.payload.parameters import full_name, task_shape
from jobqueue.tasks.payload.storable import Node

NO_NAMES: Mapping[str, Any] = MappingProxyType({})

_RESULT = "return"
_COMMON_RESULTS = (Any, type(None), bool, int, float, str, dict, list)
_TypedDict: Any = TypedDict  # called with names that only exist at run time


class Signature:
    """The parameters and the result of a task's function. Made by `Signature.of`."""

    def __init__(self, function: Callable[..., Any], names: Mapping[str, Any] = NO_NAMES) -> None:
        shape = task_shape(function)
        self.function = function
        self.name = full_name(function)
        self.is_async = any(map(inspect.iscoroutinefunction, (function, inspect.unwrap(function))))
        self.wants_context = False
        self.parameters: tuple[str, ...] = ()
        """Names of the parameters, the context left out."""
        self.returns: Any = Any
        """The annotation of the result; Any without one."""
        self._all = tuple(shape.parameters.values())
        self._result_as_written = Any if shape.return_annotation is shape.empty else shape.return_annotation
        self._names = names
        self._arguments: Adapter | None = None
        self._result: Adapter | None = None
        self._positional: tuple[str, ...] = ()
        self._only_positional: tuple[tuple[str, Any], ...] = ()
        self._raw: frozenset[str] = frozenset()
        self._what = f"{function.__name__} arguments"
        self._what_result = f"{function.__name__} result"

    @classmethod
    def of(cls, function: Callable[..., Any], names: Mapping[str, Any] = NO_NAMES) -> "Signature":
        """Look at a function; `names` are the local names where it is defined. Raises InvalidSignature.

        Annotations whose names are not known yet are looked at again by `resolve`.
        """
        signature = cls(function, names)
        with contextlib.suppress(Unresolved):
            signature._build()
        return signature

    @property
    def needed(self) -> tuple[str, ...]:
        """Names of the parameters that every call must give; as far as known, while annotations are not."""
        known = self._arguments is not None
        return tuple(
            part.name
            for part in self._all
            if part.default is part.empty
            and (part.name in self.parameters if known else part.annotation not in (JobContext, JobContext.__name__))
        )

    @property
    def is_known(self) -> bool:
        """Whether all annotations are: what needs them need not wait for `resolve`."""
        return self._arguments is not None

    @property
    def what(self) -> str:
        """What errors call the arguments."""
        return self._what

    @property
    def positional(self) -> tuple[str, ...]:
        """Those of the parameters that need no name in a call."""
        return self._resolved()._positional

    @property
    def defaults(self) -> dict[str, Any]:
        """Of the parameters that have one."""
        return {part.name: part.default for part in self._all if part.default is not part.empty}

    @property
    def schema(self) -> tuple[Node, Mapping[str, Node]]:
        """pydantic's schema of the arguments as one object, and the definitions that it refers to."""
        arguments = self._resolved()._arguments
        assert arguments is not None  # noqa: S101 - resolved means that it is there
        return arguments.schema, arguments.definitions

    @property
    def json_schema(self) -> dict[str, Any]:
        """The arguments as one object, as JSON Schema. Raises InvalidSignature."""
        arguments = self._resolved()._arguments
        assert arguments is not None  # noqa: S101 - resolved means that it is there
        return arguments.json_schema

    def resolve(self) -> None:
        """Make sure that all annotations are known. Raises InvalidSignature, which names the parameter."""
        if self._arguments is not None:
            return
        try:
            self._build()
        except Unresolved as error:
            missing = error
        else:
            return
        fault = f"{_place(missing.parameter)}: the name {missing.name!r} in its annotation is unknown at run time"
        raise InvalidSignature(self.name, f"{fault}; is it imported under TYPE_CHECKING only?")

    def encode_args(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], limit: int) -> str:
        """JSON text of a call's arguments, the context left out. Raises InvalidPayload."""
        if self._arguments is None:
            return self._resolved().encode_args(args, kwargs, limit)
        return self._encode(self._bind(args, kwargs), limit)

    def _encode(self, given: dict[str, Any], limit: int) -> str:
        assert self._arguments is not None  # noqa: S101 - resolved means that it is there
        raw = None
        if self._raw:
            raw = {name: self._take_raw(name, given) for name in self._raw if isinstance(given.get(name), str | bytes)}
        return self._arguments.write(given, self._what, limit, "max_payload", raw)

    def canonical(self, args: str) -> str:
        """The one text of all arguments that arrive as the same."""
        if self._arguments is None:
            return self._resolved().canonical(args)
        return self._arguments.canonical(args, self._what)

    def encode_payload(self, payload: Any, limit: int) -> str:
        """JSON text of a call with one argument, for the first parameter. Raises InvalidPayload."""
        self.resolve()
        if not self.parameters:
            raise InvalidPayload(self._what, "", "unexpected", "the task takes no arguments")
        return self._encode({self.parameters[0]: payload}, limit)

    def decode_args(self, text: str) -> tuple[list[Any], dict[str, Any]]:
        """What to call the function with, after the context. Raises InvalidPayload if it does not fit any more."""
        if self._arguments is None:
            return self._resolved().decode_args(text)
        given: dict[str, Any] = self._arguments.read(text, self._what)
        return [given.pop(name, default) for name, default in self._only_positional], given

    def fault_of(self, error: InvalidPayload) -> str:
        """Which argument did not fit, and how. What is deeper inside it is not told: the payload may have named it."""
        name = re.split(r"[.\[]", error.path)[0]
        return f"{name}: {error.rule}" if name in self.parameters else error.rule

    def encode_result(self, value: Any, limit: int) -> str:
        """JSON text of a result, by the return annotation. Raises InvalidPayload."""
        if self._result is None:
            return self._resolved().encode_result(value, limit)
        if value is None and self._result.takes_none:
            return "null"
        return self._result.write(value, self._what_result, limit, "max_result")

    def decode_result(self, text: str) -> Any:
        """The result, by the return annotation. Raises InvalidPayload."""
        if self._result is None:
            return self._resolved().decode_result(text)
        return self._result.read(text, self._what_result)

    def _resolved(self) -> "Signature":
        self.resolve()
        return self

    def _bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Name the arguments as a call would. Missing ones are left to the adapter, which knows the defaults."""
        if len(args) > len(self._positional):
            rule = f"takes {len(self._positional)} positional argument(s), {len(args)} given"
            raise InvalidPayload(self._what, "", "unexpected", rule)
        given = dict(zip(self._positional, args, strict=False))
        for name, value in kwargs.items():
            if name in given:
                raise InvalidPayload(self._what, describe([name]), "unexpected", "is given twice")
            if name not in self.parameters or any(name == only for only, _ in self._only_positional):
                raise InvalidPayload(self._what, describe([name]), "unexpected", "is not an argument by that name")
            given[name] = value
        return given

    def _take_raw(self, name: str, given: dict[str, Any]) -> str:
        """Text given for `pydantic.Json` is JSON already."""
        value = given.pop(name)
        try:
            return value if isinstance(value, str) else bytes(value).decode()
        except UnicodeDecodeError:
            pass
        raise InvalidPayload(self._what, name, "json_invalid", "is not valid JSON")

    def _build(self) -> None:
        """Read all annotations, then make both adapters. Raises InvalidSignature, Unresolved."""
        found, self.returns = self._annotations()
        self._refuse_bad_context(found)
        parameters = [part for part in self._all if found[part.name] is not JobContext]
        arguments = self._argument_adapter(parameters, found)
        self._result = self._result_adapter()
        self.wants_context = len(parameters) < len(self._all)
        self.parameters = tuple(part.name for part in parameters)
        self._positional = tuple(part.name for part in parameters if part.kind is not part.KEYWORD_ONLY)
        only = [part for part in parameters if part.kind is part.POSITIONAL_ONLY]
        self._only_positional = tuple((part.name, part.default) for part in only)
        self._raw = frozenset(name for name, schema in arguments.fields().items() if schema["type"] == "json")
        self._names = NO_NAMES
        self._arguments = arguments

    def _annotations(self) -> tuple[dict[str, Any], Any]:
        """What the parameters and the result are. Raises InvalidSignature, Unresolved."""
        found = {part.name: resolve(self.function, part.name, part.annotation, self._names) for part in self._all}
        return found, resolve(self.function, _RESULT, self._result_as_written, self._names)

    def _refuse_bad_context(self, found: Mapping[str, Any]) -> None:
        for index, part in enumerate(self._all):
            annotation = found[part.name]
            if not mentions(annotation, JobContext):
                continue
            if annotation is not JobContext:
                raise self._fault(part.name, "the context is annotated JobContext and nothing else")
            if index > 0 or part.kind is part.KEYWORD_ONLY:
                raise self._fault(part.name, "the context must be the first parameter, and positional")
            if part.default is not part.empty:
                raise self._fault(part.name, "the context has no default; it is always given")

    def _argument_adapter(self, parameters: list[inspect.Parameter], found: Mapping[str, Any]) -> Adapter:
        fields = {
            part.name: found[part.name] if part.default is part.empty else NotRequired[found[part.name]]
            for part in parameters
        }
        shape = _TypedDict("Arguments", fields)
        shape.__pydantic_config__ = ConfigDict(extra="forbid")
        try:
            adapter = Adapter(shape)
        except Exception:  # which of them is at fault is told by looking at each alone
            for part in parameters:
                self._adapter(found[part.name], part.name)
            raise
        for name, schema in adapter.fields().items():
            self._refuse_unstorable(name, adapter.find_fault(schema))
        return adapter

    def _result_adapter(self) -> Adapter:
        if self.returns in (NoReturn, Never):
            self.returns = Any
        if any(self.returns is common for common in _COMMON_RESULTS):
            return _common_adapter(self.returns)
        adapter = self._adapter(self.returns, _RESULT)
        self._refuse_unstorable(_RESULT, adapter.find_fault(adapter.schema))
        return adapter

    def _adapter(self, annotation: Any, place: str) -> Adapter:
        try:
            return Adapter(annotation)
        except Incomplete as error:
            name = error.name
        except Exception as error:  # pydantic raises many kinds; each means that it cannot handle the annotation
            raise self._fault(place, f"pydantic cannot handle its annotation: {_first_sentence(error)}") from error
        raise Unresolved(place, name)

    def _refuse_unstorable(self, place: str, fault: str | None) -> None:
        if fault is not None:
            raise self._fault(place, f"its annotation {fault}")

    def _fault(self, place: str, fault: str) -> InvalidSignature:
        return InvalidSignature(self.name, f"{_place(place)}: {fault}")


def _place(parameter: str) -> str:
    return "the result" if parameter == _RESULT else f"parameter {parameter!r}"


def _first_sentence(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].partition(". ")[0]


@cache
def _common_adapter(annotation: Any) -> Adapter:
    return Adapter(annotation)
