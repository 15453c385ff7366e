"""The surface of `jobs`: every verb with its options, but those that change jobs, which `surface_steering.py` adds."""

from typing import Annotated
from uuid import UUID

import typer

from jobqueue.cli.jobs.meant import id_and_app, values_of
from jobqueue.cli.moments import seconds
from jobqueue.cli.options import (
    Args,
    Bundle,
    Dsn,
    ErrorClass,
    Fingerprint,
    JobId,
    Json,
    Origin,
    Payload,
    Queue,
    Schema,
    SecondTarget,
    States,
    Target,
    TaskName,
    Text,
    group,
)

jobs = group("Look at jobs and steer them.")


@jobs.command("list")
def jobs_list(
    app: Target = None,
    dsn: Dsn = None,
    schema: Schema = None,
    state: States = None,
    queue: Queue = None,
    task: TaskName = None,
    origin: Origin = None,
    bundle: Bundle = None,
    error: ErrorClass = None,
    arg: Args = None,
    text: Text = None,
    fingerprint: Fingerprint = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50,
    after: Annotated[
        UUID | None, typer.Option(metavar="ID", help="Go on after this job, the last of the page before.")
    ] = None,
    payload: Payload = False,
    json: Json = False,
) -> int:
    """List jobs, newest first."""
    from jobqueue.cli.jobs.look import list_jobs
    from jobqueue.cli.place import Place

    return list_jobs(
        Place.of(app, dsn, schema),
        states=state,
        queue=queue,
        task=task,
        origin=origin,
        bundle=bundle,
        inside={"error": error, "args": values_of(arg), "text": text, "fingerprint": fingerprint},
        after=after,
        limit=limit,
        payload=payload,
        as_json=json,
    )


@jobs.command("show")
def jobs_show(
    id: JobId,
    app: SecondTarget = None,
    dsn: Dsn = None,
    schema: Schema = None,
    payload: Payload = False,
    json: Json = False,
) -> int:
    """Show one job with its whole story."""
    from jobqueue.cli.jobs.look import show_job
    from jobqueue.cli.place import Place

    job, target = id_and_app([id] if app is None else [id, app])
    return show_job(Place.of(target, dsn, schema), job, payload=payload, as_json=json)


@jobs.command(
    "wait",
    epilog="""\b
Exit codes:
    0  completed
    1  dead, cancelled or not there
  124  it had not ended within --timeout""",
)
def jobs_wait(
    id: JobId,
    app: SecondTarget = None,
    dsn: Dsn = None,
    schema: Schema = None,
    timeout: Annotated[
        str | None, typer.Option(metavar="TIME", help="At most so long: 30 (seconds), 10m, 2h. Without it for ever.")
    ] = None,
    payload: Payload = False,
    json: Json = False,
) -> int:
    """Wait until a job has ended, and say how."""
    from jobqueue.cli.jobs.look import wait_for_job
    from jobqueue.cli.place import Place

    job, target = id_and_app([id] if app is None else [id, app])
    limit = seconds("--timeout", timeout)
    return wait_for_job(Place.of(target, dsn, schema), job, limit, payload=payload, as_json=json)


@jobs.command("errors")
def jobs_errors(
    app: Target = None,
    dsn: Dsn = None,
    schema: Schema = None,
    queue: Queue = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many groups.")] = 20,
    json: Json = False,
) -> int:
    """Group the latest dead jobs by their errors.

    By task, class and place of the last error. `jobs list` and `jobs retry --fingerprint HEX` take one group.
    """
    from jobqueue.cli.jobs.failures import show_errors
    from jobqueue.cli.place import Place

    return show_errors(Place.of(app, dsn, schema), queue=queue, limit=limit, as_json=json)


@jobs.command("counts")
def jobs_counts(app: Target = None, dsn: Dsn = None, schema: Schema = None, json: Json = False) -> int:
    """Count jobs by queue and state."""
    from jobqueue.cli.jobs.look import show_counts
    from jobqueue.cli.place import Place

    return show_counts(Place.of(app, dsn, schema), json)
