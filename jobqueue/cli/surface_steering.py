"""The surface of the verbs that change jobs: `jobs cancel`, `retry`, `reschedule`, `move`, `priority`, `delete`."""

from typing import Annotated, Any

import typer

from jobqueue.base.steering import Action
from jobqueue.cli.meant import Meant
from jobqueue.cli.moments import moment_of, seconds
from jobqueue.cli.options import (
    DryRun,
    Dsn,
    IdsAndApp,
    Json,
    Key,
    Origin,
    Queue,
    Schema,
    States,
    TaskName,
    Yes,
)
from jobqueue.cli.surface_jobs import jobs

__all__ = ["jobs"]

_EPILOG = """\b
Exit codes:
    0  done, or no job matched the filter
    1  a job was refused or is not there; or the question was answered with no
    2  wrong usage; or a question that needs --yes, as there is no terminal"""


def _steer(
    action: Action, meant: Meant, dsn: str | None, schema: str | None, how: tuple[bool, bool, bool], **to: Any
) -> int:
    """`how`: dry run, yes, as JSON."""
    from jobqueue.cli.place import Place
    from jobqueue.cli.steering import Order, steer

    dry_run, yes, json = how
    order = Order(action, meant, to, dry_run=dry_run, yes=yes, as_json=json)
    order.check()
    return steer(Place.of(meant.app, dsn, schema), order)


@jobs.command("cancel", epilog=_EPILOG)
def jobs_cancel(
    words: IdsAndApp = None,
    state: States = None,
    queue: Queue = None,
    task: TaskName = None,
    origin: Origin = None,
    key: Key = None,
    dsn: Dsn = None,
    schema: Schema = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> int:
    """End jobs, waiting or running.

    Those that wait end at once, those that run as soon as their worker has heard of it. By filter it asks first.
    """
    meant = Meant.of(words, state, queue, task, origin, key)
    return _steer(Action.CANCEL, meant, dsn, schema, (dry_run, yes, json))


@jobs.command("retry", epilog=_EPILOG)
def jobs_retry(
    words: IdsAndApp = None,
    state: States = None,
    queue: Queue = None,
    task: TaskName = None,
    origin: Origin = None,
    key: Key = None,
    dsn: Dsn = None,
    schema: Schema = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> int:
    """Run ended jobs again.

    They get all their attempts anew and keep their history. Those that wait are due at once.
    By filter, without --state: the dead ones. It asks first if that is more than one job.
    """
    meant = Meant.of(words, state, queue, task, origin, key)
    return _steer(Action.RETRY, meant, dsn, schema, (dry_run, yes, json))


@jobs.command("reschedule", epilog=_EPILOG)
def jobs_reschedule(
    words: IdsAndApp = None,
    delay: Annotated[
        str | None, typer.Option("--in", metavar="TIME", help="From now: 90 (seconds), 10m, 2h, 1d.")
    ] = None,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="With a zone: 2026-03-01T12:00+01:00.")] = None,
    state: States = None,
    queue: Queue = None,
    task: TaskName = None,
    origin: Origin = None,
    key: Key = None,
    dsn: Dsn = None,
    schema: Schema = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> int:
    """Give waiting jobs another time.

    By filter it asks first if that is more than one job.
    """
    meant = Meant.of(words, state, queue, task, origin, key)
    return _steer(
        Action.RESCHEDULE,
        meant,
        dsn,
        schema,
        (dry_run, yes, json),
        delay=seconds("--in", delay),
        at=moment_of("--at", at),
    )


@jobs.command("move", epilog=_EPILOG)
def jobs_move(
    to: Annotated[str, typer.Option(metavar="QUEUE", help="The queue to move them to.")],
    words: IdsAndApp = None,
    state: States = None,
    queue: Queue = None,
    task: TaskName = None,
    origin: Origin = None,
    key: Key = None,
    dsn: Dsn = None,
    schema: Schema = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> int:
    """Move waiting jobs to another queue.

    By filter it asks first if that is more than one job.
    """
    meant = Meant.of(words, state, queue, task, origin, key)
    return _steer(Action.MOVE, meant, dsn, schema, (dry_run, yes, json), to=to)


@jobs.command("priority", epilog=_EPILOG)
def jobs_priority(
    to: Annotated[int, typer.Option(min=-32768, max=32767, help="The priority; 0 is usual.")],
    words: IdsAndApp = None,
    state: States = None,
    queue: Queue = None,
    task: TaskName = None,
    origin: Origin = None,
    key: Key = None,
    dsn: Dsn = None,
    schema: Schema = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> int:
    """Give waiting jobs another priority.

    Higher runs first. By filter it asks first if that is more than one job.
    """
    meant = Meant.of(words, state, queue, task, origin, key)
    return _steer(Action.SET_PRIORITY, meant, dsn, schema, (dry_run, yes, json), priority=to)


@jobs.command("delete", epilog=_EPILOG)
def jobs_delete(
    words: IdsAndApp = None,
    state: States = None,
    queue: Queue = None,
    task: TaskName = None,
    origin: Origin = None,
    key: Key = None,
    dsn: Dsn = None,
    schema: Schema = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> int:
    """Remove jobs for good.

    Finished or waiting, with their results; never one that runs. It always asks first.
    """
    meant = Meant.of(words, state, queue, task, origin, key)
    return _steer(Action.DELETE, meant, dsn, schema, (dry_run, yes, json))
