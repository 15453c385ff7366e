"""The surface of `bulk`: every verb with its options."""

from typing import Annotated

import typer

from jobqueue.cli.options import Dsn, Json, Schema, SecondTarget, Target, group

bulk = group("Watch and cancel what `jobs` began with --in-background.")

Id = Annotated[str, typer.Argument(metavar="ID", help="Of the bulk action.")]


@bulk.command("list")
def bulk_list(
    app: Target = None,
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Only those that have not ended.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="At most so many.")] = 50,
    dsn: Dsn = None,
    schema: Schema = None,
    json: Json = False,
) -> int:
    """List bulk actions, the newest first."""
    from jobqueue.cli.bulk.look import show_bulks
    from jobqueue.cli.place import Place

    return show_bulks(Place.of(app, dsn, schema), unfinished, limit, json)


@bulk.command(
    "show",
    epilog="""\b
Exit codes:
    0  it is under way, or has finished
    1  it has failed, or was cancelled; or there is none""",
)
def bulk_show(
    id: Id,
    app: SecondTarget = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until it has ended.")] = False,
    dsn: Dsn = None,
    schema: Schema = None,
    json: Json = False,
) -> int:
    """Show how far a bulk action has come."""
    from jobqueue.cli.bulk.look import id_and_app, show_bulk
    from jobqueue.cli.place import Place

    meant, target = id_and_app(id, app)
    return show_bulk(Place.of(target, dsn, schema), meant, wait, json)


@bulk.command("cancel")
def bulk_cancel(id: Id, app: SecondTarget = None, dsn: Dsn = None, schema: Schema = None, json: Json = False) -> int:
    """Go no further with a bulk action. What was done stands."""
    from jobqueue.cli.bulk.look import cancel_bulk, id_and_app
    from jobqueue.cli.place import Place

    meant, target = id_and_app(id, app)
    return cancel_bulk(Place.of(target, dsn, schema), meant, json)
