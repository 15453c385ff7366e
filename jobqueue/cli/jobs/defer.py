"""`defer`: a job of one of the App's own tasks, its arguments checked by the task's signature."""

import asyncio
import sys
from typing import Any

from jobqueue.app import App
from jobqueue.base.codec import loads
from jobqueue.base.job import Conflict
from jobqueue.cli.loading import load_tasks
from jobqueue.cli.place import Place, reaching
from jobqueue.cli.terminal.failures import ExitCode, Refusal, as_usage, tell
from jobqueue.cli.terminal.output import write, write_json
from jobqueue.tasks.handle import JobHandle
from jobqueue.tasks.registry import AnyTask

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
    args, kwargs = task.signature.decode_args(_arguments(text))
    handle = asyncio.run(_deferred(place, app, _with_options(task, said), args, kwargs))
    if handle.duplicate:
        done = "nothing was stored" if handle.conflict in (None, Conflict.SKIPPED) else f"it was {handle.conflict}"
        tell(f"job {handle.id} was there already: {done}")
    if as_json:
        write_json({"id": handle.id, "task": handle.task, "duplicate": handle.duplicate, "conflict": handle.conflict})
    else:
        write(str(handle.id))
    return ExitCode.OK


async def _deferred(place: Place, app: App, task: AnyTask, args: list[Any], kwargs: dict[str, Any]) -> JobHandle[Any]:
    async with place.resolved_dsn() as dsn:
        with reaching(dsn), app.override(dsn=dsn):
            try:
                handle: JobHandle[Any] = await task.defer(*args, **kwargs)
                return handle
            finally:
                await app.close()


def _found(app: App, target: str, name: str) -> AnyTask:
    task = app.registry.find(name)
    if task is None:
        names = sorted(task.name for task in app.registry)
        more = ", ..." if len(names) > _NAMES_SHOWN else ""
        raise Refusal(f"{target} has no task {name!r}; these are: {', '.join(names[:_NAMES_SHOWN])}{more}")
    return task


def _arguments(text: str) -> str:
    """The JSON text, which must be an object."""
    if text == "-":
        text = sys.stdin.read()
    if not isinstance(loads(text, "JSON"), dict):
        raise Refusal('JSON: must be an object, keyed by parameter name: \'{"name": "value"}\'', ExitCode.USAGE)
    return text


def _with_options(task: AnyTask, said: dict[str, Any]) -> AnyTask:
    options = dict(said)
    if options.get("meta") is not None:
        options["meta"] = loads(options["meta"], "--meta")
    with as_usage(unique="--key"):
        return task.options(**options)
