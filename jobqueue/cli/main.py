"""The surface of the command line: every verb with its options. What a verb does is imported when it is called."""

import sys
from typing import Annotated

import typer

from jobqueue.base.version import VERSION
from jobqueue.cli.groups import Surface
from jobqueue.cli.moments import moment_of, seconds
from jobqueue.cli.options import Dsn, Json, Origin, Queue, Schema, Target, TaskName, group
from jobqueue.cli.terminal.failures import ExitCode, Refusal, report, write_what_it_can
from jobqueue.cli.terminal.log_choices import LogFormat, LogLevel
from jobqueue.cli.worker.wishes import Wishes

_EPILOG = """\b
Exit codes:
    0  done; `worker`: what ran has ended, or it was stopped before it began
    1  an error; `migrate status`: one is missing; `jobs`: a job was refused
    2  wrong usage; `worker`: the App has no tasks
    3  `worker` cancelled jobs at its limit; they were given back
    4  `worker` was ended by force; what ran is taken over after its lease
  124  `jobs wait`, `bundles wait`: it had not ended in time
  130  interrupted
"""

surface = group("A durable job queue for Python asyncio on PostgreSQL.", _EPILOG, completion=True, cls=Surface)
migrate = group("Bring the database's schema up to date.")
surface.add_typer(migrate, name="migrate")

WorkerTarget = Annotated[
    str,
    typer.Argument(metavar="APP", help="The App: shop:app. The attribute is `app` if not named; a factory will do."),
]

Http = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Serve /metrics, /healthz and /readyz there; of several processes each at the next port.",
    ),
]


def main() -> None:
    """Run the command that the process was started with, and exit."""
    try:
        write_what_it_can()
        code = typer.main.get_command(surface).main(standalone_mode=False)
        sys.stdout.flush()
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
    http: Http = None,
    child: Annotated[int | None, typer.Option(hidden=True, help="The descriptor that leads to the parent.")] = None,
    silent: Annotated[bool, typer.Option("--silent", hidden=True, help="Show no banner.")] = False,
) -> int:
    """Run jobs until SIGTERM, SIGHUP or Ctrl-C.

    The first signal stops claiming and waits for the running jobs; the second cancels them and gives them back; the
    third leaves at once. What comes within half a second of another is the same one. With --processes a parent passes
    them on to all, and exits with the worst of their codes.
    """
    wishes = Wishes(
        queues=queues,
        concurrency=concurrency,
        drain_timeout=drain_timeout,
        burst=burst,
        processes=processes,
        log_format=log_format,
        log_level=log_level,
        http=http,
    )
    if processes > 1 and child is None:
        from jobqueue.cli.worker.processes import run_processes

        return run_processes(app, wishes)
    from jobqueue.cli.worker.run import run_worker
    from jobqueue.store.embedded.share import be_silent

    if silent:
        be_silent()
    return run_worker(app, wishes, child=child, silent=silent)


@migrate.command("status")
def migrate_status(app: Target = None, dsn: Dsn = None, schema: Schema = None, json: Json = False) -> int:
    """List the migrations, applied or missing. Exits with 1 if one is missing."""
    from jobqueue.cli.place import Place
    from jobqueue.cli.schema import show_status

    return show_status(Place.of(app, dsn, schema), json)


@migrate.command("up")
def migrate_up(app: Target = None, dsn: Dsn = None, schema: Schema = None, json: Json = False) -> int:
    """Apply what is missing. Safe from several processes at once, also through a pooler, and while jobs run."""
    from jobqueue.cli.place import Place
    from jobqueue.cli.schema import bring_up

    return bring_up(Place.of(app, dsn, schema), json)


@migrate.command("sql")
def migrate_sql(app: Target = None, schema: Schema = None) -> int:
    """Write all migrations as one SQL text.

    For those who apply SQL by other means. Touches no database.
    """
    from jobqueue.cli.place import schema_of
    from jobqueue.cli.schema import write_script

    return write_script(schema_of(app, schema))


@surface.command()
def defer(
    app: Annotated[str | None, typer.Argument(metavar="APP", help="The App that has the task: shop:app.")] = None,
    task: Annotated[str | None, typer.Argument(metavar="TASK", help="The name of the task.")] = None,
    arguments: Annotated[
        str, typer.Argument(metavar="JSON", help="An object keyed by parameter name; - reads it from stdin.")
    ] = "{}",
    queue: Annotated[str | None, typer.Option(metavar="NAME", help="Not the task's own queue.")] = None,
    priority: Annotated[int | None, typer.Option(help="Higher runs first.")] = None,
    delay: Annotated[str | None, typer.Option(metavar="TIME", help="From now: 90 (seconds), 10m, 2h, 1d.")] = None,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="With a zone: 2026-03-01T12:00+01:00.")] = None,
    key: Annotated[str | None, typer.Option(metavar="KEY", help="At most one unfinished job with this key.")] = None,
    meta: Annotated[str | None, typer.Option(metavar="JSON", help="An object that travels with the job.")] = None,
    origin: Annotated[str | None, typer.Option(metavar="NAME", help="Who defers it; the App's name.")] = None,
    id: Annotated[str | None, typer.Option(metavar="ID", help="A UUID of yours: sent again, nothing is added.")] = None,
    dsn: Dsn = None,
    json: Json = False,
) -> int:
    """Store a job of one of the App's tasks, and say its id."""
    from jobqueue.cli.jobs.defer import defer as defer_job

    when = {"delay": seconds("--delay", delay), "at": moment_of("--at", at)}
    said = when | {"queue": queue, "priority": priority, "unique": key, "meta": meta, "origin": origin, "id": id}
    return defer_job(app, dsn, (task, arguments), said, json)


@surface.command()
def info(app: Target = None, dsn: Dsn = None, schema: Schema = None, json: Json = False) -> int:
    """Show versions, database, schema, workers, counts and settings."""
    from jobqueue.cli.info import show_info
    from jobqueue.cli.place import Place

    return show_info(Place.of(app, dsn, schema), json)


@surface.command()
def top(
    app: Target = None,
    dsn: Dsn = None,
    schema: Schema = None,
    interval: Annotated[
        float | None,
        typer.Option(min=0.5, metavar="SECONDS", help="Between two looks; 2. With --json it goes on into a pipe too."),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="One frame, as always where stdout is no terminal.")] = False,
    json: Json = False,
) -> int:
    """Watch queues, workers and running jobs. Ends with q or Ctrl-C.

    Rates are jobs a second over the last 10 s, or since the first look: deferred (or retried by hand; up to a second
    late), started (attempts), and how jobs ended. Numbers after ~ are estimates. A worker's jobs ahead are claimed, and
    wait in it for a slot.
    """
    from jobqueue.cli.place import Place
    from jobqueue.cli.top.screen import Wish, show_top

    return show_top(Place.of(app, dsn, schema), Wish(interval, once, json))


@surface.command()
def web(
    app: Target = None,
    dsn: Dsn = None,
    schema: Schema = None,
    http: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where it is served.")] = "127.0.0.1:8080",
    read_only: Annotated[bool, typer.Option("--read-only", help="Nobody may change anything.")] = False,
    token_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="Ask for the token that is in this file: 16 characters or more.")
    ] = None,
    authorize: Annotated[
        str | None, typer.Option(metavar="FUNCTION", help="Ask this function who may do what: shop:who.")
    ] = None,
) -> int:
    """Serve the dashboard until SIGTERM or Ctrl-C.

    Without --token-file or --authorize it answers only browsers on this machine, which may do everything.
    """
    from jobqueue.cli.web.run import Wish, run_web

    return run_web(Wish(app, dsn, schema, http, read_only, token_file, authorize))


@surface.command()
def events(
    app: Target = None,
    dsn: Dsn = None,
    schema: Schema = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Stay, and show what comes. Ends with Ctrl-C.")
    ] = False,
    after: Annotated[
        str | None, typer.Option(metavar="EVENT", help="Go on behind this event's id; 0 is the log's beginning.")
    ] = None,
    type: Annotated[
        list[str] | None, typer.Option("--type", metavar="NAME", help="job.dead, or dead; may be repeated.")
    ] = None,
    job: Annotated[str | None, typer.Option(metavar="ID", help="Only of this job, by its id or a part.")] = None,
    queue: Queue = None,
    task: TaskName = None,
    origin: Origin = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Without --after and --follow: the newest ones.")] = 50,
    json: Annotated[bool, typer.Option("--json", help="A JSON document on each line.")] = False,
) -> int:
    """Show how jobs ended, and what was done to them.

    Of all jobs the log has ends, retries, deletions and revivals; starts and progress of those with follow=True.
    """
    from jobqueue.cli.events import Wish, show_events
    from jobqueue.cli.place import Place

    wish = Wish(type or (), task, queue, origin, job, after, limit, follow, json)
    return show_events(Place.of(app, dsn, schema), wish)


@surface.command()
def audit(
    app: Target = None,
    dsn: Dsn = None,
    schema: Schema = None,
    job: Annotated[
        str | None, typer.Option(metavar="ID", help="Only what was done to this job, by its id or a part.")
    ] = None,
    who: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only what this one did: ada, or cli:ada@host as it is shown.")
    ] = None,
    action: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only this, such as job.cancel or queue.pause.")
    ] = None,
    before: Annotated[int | None, typer.Option(min=1, metavar="NUMBER", help="Only older rows than this one.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="At most so many.")] = 50,
    json: Json = False,
) -> int:
    """Show who did what, the newest first.

    What is changed by this command line is in it, and what programs change that say by whom.
    """
    from jobqueue.cli.audit import Wish, show_audit
    from jobqueue.cli.place import Place

    return show_audit(Place.of(app, dsn, schema), Wish(job, who, action, before, limit, json))


@surface.command()
def bench(
    dsn: Annotated[
        str | None, typer.Option(metavar="DSN", help="Not the server of JOBQUEUE_DSN, or else the embedded one.")
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=100, max=10_000_000, help="Of a drain; the others have a share of it.")
    ] = 10_000,
    only: Annotated[
        str | None, typer.Option(metavar="NAMES", help="drain,bulk: only these; a wrong name lists all.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, max=100, help="Runs of each; the median counts.")] = 3,
    schema: Annotated[
        str, typer.Option(metavar="NAME", help="Made for it, and dropped in the end. One that is there is refused.")
    ] = "jobqueue_bench",
    markdown: Annotated[bool, typer.Option("--markdown", help="Tables in Markdown.")] = False,
    json: Json = False,
) -> int:
    """Measure how fast it is here, beside the raw limit.

    The limit is the least SQL that does the same work, driven by bare asyncpg, in the same run and in turns with ours.
    Takes some three minutes, in which it uses the server as hard as it can, and leaves nothing behind.
    """
    if sys.platform == "win32":
        raise Refusal("bench needs Linux or macOS", ExitCode.ERROR)
    from jobqueue.cli.bench.run import Wish, show_bench

    return show_bench(Wish(dsn, schema, jobs, only, repeats, json, markdown))


@surface.command("prune")
def prune_archive(
    app: Target = None,
    dsn: Dsn = None,
    schema: Schema = None,
    completed: Annotated[
        str | None, typer.Option(metavar="AGE", help="Completed jobs older than this: 90 (seconds), 45m, 12h, 1d.")
    ] = None,
    other: Annotated[str | None, typer.Option(metavar="AGE", help="The same for cancelled and dead jobs.")] = None,
    queue: Annotated[str | None, typer.Option(metavar="NAME", help="Only of this queue; with an age.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Json = False,
) -> int:
    """Remove old finished jobs now.

    Without an age: whatever workers remove each hour, by settings and queues. With one, all finished jobs older than
    that, and only of the outcomes that have one. Unfinished jobs are never touched.
    """
    from jobqueue.cli.place import Place
    from jobqueue.cli.queues.prune import Order, prune

    order = Order.of(completed, other, queue)
    return prune(Place.of(app, dsn, schema), order, dry_run=dry_run, yes=yes, as_json=json)
