"""The surface of `queues`: every verb with its options."""

from typing import Annotated

import typer

from jobqueue.cli.moments import pause_of, seconds
from jobqueue.cli.options import BesideName, Dsn, Json, Length, Schema, Target, Until, Yes, group
from jobqueue.cli.parts import name_and_app
from jobqueue.cli.terminal.failures import ExitCode, Refusal

queues = group("Look at queues, pause them, say what stays of them.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The queue.")]


@queues.command("list")
def queues_list(app: Target = None, dsn: Dsn = None, schema: Schema = None, json: Json = False) -> int:
    """List queues that have unfinished jobs.

    And those that were paused, or told what to keep.
    """
    from jobqueue.cli.place import Place
    from jobqueue.cli.queues.look import show_queues

    return show_queues(Place.of(app, dsn, schema), json)


@queues.command("pause")
def queues_pause(
    name: Name,
    app: BesideName = None,
    length: Length = None,
    until: Until = None,
    dsn: Dsn = None,
    schema: Schema = None,
    json: Json = False,
) -> int:
    """Start no more jobs of a queue until it is resumed.

    In no worker. What runs goes on.
    """
    from jobqueue.cli.place import Place
    from jobqueue.cli.queues.look import pause_queue

    queue, target = name_and_app(name, app)
    pause = pause_of(length, until)
    return pause_queue(Place.of(target, dsn, schema), queue, *pause, json)


@queues.command("resume")
def queues_resume(
    name: Name, app: BesideName = None, dsn: Dsn = None, schema: Schema = None, json: Json = False
) -> int:
    """Start jobs of a queue again, at once."""
    from jobqueue.cli.place import Place
    from jobqueue.cli.queues.look import resume_queue

    queue, target = name_and_app(name, app)
    return resume_queue(Place.of(target, dsn, schema), queue, json)


@queues.command(
    "keep",
    epilog="""\b
Exit codes:
    0  done, or shown
    1  the question was answered with no
    2  wrong usage; or limits without --yes, as there is no terminal to ask""",
)
def queues_keep(
    name: Name,
    app: BesideName = None,
    completed: Annotated[
        str | None, typer.Option(metavar="AGE", help="Completed jobs stay so long: 90 (seconds), 10m, 2h, 1d.")
    ] = None,
    other: Annotated[str | None, typer.Option(metavar="AGE", help="The same for cancelled and dead jobs.")] = None,
    most_completed: Annotated[int | None, typer.Option(metavar="N", help="Only the newest so many stay.")] = None,
    most_other: Annotated[int | None, typer.Option(metavar="N", help="The same for cancelled and dead jobs.")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Take back what was said: as the settings say.")] = False,
    yes: Yes = False,
    dsn: Dsn = None,
    schema: Schema = None,
    json: Json = False,
) -> int:
    """Show or set how many of its finished jobs stay, how long.

    Without options it shows what was said. Otherwise what is not given is as the settings say. An age can only be
    shorter than keep_completed and keep_other, which drop whole days.
    """
    from jobqueue.cli.place import Place
    from jobqueue.cli.queues.look import keep_finished, show_kept
    from jobqueue.store.looking.overview import NO_LIMITS, Kept

    queue, target = name_and_app(name, app)
    keep = Kept(seconds("--completed", completed), seconds("--other", other), most_completed, most_other)
    if clear and keep != NO_LIMITS:
        raise Refusal("--clear: takes back all limits; give either it or limits", ExitCode.USAGE)
    place = Place.of(target, dsn, schema)
    if not clear and keep == NO_LIMITS:
        return show_kept(place, queue, json)
    return keep_finished(place, queue, keep, yes=yes, as_json=json)
