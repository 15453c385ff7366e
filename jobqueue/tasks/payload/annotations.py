"""Annotations as written to types: at once where their names can be found, later where they cannot yet."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_args, get_type_hints

from jobqueue.tasks.context import JobContext


class Unresolved(Exception):
    """Raised while a name in the annotation of `parameter` ("return" for the result) is not known yet."""

    def __init__(self, parameter: str, name: str) -> None:
        super().__init__(f"{parameter}: {name}")
        self.parameter = parameter
        self.name = name


def resolve(function: Callable[..., Any], parameter: str, annotation: Any, names: Mapping[str, Any]) -> Any:
    """The type that an annotation means where the function is defined; `names` are local ones. Raises Unresolved."""
    if isinstance(annotation, str) and annotation.rpartition(".")[2] == JobContext.__name__:
        return JobContext  # often imported under TYPE_CHECKING only, and nobody needs the name at run time

    def probe() -> None: ...

    probe.__annotations__ = {parameter: annotation}
    local = {part.__name__: part for part in getattr(function, "__type_params__", ())} | dict(names)
    try:
        return get_type_hints(probe, inspect.unwrap(function).__globals__, local, include_extras=True)[parameter]
    except (NameError, AttributeError) as error:  # AttributeError: of a module that is still being imported
        name = error.name
    raise Unresolved(parameter, name or "?")


def mentions(annotation: Any, wanted: type) -> bool:
    """True if a type stands anywhere in an annotation."""
    return annotation is wanted or any(mentions(part, wanted) for part in get_args(annotation))
