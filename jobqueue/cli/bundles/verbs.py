"""The surface of `bundles`: every verb with its options."""

from typing import Annotated
from uuid import UUID

import typer

from jobqueue.cli.moments import seconds
from jobqueue.cli.options import Dsn, Json, Schema, SecondTarget, Target, Yes, group

bundles = group("Look at jobs that end together, and steer them.")

Id = Annotated[str, typer.Argument(metavar="ID", help="The bundle's id, or its last 8 characters.")]


@bundles.command("list")
def bundles_list(
    app: Target = None,
    dsn: Dsn = None,
    schema: Schema = None,
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Only those that have not ended.")] = False,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Only those of this name.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50,
    after: Annotated[
        UUID | None, typer.Option(metavar="ID", help="Go on after this one, the last of the page before.")
    ] = None,
    json: Json = False,
) -> int:
    """List bundles, the newest first."""
    from jobqueue.cli.bundles.look import list_bundles
    from jobqueue.cli.place import Place

    where = Place.of(app, dsn, schema)
    return list_bundles(where, unfinished=unfinished, name=name, after=after, limit=limit, as_json=json)


@bundles.command("show")
def bundles_show(id: Id, app: SecondTarget = None, dsn: Dsn = None, schema: Schema = None, json: Json = False) -> int:
    """Show one bundle, and what failed in it."""
    from jobqueue.cli.bundles.look import show_bundle
    from jobqueue.cli.bundles.meant import id_and_app
    from jobqueue.cli.place import Place

    bundle, target = id_and_app(id, app)
    return show_bundle(Place.of(target, dsn, schema), bundle, json)


@bundles.command("graph")
def bundles_graph(
    id: Id,
    app: SecondTarget = None,
    dsn: Dsn = None,
    schema: Schema = None,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="As a Mermaid flowchart, for a page or an issue.")] = False,
    json: Json = False,
) -> int:
    """Draw what comes after what in a bundle, and what holds it up."""
    from jobqueue.cli.bundles.graph import draw_bundle
    from jobqueue.cli.bundles.meant import id_and_app
    from jobqueue.cli.place import Place

    bundle, target = id_and_app(id, app)
    return draw_bundle(Place.of(target, dsn, schema), bundle, mermaid=mermaid, as_json=json)


@bundles.command(
    "wait",
    epilog="""\b
Exit codes:
    0  all members are completed
    1  some are dead or cancelled, or it is not there
  124  it had not ended within --timeout""",
)
def bundles_wait(
    id: Id,
    app: SecondTarget = None,
    dsn: Dsn = None,
    schema: Schema = None,
    timeout: Annotated[
        str | None, typer.Option(metavar="TIME", help="At most so long: 30 (seconds), 10m, 2h. Without it for ever.")
    ] = None,
    json: Json = False,
) -> int:
    """Wait until a bundle has ended, and say how."""
    from jobqueue.cli.bundles.look import wait_for_bundle
    from jobqueue.cli.bundles.meant import id_and_app
    from jobqueue.cli.place import Place

    bundle, target = id_and_app(id, app)
    return wait_for_bundle(Place.of(target, dsn, schema), bundle, seconds("--timeout", timeout), json)


@bundles.command("cancel")
def bundles_cancel(
    id: Id, app: SecondTarget = None, yes: Yes = False, dsn: Dsn = None, schema: Schema = None, json: Json = False
) -> int:
    """Cancel all that has not ended; it runs its failure callback."""
    from jobqueue.cli.bundles.meant import id_and_app
    from jobqueue.cli.bundles.steering import steer_bundle
    from jobqueue.cli.place import Place

    bundle, target = id_and_app(id, app)
    return steer_bundle(Place.of(target, dsn, schema), "cancel", bundle, yes, json)


@bundles.command("retry")
def bundles_retry(id: Id, app: SecondTarget = None, dsn: Dsn = None, schema: Schema = None, json: Json = False) -> int:
    """Run its dead members again; then it ends once more."""
    from jobqueue.cli.bundles.meant import id_and_app
    from jobqueue.cli.bundles.steering import steer_bundle
    from jobqueue.cli.place import Place

    bundle, target = id_and_app(id, app)
    return steer_bundle(Place.of(target, dsn, schema), "retry", bundle, True, json)


@bundles.command("delete")
def bundles_delete(
    id: Id, app: SecondTarget = None, yes: Yes = False, dsn: Dsn = None, schema: Schema = None, json: Json = False
) -> int:
    """Delete it with its members, their results too."""
    from jobqueue.cli.bundles.meant import id_and_app
    from jobqueue.cli.bundles.steering import steer_bundle
    from jobqueue.cli.place import Place

    bundle, target = id_and_app(id, app)
    return steer_bundle(Place.of(target, dsn, schema), "delete", bundle, yes, json)
