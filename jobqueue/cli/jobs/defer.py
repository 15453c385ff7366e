"""`defer`: a job of one of the App's own tasks, its arguments checked by the task's signature."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from jobqueue.app import App
from jobqueue.base.codec import loads
from jobqueue.base.errors import InvalidPayload
from jobqueue.base.job import Conflict
from jobqueue.cli.loading import load_tasks
from jobqueue.cli.place import Place, reaching
from jobqueue.cli.terminal.failures import ExitCode, Refusal, as_usage, tell
from jobqueue.cli.terminal.output import write, write_json
from jobqueue.tasks.handle import JobHandle
from jobqueue.tasks.registry import AnyTask, call_of

_WAY_OUT = (
    "defer checks the arguments by the task itself, so it needs the App: defer shop:app TASK JSON; "
    "without it, in SQL: select jobqueue.defer('TASK', '{\"name\": \"value\"}')"
)
_NAMES_SHOWN = 10


def defer(
    target: str | None, dsn: str | None, words: tuple[str | None, str], said: dict[str, Any], as_json: bool
) -> ExitCode:
    """Store the job and say its id. `words`: the task's name and the JSON text, `-` for stdin."""
    name, text = words
    if target is None or name is None or name.lstrip()[:1] in {"{", "-"}:
        raise Refusal(_WAY_OUT, ExitCode.USAGE)
    place = Place.of(target, dsn, None)
    app = place.app
    assert app is not None  # noqa: S101 - it was named
    load_tasks(app, target)
    task = _found(app, target, name)
    handle = asyncio.run(_deferred(place, app, _call(task, said, sys.stdin.read() if text == "-" else text)))
    if handle.duplicate:
        done = "nothing was stored" if handle.conflict in (None, Conflict.SKIPPED) else f"it was {handle.conflict}"
        tell(f"job {handle.id} was there already: {done}")
    if as_json:
        write_json({"id": handle.id, "task": handle.task, "duplicate": handle.duplicate, "conflict": handle.conflict})
    else:
        write(str(handle.id))
    return ExitCode.OK


async def _deferred(place: Place, app: App, defer: Callable[[], Awaitable[JobHandle[Any]]]) -> JobHandle[Any]:
    async with place.resolved_dsn() as dsn:
        with reaching(dsn), app.override(dsn=dsn):
            try:
                return await defer()
            finally:
                await app.close()


def _found(app: App, target: str, name: str) -> AnyTask:
    task = app.registry.find(name)
    if task is None:
        names = sorted(task.name for task in app.registry)
        more = ", ..." if len(names) > _NAMES_SHOWN else ""
        raise Refusal(f"{target} has no task {name!r}; these are: {', '.join(names[:_NAMES_SHOWN])}{more}")
    return task


def _call(task: AnyTask, said: dict[str, Any], text: str) -> Callable[[], Awaitable[JobHandle[Any]]]:
    try:
        call_of(task, text)
    except InvalidPayload as error:
        if error.kind != "object":
            raise
        fault = str(error)
    else:
        return call_of(_with_options(task, said), text)
    raise Refusal(fault, ExitCode.USAGE)


def _with_options(task: AnyTask, said: dict[str, Any]) -> AnyTask:
    options = dict(said)
    if options.get("meta") is not None:
        options["meta"] = loads(options["meta"], "--meta")
    with as_usage(unique="--key"):
        return task.options(**options)
