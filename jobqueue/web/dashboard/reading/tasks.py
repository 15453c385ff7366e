"""Tasks: those of this app's code, and those that only the database knows."""

import inspect
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import anyio.to_thread

from jobqueue.base.errors import InvalidSignature
from jobqueue.base.looking.history import Rates, Times
from jobqueue.store.connection.session import Session
from jobqueue.store.looking.history import percentiles, rates
from jobqueue.tasks.options import TaskOptions, Unique
from jobqueue.tasks.registry import AnyTask
from jobqueue.web.dashboard.reading.queues import TimesSeen
from jobqueue.web.dashboard.reading.view import Model, View
from jobqueue.web.dashboard.showing.code import python_call, signature_text, sql_call
from jobqueue.web.dashboard.showing.words import span

_PLAIN = TaskOptions()
_KEPT = 10.0
_DAY, _HOUR = timedelta(days=1), timedelta(hours=1)
_STEP = 600
_EXACT = 60
"""A length of whole minutes is told in words that leave nothing out."""
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
    runs: int
    """Attempts that ended in the last hour."""
    failed: int
    run_p95: float | None
    """In the queue where it runs most."""


class Elsewhere(Model):
    """A task that the database knows, and this app's code does not."""

    name: str
    runs: int
    failed: int


class TasksSeen(Model):
    """The tasks by name."""

    tasks: list[TaskRow]
    elsewhere: list[Elsewhere]
    """Another app's tasks, or such as a deploy has renamed."""
    broken: str | None
    """Why the modules of the app could not be imported: the class of the error."""


class Ended(Model):
    """What ended in ten minutes."""

    at: datetime
    completed: int
    failed: int
    """Attempts that failed."""


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
    times: list[TimesSeen]
    """Of an hour, by queue."""
    past: list[Ended]
    """A day; empty for who sees some queues only: it is counted for all together."""
    queues: list[str]
    """Where a job of it may be put."""


async def read_tasks(view: View, find: str = "") -> TasksSeen:
    """Those whose names contain a text. Raises DatabaseError."""
    broken = await _load(view)
    registry, word = view.site.app.registry, find.lower()
    mine = [task for task in registry if view.access.sees(task.queue) and word in task.name.lower()]
    times = await _times(view)
    elsewhere = [
        Elsewhere(name=name, runs=sum(each.runs for each in theirs), failed=sum(each.failed for each in theirs))
        for name, theirs in sorted(times.items())
        if registry.find(name) is None and word in name.lower()
    ]
    rows = [_row(view, task, times.get(task.name, [])) for task in sorted(mine, key=lambda task: task.name)]
    return TasksSeen(tasks=rows, elsewhere=elsewhere, broken=broken)


async def read_task(view: View, name: str) -> TaskSeen | None:
    """One; None if nobody knows it, or it may not be seen. Raises DatabaseError."""
    broken = await _load(view)
    task = find_task(view, name)
    times = (await _times(view)).get(name, [])
    if task is None and (name in view.site.app.registry.names or not times):
        return None
    past = await _past(view, name)
    needed = [] if task is None else _needed(task)
    return TaskSeen(
        task=None if task is None else _row(view, task, times),
        name=name,
        about=None if task is None else _about(task),
        module=None if task is None else task.function.__module__,
        needed=needed,
        batch=None if task is None or task.batch is None else f"up to {task.batch.size} at once",
        python=None if task is None else python_call(task.function, needed, _only_by_place(task)),
        sql=sql_call(view.site.app.schema, name, needed, "default" if task is None else task.queue),
        broken=broken,
        times=[TimesSeen.of(each) for each in times],
        past=[Ended(at=each.at, completed=each.completed, failed=each.retried + each.dead) for each in past],
        queues=await _queues(view),
    )


def find_task(view: View, name: str) -> AnyTask | None:
    """The task of this name or alias, if it may be seen, and is not one of the library's own."""
    task = view.site.app.registry.find(name) if name in view.site.app.registry else None
    return task if task is not None and view.access.sees(task.queue) else None


async def _load(view: View) -> str | None:
    """Import the modules of the app, if nobody has; why that failed, if it did: then not again for some seconds."""
    app = view.site.app

    async def load() -> str | None:
        try:
            await anyio.to_thread.run_sync(app.load_tasks)
        except Exception as error:  # the user's own modules may raise anything
            return type(error).__name__
        return None

    if all(module in sys.modules for module in app.task_modules):
        return None
    return await view.site.looker.renewed("modules", _KEPT, load)


async def _times(view: View) -> dict[str, list[Times]]:
    """How it went in the last hour, by task; the queue where it runs most first."""

    async def read(session: Session) -> list[Times]:
        return await percentiles(session, _HOUR)

    found: dict[str, list[Times]] = {}
    for each in await view.site.looker.kept("times", _KEPT, read):
        if each.task is not None and view.access.sees(each.queue):
            found.setdefault(each.task, []).append(each)
    return {task: sorted(theirs, key=lambda each: -each.runs) for task, theirs in found.items()}


async def _past(view: View, name: str) -> list[Rates]:
    """A day of a task; nothing for who sees some queues only."""
    if view.access.queues is not None:
        return []

    async def read(session: Session) -> list[Rates]:
        return await rates(session, _DAY, step=_STEP, task=name)

    return await view.site.looker.kept(("task", name), _KEPT, read)


async def _queues(view: View) -> list[str]:
    frame = await view.site.looker.frame()
    own = {task.queue for task in view.site.app.registry} | {each.queue for each in frame.queues}
    return sorted(name for name in own if view.access.sees(name))


def _row(view: View, task: AnyTask, times: list[Times]) -> TaskRow:
    registry = view.site.app.registry
    return TaskRow(
        name=task.name,
        queue=task.queue,
        signature=_signature(task),
        options=dict(_options(task)),
        schedules=sorted(each.name for each in registry.schedules if each.task.name == task.name),
        limits=[each.name for each in task.gates.limits] if task.gates else [],
        aliases=list(task.aliases),
        runs=sum(each.runs for each in times),
        failed=sum(each.failed for each in times),
        run_p95=times[0].run_p95 if times else None,
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
        return span(value) if value % _EXACT == 0 else f"{value:g} s"
    if isinstance(value, Unique):
        return f"{value.key or 'by arguments'}, {value.scope}, {value.on_conflict}"
    if callable(value):
        return getattr(value, "__name__", type(value).__name__)
    return "yes" if value is True else str(value)
