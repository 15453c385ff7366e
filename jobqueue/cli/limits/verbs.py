"""The surface of `limits`: every verb with its options."""

from typing import Annotated

import typer

from jobqueue.cli.options import BesideName, Dsn, Json, Schema, Target, group
from jobqueue.cli.parts import name_and_app

limits = group("Look at limits, and change them while jobs run.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The limit, as `limits list` has it.")]


@limits.command("list")
def limits_list(app: Target = None, dsn: Dsn = None, schema: Schema = None, json: Json = False) -> int:
    """List the limits that workers have declared.

    With how many jobs have a place, and how many wait.
    """
    from jobqueue.cli.limits.look import show_limits
    from jobqueue.cli.place import Place

    return show_limits(Place.of(app, dsn, schema), json)


@limits.command("show")
def limits_show(
    name: Name,
    app: BesideName = None,
    key: Annotated[str | None, typer.Option(metavar="KEY", help="Only this key.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="So many keys, those with the longest lines.")] = 20,
    dsn: Dsn = None,
    schema: Schema = None,
    json: Json = False,
) -> int:
    """Show one limit, and who holds and who waits, by key."""
    from jobqueue.cli.limits.look import show_limit
    from jobqueue.cli.place import Place

    named, target = name_and_app(name, app)
    return show_limit(Place.of(target, dsn, schema), named, key, limit, json)


@limits.command("set")
def limits_set(
    name: Name,
    app: BesideName = None,
    concurrency: Annotated[int | None, typer.Option(metavar="N", help="Jobs at once; 0: no more begins.")] = None,
    rate: Annotated[str | None, typer.Option(metavar="N/TIME", help="Starts in a time: 100/60, 5/1s, 1000/1h.")] = None,
    burst: Annotated[int | None, typer.Option(metavar="N", help="With --rate: so many may start at once; 1.")] = None,
    dsn: Dsn = None,
    schema: Schema = None,
    json: Json = False,
) -> int:
    """Change a limit for all workers, at once.

    Until `limits reset`, whatever their code says. What runs goes on.
    """
    from jobqueue.cli.limits.change import change_limit, rate_of
    from jobqueue.cli.place import Place

    named, target = name_and_app(name, app)
    return change_limit(Place.of(target, dsn, schema), named, concurrency, rate_of(rate, burst), json)


@limits.command("reset")
def limits_reset(name: Name, app: BesideName = None, dsn: Dsn = None, schema: Schema = None, json: Json = False) -> int:
    """Have a limit be as the code says again."""
    from jobqueue.cli.limits.change import reset_limit
    from jobqueue.cli.place import Place

    named, target = name_and_app(name, app)
    return reset_limit(Place.of(target, dsn, schema), named, json)


@limits.command("recount")
def limits_recount(
    name: Name, app: BesideName = None, dsn: Dsn = None, schema: Schema = None, json: Json = False
) -> int:
    """Count anew how many jobs have a place.

    Should find nothing wrong, ever. Looks at all unfinished jobs.
    """
    from jobqueue.cli.limits.change import recount_limit
    from jobqueue.cli.place import Place

    named, target = name_and_app(name, app)
    return recount_limit(Place.of(target, dsn, schema), named, json)
