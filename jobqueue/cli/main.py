"""The surface of the command line: every verb with its options. What a verb does is imported when it is called."""

import sys
from typing import Annotated
from uuid import UUID

import typer

from jobqueue.base.job import JobState
from jobqueue.base.version import VERSION
from jobqueue.cli.failures import ExitCode, Refusal, report
from jobqueue.cli.wishes import LogFormat, LogLevel, Wishes

_EPILOG = """\b
Exit codes:
    0  done
    1  an error; `migrate status`: a migration is missing
    2  wrong usage; `worker`: the App has no tasks
    3  `worker` cancelled jobs at its limit; they were given back
    4  `worker` was ended by force; what ran is taken over when its lease has ended
  130  interrupted
"""


def _group(help: str, epilog: str | None = None) -> typer.Typer:
    """A command with verbs, all laid out alike."""
    return typer.Typer(
        help=help,
        epilog=epilog,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"max_content_width": 100},
    )


surface = _group("A durable job queue for Python asyncio on PostgreSQL.", _EPILOG)
migrate = _group("Bring the database's schema up to date.")
jobs = _group("Look at jobs.")
surface.add_typer(migrate, name="migrate")
surface.add_typer(jobs, name="jobs")

WorkerTarget = Annotated[
    str,
    typer.Argument(metavar="APP", help="The App: shop:app. The attribute is `app` if not named; a factory will do."),
]
Target = Annotated[
    str | None, typer.Argument(metavar="APP", help="The App: shop:app. Or give --dsn, or set JOBQUEUE_DSN.")
]
Dsn = Annotated[
    str | None,
    typer.Option(metavar="DSN", help="postgresql://user:password@host/database. Visible to `ps`; JOBQUEUE_DSN is not."),
]
Schema = Annotated[str | None, typer.Option(metavar="NAME", help="The schema in the database; the App's, or jobqueue.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document.")]
Payload = Annotated[bool, typer.Option("--payload", help="Show arguments and results too.")]


def main() -> None:
    """Run the command that the process was started with, and exit."""
    try:
        code = typer.main.get_command(surface).main(standalone_mode=False)
    except typer.Abort:
        code = ExitCode.INTERRUPTED
    except Exception as error:
        code = report(error)
    sys.exit(int(code or 0))


@surface.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.", is_eager=True)] = False,
) -> None:
    """A durable job queue for Python asyncio on PostgreSQL."""
    if version:
        sys.stdout.write(f"jobqueue {VERSION}\n")
        raise typer.Exit


@surface.command()
def worker(
    app: WorkerTarget,
    queues: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES", help="mail:5,default,-bulk: with a limit of slots, with none, not that one. * is all."
        ),
    ] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Jobs at once; 50 if the App does not say.")] = None,
    drain_timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help="What running jobs get to end after the first signal; 20 if the App does not say."
        ),
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, max=256, help="Worker processes, each with this concurrency; replaced if they die.")
    ] = 1,
    burst: Annotated[bool, typer.Option("--burst", help="End when nothing is ready or running.")] = False,
    log_format: Annotated[LogFormat | None, typer.Option(help="By default console.")] = None,
    log_level: Annotated[LogLevel | None, typer.Option(help="By default info.")] = None,
    child: Annotated[int | None, typer.Option(hidden=True, help="The descriptor that leads to the parent.")] = None,
    silent: Annotated[bool, typer.Option("--silent", hidden=True, help="Show no banner.")] = False,
) -> int:
    """Run jobs until SIGTERM or Ctrl-C.

    The first signal stops claiming and waits for the running jobs; the second cancels them and gives them back; the
    third leaves at once. With --processes a parent passes them on to all, and exits with the worst of their codes.
    """
    wishes = Wishes(
        queues=queues,
        concurrency=concurrency,
        drain_timeout=drain_timeout,
        burst=burst,
        processes=processes,
        log_format=log_format,
        log_level=log_level,
    )
    if processes > 1 and child is None:
        from jobqueue.cli.processes import run_processes

        return run_processes(app, wishes)
    from jobqueue.cli.worker import run_worker

    return run_worker(app, wishes, child=child, silent=silent)


@migrate.command("status")
def migrate_status(app: Target = None, dsn: Dsn = None, schema: Schema = None, json: Json = False) -> int:
    """List the migrations, applied or missing. Exits with 1 if one is missing."""
    from jobqueue.cli.place import Place
    from jobqueue.cli.schema import show_status

    return show_status(Place.of(app, dsn, schema), json)


@migrate.command("up")
def migrate_up(app: Target = None, dsn: Dsn = None, schema: Schema = None, json: Json = False) -> int:
    """Apply what is missing. Safe from several processes at once; needs a direct connection, no transaction pooler."""
    from jobqueue.cli.place import Place
    from jobqueue.cli.schema import bring_up

    return bring_up(Place.of(app, dsn, schema), json)


@migrate.command("sql")
def migrate_sql(app: Target = None, schema: Schema = None) -> int:
    """Write all migrations as one SQL text, for those who apply SQL by other means. Touches no database."""
    from jobqueue.cli.place import schema_of
    from jobqueue.cli.schema import write_script

    return write_script(schema_of(app, schema))


@jobs.command("list")
def jobs_list(
    app: Target = None,
    dsn: Dsn = None,
    schema: Schema = None,
    state: Annotated[list[JobState] | None, typer.Option(help="Only this state; may be repeated.")] = None,
    queue: Annotated[str | None, typer.Option(metavar="NAME", help="Only this queue.")] = None,
    task: Annotated[str | None, typer.Option(metavar="NAME", help="Only this task.")] = None,
    origin: Annotated[str | None, typer.Option(metavar="NAME", help="Only jobs deferred by this origin.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50,
    after: Annotated[
        UUID | None, typer.Option(metavar="ID", help="Go on after this job, the last of the page before.")
    ] = None,
    payload: Payload = False,
    json: Json = False,
) -> int:
    """List jobs, newest first."""
    from jobqueue.cli.jobs import list_jobs
    from jobqueue.cli.place import Place

    return list_jobs(
        Place.of(app, dsn, schema),
        states=state,
        queue=queue,
        task=task,
        origin=origin,
        after=after,
        limit=limit,
        payload=payload,
        as_json=json,
    )


@jobs.command("show")
def jobs_show(
    id: Annotated[str, typer.Argument(metavar="ID", help="The job's id.")],
    app: Annotated[str | None, typer.Argument(metavar="APP", help="As elsewhere; before or after the id.")] = None,
    dsn: Dsn = None,
    schema: Schema = None,
    payload: Payload = False,
    json: Json = False,
) -> int:
    """Show one job, with its errors."""
    from jobqueue.cli.jobs import show_job
    from jobqueue.cli.place import Place

    job, target = _id_and_app([id] if app is None else [id, app])
    return show_job(Place.of(target, dsn, schema), job, payload=payload, as_json=json)


@jobs.command("counts")
def jobs_counts(app: Target = None, dsn: Dsn = None, schema: Schema = None, json: Json = False) -> int:
    """Count jobs by queue and state."""
    from jobqueue.cli.jobs import show_counts
    from jobqueue.cli.place import Place

    return show_counts(Place.of(app, dsn, schema), json)


@surface.command()
def info(app: Target = None, dsn: Dsn = None, schema: Schema = None, json: Json = False) -> int:
    """Show versions, database, schema, workers, counts and settings."""
    from jobqueue.cli.info import show_info
    from jobqueue.cli.place import Place

    return show_info(Place.of(app, dsn, schema), json)


def _id_and_app(words: list[str]) -> tuple[UUID, str | None]:
    """In whichever order they came: an id is never taken for an App."""
    ids, apps = [word for word in words if _is_id(word)], [word for word in words if not _is_id(word)]
    if len(ids) != 1:
        raise Refusal("give the id of one job, a UUID, and perhaps an App", ExitCode.USAGE)
    return UUID(ids[0]), (apps[0] if apps else None)


def _is_id(word: str) -> bool:
    try:
        UUID(word)
    except ValueError:
        return False
    return True
