"""The surface of what changes jobs: `cancel`, `retry`, `reschedule`, `move`, `priority`, `delete`, `signal`."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

import typer

from jobqueue.base.steering import Action
from jobqueue.cli.jobs.meant import Meant
from jobqueue.cli.jobs.verbs import jobs
from jobqueue.cli.moments import moment_of, seconds
from jobqueue.cli.options import (
    Args,
    Bundle,
    DryRun,
    Dsn,
    ErrorClass,
    Fingerprint,
    IdsAndApp,
    InBackground,
    JobId,
    Json,
    Key,
    NoBundle,
    Origin,
    Queue,
    Schema,
    States,
    TaskName,
    Text,
    Yes,
)

__all__ = ["jobs"]

To: TypeAlias = dict[str, Any]
"""What an action needs beside the jobs, as its method takes it."""

_EPILOG = """\b
Exit codes:
    0  done, or no job matched the filter
    1  a job was refused or is not there; or the question was answered with no
    2  wrong usage; or a question that needs --yes, as there is no terminal"""


def _shared(
    words: IdsAndApp = None,
    state: States = None,
    queue: Queue = None,
    task: TaskName = None,
    origin: Origin = None,
    bundle: Bundle = None,
    no_bundle: NoBundle = False,
    key: Key = None,
    error: ErrorClass = None,
    arg: Args = None,
    text: Text = None,
    fingerprint: Fingerprint = None,
    dsn: Dsn = None,
    schema: Schema = None,
    dry_run: DryRun = False,
    in_background: InBackground = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """What each of these verbs takes: which jobs are meant, where they are, and how to go about it."""


def _verb(name: str, action: Action) -> Callable[[Callable[..., To]], None]:
    """Make a verb of a function that has only the options of its own, after which come those that all share."""

    def make(own: Callable[..., To]) -> None:
        def verb(**given: Any) -> int:
            to = own(**{option: given.pop(option) for option in inspect.signature(own).parameters})
            return _steer(action, to, **given)

        words, *rest = inspect.signature(_shared).parameters.values()
        every = [words, *inspect.signature(own).parameters.values(), *rest]
        options = [option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in every]
        verb.__dict__["__signature__"] = inspect.Signature(options, return_annotation=int)  # what typer reads
        verb.__annotations__ = {option.name: option.annotation for option in options}
        verb.__doc__ = own.__doc__
        jobs.command(name, epilog=_EPILOG)(verb)

    return make


def _steer(
    action: Action,
    to: To,
    *,
    words: list[str] | None,
    dsn: str | None,
    schema: str | None,
    dry_run: bool,
    in_background: bool,
    yes: bool,
    json: bool,
    **filters: Any,
) -> int:
    from jobqueue.cli.jobs.steering import Order, steer
    from jobqueue.cli.place import Place

    meant = Meant.of(words, **filters)
    order = Order(action, meant, to, dry_run=dry_run, yes=yes, as_json=json)
    if in_background:
        from jobqueue.cli.jobs.background import begin

        return begin(Place.of(meant.app, dsn, schema), order)
    order.check()
    return steer(Place.of(meant.app, dsn, schema), order)


@_verb("cancel", Action.CANCEL)
def jobs_cancel() -> To:
    """End jobs, waiting or running.

    Those that wait end at once, those that run as soon as their worker has heard of it. By filter it asks first.
    """
    return {}


@_verb("retry", Action.RETRY)
def jobs_retry(
    from_start: Annotated[
        bool, typer.Option("--from-start", help="Forget their phases: what is completed runs again too.")
    ] = False,
) -> To:
    """Run ended jobs again.

    They get all their attempts anew and keep their history. Those that wait are due at once.
    By filter, without --state: the dead ones. It asks first if that is more than one job.
    Phases that are completed do not run again.
    """
    return {"from_start": from_start}


@_verb("reschedule", Action.RESCHEDULE)
def jobs_reschedule(
    delay: Annotated[
        str | None, typer.Option("--in", metavar="TIME", help="From now: 90 (seconds), 10m, 2h, 1d.")
    ] = None,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="With a zone: 2026-03-01T12:00+01:00.")] = None,
) -> To:
    """Give waiting jobs another time.

    By filter it asks first if that is more than one job.
    """
    return {"delay": seconds("--in", delay), "at": moment_of("--at", at)}


@_verb("move", Action.MOVE)
def jobs_move(to: Annotated[str, typer.Option(metavar="QUEUE", help="The queue to move them to.")]) -> To:
    """Move waiting jobs to another queue.

    By filter it asks first if that is more than one job.
    """
    return {"to": to}


@_verb("priority", Action.SET_PRIORITY)
def jobs_priority(
    to: Annotated[int, typer.Option(min=-32768, max=32767, help="The priority; 0 is usual.")],
) -> To:
    """Give waiting jobs another priority.

    Higher runs first. By filter it asks first if that is more than one job.
    """
    return {"priority": to}


@_verb("delete", Action.DELETE)
def jobs_delete() -> To:
    """Remove jobs for good.

    Finished or waiting, with their results; never one that runs. It always asks first.
    """
    return {}


@jobs.command(
    "signal",
    epilog="""\b
Exit codes:
    0  done: the job finds it now, or when it comes to wait for it
    1  the job has ended, is not there, or has 1,000 signals to read already
    2  wrong usage, such as text that is no JSON""",
)
def jobs_signal(
    id: JobId,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of the signal.")],
    payload: Annotated[
        str | None, typer.Argument(metavar="JSON", help="What it carries, null without; - reads it from stdin.")
    ] = None,
    app: Annotated[str | None, typer.Argument(metavar="APP", help="As elsewhere; or before the id.")] = None,
    dsn: Dsn = None,
    schema: Schema = None,
    json: Json = False,
) -> int:
    """Send a signal to a job.

    A job waits for it in `ctx.wait_for(NAME, ...)`. It may come before, while or after the job does so.
    """
    from jobqueue.cli.jobs.signalling import Sending, send
    from jobqueue.cli.place import Place

    sending = Sending.of([word for word in (id, name, payload, app) if word is not None])
    return send(Place.of(sending.app, dsn, schema), sending, json)
