"""Tasks: those of this app's code, and those that only the database knows."""

import inspect
import sys
from collections.abc import Iterator
from typing import Any

import anyio.to_thread

from jobqueue.base.errors import InvalidSignature
from jobqueue.store.looking.overview import RunningJob
from jobqueue.tasks.options import TaskOptions, Unique
from jobqueue.tasks.registry import AnyTask
from jobqueue.web.dashboard.reading.view import Model, View
from jobqueue.web.dashboard.showing.code import python_call, signature_text, sql_call
from jobqueue.web.dashboard.showing.words import span

_PLAIN = TaskOptions()
_LENGTHS = ("timeout", "budget", "expires")


class TaskRow(Model):
    """A task of this app."""

    name: str
    queue: str
    signature: str
    options: dict[str, str]
    """Those that were said, in words."""
    schedules: list[str]
    limits: list[str]
    aliases: list[str]


class TasksSeen(Model):
    """The tasks by name."""

    tasks: list[TaskRow]
    elsewhere: list[str]
    """Names that the database knows and this app's code does not: another app's, or one that a deploy has renamed."""
    broken: str | None
    """Why the modules of the app could not be imported: the class of the error."""


class TaskSeen(Model):
    """One task."""

    task: TaskRow | None
    """None: it is not registered here."""
    name: str
    about: str | None
    """The first line of its docstring."""
    module: str | None
    needed: list[str]
    batch: str | None
    python: str | None
    sql: str
    broken: str | None
    running: int
    """Of those that run longest."""


async def read_tasks(view: View, find: str = "") -> TasksSeen:
    """Those whose names contain a text. Raises DatabaseError."""
    broken = await _load(view)
    registry, word = view.site.app.registry, find.lower()
    mine = [task for task in registry if view.access.sees(task.queue) and word in task.name.lower()]
    names = {name for name in await _stored(view) if word in name.lower()}
    return TasksSeen(
        tasks=[_row(view, task) for task in sorted(mine, key=lambda task: task.name)],
        elsewhere=sorted(name for name in names if registry.find(name) is None),
        broken=broken,
    )


async def read_task(view: View, name: str) -> TaskSeen | None:
    """One; None if nobody knows it, or it may not be seen. Raises DatabaseError."""
    broken = await _load(view)
    task = find_task(view, name)
    if task is None:
        if view.site.app.registry.find(name) is not None or name not in await _stored(view):
            return None
        sql = sql_call(view.site.app.schema, name, (), "default")
        return TaskSeen(
            task=None, name=name, about=None, module=None, needed=[], batch=None, python=None, sql=sql, broken=broken,
            running=await _running(view, name),
        )  # fmt: skip
    needed = _needed(task)
    return TaskSeen(
        task=_row(view, task),
        name=task.name,
        about=_about(task),
        module=task.function.__module__,
        needed=needed,
        batch=None if task.batch is None else f"up to {task.batch.size} at once",
        python=python_call(task.function, needed, _only_by_place(task)),
        sql=sql_call(view.site.app.schema, task.name, needed, task.queue),
        broken=broken,
        running=await _running(view, task.name),
    )


def find_task(view: View, name: str) -> AnyTask | None:
    """The task of this name or alias, if it may be seen, and is not one of the library's own."""
    task = view.site.app.registry.find(name) if name in view.site.app.registry else None
    return task if task is not None and view.access.sees(task.queue) else None


async def _load(view: View) -> str | None:
    """Import the modules of the app, if nobody has; why that failed, if it did."""
    app = view.site.app
    if all(module in sys.modules for module in app.task_modules):
        return None
    try:
        await anyio.to_thread.run_sync(app.load_tasks)
    except Exception as error:  # the user's own modules may raise anything
        return type(error).__name__
    return None


async def _stored(view: View) -> set[str]:
    """Names of tasks that the database knows."""
    frame = await view.site.looker.frame()
    return {each.task for each in frame.longest if view.access.sees(each.queue)}


async def _running(view: View, name: str) -> int:
    frame = await view.site.looker.frame()
    seen: list[RunningJob] = [each for each in frame.longest if view.access.sees(each.queue)]
    return sum(each.task == name for each in seen)


def _row(view: View, task: AnyTask) -> TaskRow:
    registry = view.site.app.registry
    return TaskRow(
        name=task.name,
        queue=task.queue,
        signature=_signature(task),
        options=dict(_options(task)),
        schedules=sorted(each.name for each in registry.schedules if each.task.name == task.name),
        limits=[each.name for each in task.gates.limits] if task.gates else [],
        aliases=list(task.aliases),
    )


def _signature(task: AnyTask) -> str:
    try:
        task.signature.resolve()
    except InvalidSignature as error:
        return str(error)
    return signature_text(task.function, task.signature.parameters)


def _needed(task: AnyTask) -> list[str]:
    try:
        task.signature.resolve()
    except InvalidSignature:
        return []
    return list(task.signature.needed)


def _only_by_place(task: AnyTask) -> list[str]:
    shape = inspect.signature(task.function)
    return [part.name for part in shape.parameters.values() if part.kind is part.POSITIONAL_ONLY]


def _about(task: AnyTask) -> str | None:
    text = inspect.getdoc(task.function)
    return text.partition("\n")[0] if text else None


def _options(task: AnyTask) -> Iterator[tuple[str, str]]:
    """Options of the decorator that were said; queue and limits stand apart."""
    said = task.task_options
    for name in ("priority", "max_attempts", *_LENGTHS, "retry", "unique", "fair", "follow"):
        value = getattr(said, name)
        if value != getattr(_PLAIN, name):
            yield name, _words(name, value)


def _words(name: str, value: Any) -> str:
    if name in _LENGTHS:
        return span(value)
    if isinstance(value, Unique):
        return f"{value.key or 'by arguments'}, {value.scope}, {value.on_conflict}"
    if callable(value):
        return getattr(value, "__name__", type(value).__name__)
    return "yes" if value is True else str(value)
