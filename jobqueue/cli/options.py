"""What the verbs of the command line have in common: how a group is laid out, and the options of many verbs."""

from typing import Annotated
from uuid import UUID

import typer
from typer.core import TyperGroup

from jobqueue.base.job import JobState


def group(
    help: str, epilog: str | None = None, *, completion: bool = False, cls: type[TyperGroup] = TyperGroup
) -> typer.Typer:
    """A command with verbs, all laid out alike. `completion`: of the whole command, by the user's shell."""
    return typer.Typer(
        cls=cls,
        help=help,
        epilog=epilog,
        no_args_is_help=True,
        add_completion=completion,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"max_content_width": 100},
    )


Target = Annotated[
    str | None, typer.Argument(metavar="APP", help="The App: shop:app. Or give --dsn, or set JOBQUEUE_DSN.")
]
SecondTarget = Annotated[str | None, typer.Argument(metavar="APP", help="As elsewhere; before or after the id.")]
BesideName = Annotated[str | None, typer.Argument(metavar="APP", help="As elsewhere; before or after the name.")]
Dsn = Annotated[
    str | None,
    typer.Option(metavar="DSN", help="postgresql://user:password@host/database. Visible to `ps`; JOBQUEUE_DSN is not."),
]
Schema = Annotated[str | None, typer.Option(metavar="NAME", help="The schema in the database; the App's, or jobqueue.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document.")]
Payload = Annotated[bool, typer.Option("--payload", help="Show arguments and results too.")]

JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's id, or its last 8 characters.")]
IdsAndApp = Annotated[
    list[str] | None,
    typer.Argument(metavar="APP|ID", help="The jobs, or else filters; and the App as elsewhere, before or after them."),
]
States = Annotated[list[JobState] | None, typer.Option("--state", help="Only this state; may be repeated.")]
Queue = Annotated[str | None, typer.Option(metavar="NAME", help="Only this queue.")]
TaskName = Annotated[str | None, typer.Option("--task", metavar="NAME", help="Only this task.")]
Origin = Annotated[str | None, typer.Option(metavar="NAME", help="Only jobs deferred by this origin.")]
ErrorClass = Annotated[
    str | None, typer.Option("--error", metavar="CLASS", help="Only those whose last error is of this class.")
]
Args = Annotated[
    list[str] | None,
    typer.Option("--arg", metavar="PATH=VALUE", help="Only with this value in args: order.id=7; may be repeated."),
]
Text = Annotated[
    str | None,
    typer.Option("--text", metavar="TEXT", help="Only with this text in args, error, progress message or key."),
]
Fingerprint = Annotated[
    str | None, typer.Option(metavar="HEX", help="Only of this group of errors, see `jobs errors`.")
]
Bundle = Annotated[UUID | None, typer.Option(metavar="ID", help="Only of this bundle.")]
NoBundle = Annotated[bool, typer.Option("--no-bundle", help="Only jobs that are in no bundle.")]
Key = Annotated[
    str | None, typer.Option(metavar="KEY", help="The job that holds this unique key of the --task, which it needs.")
]
Length = Annotated[str | None, typer.Option("--for", metavar="TIME", help="So long: 90 (seconds), 10m, 2h, 1d.")]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Until then, with a zone: 2026-03-01T12:00+01:00.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
InBackground = Annotated[
    bool, typer.Option("--in-background", help="By filter: workers do it, page by page; see `bulk show`.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
