"""Which functions can be tasks by their shape: everything that can be told before annotations are read."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from jobqueue.base.errors import InvalidSignature


def task_shape(function: Callable[..., Any]) -> inspect.Signature:
    """Parameters and result of a function that can be a task. Raises InvalidSignature, a sentence for each fault."""
    name = full_name(function)
    fault = _fault_of_object(function) or _fault_of_function(function)
    if fault is not None:
        raise InvalidSignature(name, fault)
    shape = inspect.signature(function)
    parameters = tuple(shape.parameters.values())
    if parameters and _is_in_class_body(function) and parameters[0].name in ("self", "cls"):
        raise InvalidSignature(name, "it is a method; write a function at module level and pass what it needs")
    for parameter in parameters:
        fault = _fault_of_parameter(parameter)
        if fault is not None:
            raise InvalidSignature(name, fault)
    return shape


def full_name(function: object) -> str:
    """Module and qualified name, or what comes closest."""
    module = getattr(function, "__module__", None) or type(function).__module__
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{module}.{name}"


def _fault_of_object(function: object) -> str | None:
    if inspect.isfunction(function):
        return None
    if isinstance(function, functools.partial):
        return "it is a partial; write a function that makes the call"
    if isinstance(function, type):
        return "it is a class; write a function"
    if inspect.ismethod(function):
        return "it is a bound method, and its object cannot be stored; write a function at module level"
    if isinstance(function, staticmethod | classmethod):
        return f"it is a {type(function).__name__}; write a function at module level"
    return "it is not a plain function; write one with def or async def that makes the call"


def _fault_of_function(function: Callable[..., Any]) -> str | None:
    if function.__name__ == "<lambda>":
        return "it is a lambda, which has no name to find it by; write a def"
    inner = inspect.unwrap(function)
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        return "it is a generator; return one value instead of yielding many"
    return None


def _fault_of_parameter(parameter: inspect.Parameter) -> str | None:
    if parameter.kind is parameter.VAR_POSITIONAL:
        return f"parameter *{parameter.name}: the number of arguments must be fixed; take a list"
    if parameter.kind is parameter.VAR_KEYWORD:
        return f"parameter **{parameter.name}: the names of arguments must be fixed; take a dict"
    if parameter.name == "self":
        return "parameter 'self': `defer` cannot be given an argument of that name; choose another"
    if type(parameter.default).__hash__ is None:
        kind = type(parameter.default).__name__
        return f"parameter {parameter.name!r}: its default is a {kind}, which one run could change for all others"
    if parameter.annotation is parameter.empty:
        return f"parameter {parameter.name!r} has no annotation; write Any if it may be anything"
    return None


def _is_in_class_body(function: Callable[..., Any]) -> bool:
    scope = function.__qualname__.rpartition(".")[0]
    return bool(scope) and not scope.endswith("<locals>")
