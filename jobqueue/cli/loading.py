"""Finds the user's App: `shop:app`, with dotted paths on both sides, or a factory without arguments.

The attribute is `app` if none is named. The current directory is on the path, as with `python -m`.
"""

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from functools import partial
from types import ModuleType

from jobqueue.app import App
from jobqueue.cli.terminal.failures import ExitCode, Refusal, no_exit, users_part
from jobqueue.tasks.router import Router

_SHAPE = "write module:attribute, as in shop:app"


def load_app(target: str) -> App:
    """Import the module and return the App it names. Raises Refusal, and whatever the user's own code raises."""
    if "://" in target:
        raise Refusal("that is a connection string, not an App; give it as --dsn", ExitCode.USAGE)
    module_name, _, path = target.partition(":")
    path = path or "app"
    _check_names(target, module_name, path)
    with no_exit("while the App was loaded"):
        found = _walk(_imported(module_name), module_name, path)
        return _app_from(found, f"{module_name}:{path}")


def load_function(option: str, target: str) -> Callable[..., object]:
    """Import the module and return the function it names, for this option. Raises Refusal, and as `load_app`."""
    module_name, _, path = target.partition(":")
    if not path:
        raise Refusal(
            f"{option}: {target!r} does not name a function; write module:function, as in shop:who", ExitCode.USAGE
        )
    _check_names(target, module_name, path)
    with no_exit(f"while {option} was loaded"):
        found = _walk(_imported(module_name), module_name, path)
    if not callable(found):
        raise Refusal(f"{option}: {target} is {_article(type(found).__name__)} {type(found).__name__}, not a function")
    return found


def _check_names(target: str, module_name: str, path: str) -> None:
    """Raises Refusal. From now on the current directory is on the path."""
    if module_name.endswith(".py") or os.sep in module_name:
        raise Refusal(f"{target!r} is a file, not a module; {_SHAPE}", ExitCode.USAGE)
    if not all(part.isidentifier() for part in [*module_name.split("."), *path.split(".")]):
        raise Refusal(f"{target!r} does not name an App; {_SHAPE}", ExitCode.USAGE)
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.insert(0, os.getcwd())


def load_tasks(app: App, target: str, *, needed: bool = True) -> None:
    """Import the modules that the App names in `tasks=`. Raises Refusal if one is missing, or `needed` tasks are."""
    try:
        with no_exit("while the modules of tasks= were imported"):
            app.load_tasks()
    except ModuleNotFoundError as error:
        if users_part(error.__traceback__) is None:
            raise Refusal(f"{error.msg}: it is named in tasks= of {target} ({_here()})") from None
        raise
    if needed and not len(app.registry):
        raise Refusal(
            f"{target} has no tasks; name the modules that define them: App(tasks=['shop.mail', ...]), "
            f"or import them in the module of the App. {_looked_into(app)}",
            ExitCode.USAGE,
        )


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if users_part(error.__traceback__) is None and (name == missing or name.startswith(f"{missing}.")):
            raise Refusal(f"{error.msg} ({_here()})") from None
        raise


def _walk(module: ModuleType, name: str, path: str) -> object:
    found: object = module
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            if users_part(error.__traceback__) is not None:
                raise  # a property of theirs failed
            raise Refusal(f"{name} has no {path!r}; {_apps_in(module)}") from None
    return found


def _app_from(found: object, target: str) -> App:
    if isinstance(found, App):
        return found
    if isinstance(found, Router):
        raise Refusal(f"{target} is a Router; name the App that includes it")
    if isinstance(found, type) or not callable(found) or (_is_object(found) and _needs_arguments(found)):
        name = type(found).__name__
        kind = f"the class {found.__name__}" if isinstance(found, type) else f"{_article(name)} {name}"
        module = sys.modules[target.partition(":")[0]]
        raise Refusal(f"{target} is {kind}, not an App; {_apps_in(module)}")
    if inspect.iscoroutinefunction(found):
        raise Refusal(f"{target} is an async function; a factory must be a plain one")
    if _needs_arguments(found):
        raise Refusal(f"{target} needs arguments; a factory must do without")
    made = found()
    if not isinstance(made, App):
        raise Refusal(f"{target}() returned an object of type {type(made).__name__}, not an App")
    return made


def _is_object(found: object) -> bool:
    """Not a function, though it may be called: as a FastAPI may."""
    return not inspect.isroutine(found) and not isinstance(found, partial)


def _article(name: str) -> str:
    return "an" if name[:1].upper() in "AEIOU" else "a"


def _needs_arguments(factory: Callable[..., object]) -> bool:
    try:
        inspect.signature(factory).bind()
    except TypeError:
        return True
    except ValueError:  # some callables written in C have no signature
        return False
    return False


def _apps_in(module: ModuleType) -> str:
    names = sorted(name for name, value in vars(module).items() if isinstance(value, App))
    if not names:
        return f"there is no App in {module.__name__}"
    return f"Apps there: {', '.join(f'{module.__name__}:{name}' for name in names)}"


def _looked_into(app: App) -> str:
    modules = app.task_modules
    return f"Imported: {', '.join(modules)}" if modules else "Its tasks= is empty"


def _here() -> str:
    return f"current directory: {os.getcwd()}"
