"""What a test expects to have been deferred; and what it is told if something else was."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter

from jobqueue.base.job import Job
from jobqueue.tasks.task import Task

MOST_SHOWN = 20
_LONGEST = 200
_KEPT = (
    "Without a database nobody knows whether the transaction of a `connection=` was rolled back: the job is here all "
    "the same. On a database, app.testing(connection=...) or jobqueue_app knows it."
)
_ANY = TypeAdapter[Any](Any)


def expect(
    task: Task[..., Any], times: int | None, args: Mapping[str, Any], deferred: Sequence[Job], kept: Collection[UUID]
) -> list[Job]:
    """The jobs of this task with these arguments. Raises AssertionError, TypeError for what is no argument of it.

    `kept` are those whose transaction may have been rolled back, which nobody here would know.
    """
    __tracebackhide__ = True
    wanted = _as_stored(task, args)
    found = [job for job in deferred if job.task == task.name and _fits(job.args, wanted)]
    if (times is None and found) or len(found) == times:
        return found
    told = _told(_call(task.name, wanted), times, found, deferred, task.name)
    if times is not None and len(found) > times and any(job.id in kept for job in found):
        told = f"{told}\n{_KEPT}"
    raise AssertionError(told)


def _as_stored(task: Task[..., Any], args: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as they arrive: a model as its JSON."""
    task.resolve()
    unknown = [name for name in args if name not in task.signature.parameters]
    if unknown:
        known = ", ".join(task.signature.parameters) or "none"
        raise TypeError(f"assert_deferred: {task.name} has no argument {unknown[0]!r}; it has: {known}")
    return {name: _ANY.dump_python(value, mode="json", by_alias=True, round_trip=True) for name, value in args.items()}


def _fits(given: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(name in given and given[name] == value for name, value in wanted.items())


def _told(call: str, times: int | None, found: Sequence[Job], deferred: Sequence[Job], task: str) -> str:
    said = f"{call} was not deferred" if not found else f"{call} was deferred {_times(len(found))}"
    said += "" if times is None else f", not {_times(times)}"
    if not deferred:
        return f"{said}; nothing was deferred"
    # Those of the task first: what was meant is most likely among them.
    shown = sorted(deferred, key=lambda job: job.task != task)
    lines = [f"  {_line(job)}" for job in shown[:MOST_SHOWN]]
    more = [f"  and {len(shown) - MOST_SHOWN} more"] if len(shown) > MOST_SHOWN else []
    return "\n".join([f"{said}. Deferred were:", *lines, *more])


def _line(job: Job) -> str:
    about = [job.state.value]
    about += [f"queue {job.queue}"] if job.queue != "default" else []
    seconds = (job.due_at - job.created_at).total_seconds()
    about += [f"delay {seconds:g}"] if seconds > 0 else []
    about += [job.reason] if job.reason else []
    about += [job.error.error_class] if job.error else []
    return f"{_call(job.task, job.args)}  [{', '.join(about)}]"


def _call(task: str, args: Mapping[str, Any]) -> str:
    text = ", ".join(f"{name}={value!r}" for name, value in args.items())
    return f"{task}({text if len(text) <= _LONGEST else f'{text[:_LONGEST]}...'})"


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"
