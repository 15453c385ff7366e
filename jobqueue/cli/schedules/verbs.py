"""The surface of `schedules`: every verb with its options."""

from enum import StrEnum
from typing import Annotated

import typer

from jobqueue.cli.moments import moment_of, pause_of
from jobqueue.cli.options import BesideName, Dsn, Json, Length, Schema, Target, Until, Yes, group
from jobqueue.cli.parts import name_and_app
from jobqueue.cli.terminal.failures import ExitCode, Refusal

schedules = group("Look at jobs that come at planned times, and steer them.")


class Said(StrEnum):
    """Where a schedule was said."""

    code = "code"
    stored = "stored"


Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule.")]


@schedules.command("list")
def schedules_list(
    app: Target = None,
    dsn: Dsn = None,
    schema: Schema = None,
    source: Annotated[Said | None, typer.Option(help="Only those of the code, or those that were put.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 100,
    after: Annotated[str, typer.Option(metavar="NAME", help="Go on after this one, the last of the page before.")] = "",
    json: Json = False,
) -> int:
    """List schedules by name, and when they come next."""
    from jobqueue.cli.place import Place
    from jobqueue.cli.schedules.look import list_schedules

    return list_schedules(Place.of(app, dsn, schema), None if source is None else source.value, after, limit, json)


@schedules.command("show")
def schedules_show(
    name: Name,
    app: BesideName = None,
    payload: Annotated[bool, typer.Option("--payload", help="Show the arguments of its jobs too.")] = False,
    dsn: Dsn = None,
    schema: Schema = None,
    json: Json = False,
) -> int:
    """Show one: its next times, its last jobs, and what stops it."""
    from jobqueue.cli.place import Place
    from jobqueue.cli.schedules.look import show_schedule

    schedule, target = name_and_app(name, app)
    return show_schedule(Place.of(target, dsn, schema), schedule, payload, json)


@schedules.command("next")
def schedules_next(
    name: Name,
    app: BesideName = None,
    many: Annotated[int, typer.Option("-n", min=1, max=1000, help="So many.")] = 5,
    dsn: Dsn = None,
    schema: Schema = None,
    json: Json = False,
) -> int:
    """Show the next planned times of one."""
    from jobqueue.cli.place import Place
    from jobqueue.cli.schedules.look import show_next

    schedule, target = name_and_app(name, app)
    return show_next(Place.of(target, dsn, schema), schedule, many, json)


@schedules.command("pause")
def schedules_pause(
    name: Name,
    app: BesideName = None,
    length: Length = None,
    until: Until = None,
    dsn: Dsn = None,
    schema: Schema = None,
    json: Json = False,
) -> int:
    """Fire it no more until it is resumed.

    Planned times that pass meanwhile do not count as missed. Its jobs go on.
    """
    from jobqueue.cli.place import Place
    from jobqueue.cli.schedules.steering import pause_schedule

    schedule, target = name_and_app(name, app)
    pause = pause_of(length, until)
    return pause_schedule(Place.of(target, dsn, schema), schedule, *pause, json)


@schedules.command("resume")
def schedules_resume(
    name: Name, app: BesideName = None, dsn: Dsn = None, schema: Schema = None, json: Json = False
) -> int:
    """Fire it again, paused or broken, from its next time on."""
    from jobqueue.cli.place import Place
    from jobqueue.cli.schedules.steering import resume_schedule

    schedule, target = name_and_app(name, app)
    return resume_schedule(Place.of(target, dsn, schema), schedule, json)


@schedules.command("trigger")
def schedules_trigger(
    name: Name, app: BesideName = None, dsn: Dsn = None, schema: Schema = None, json: Json = False
) -> int:
    """Store a job of it now, and say its id.

    Whatever is planned, and paused or not.
    """
    from jobqueue.cli.place import Place
    from jobqueue.cli.schedules.steering import trigger_schedule

    schedule, target = name_and_app(name, app)
    return trigger_schedule(Place.of(target, dsn, schema), schedule, json)


@schedules.command("backfill")
def schedules_backfill(
    name: Name,
    app: BesideName = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="From then on, with a zone: 2026-03-01T12:00+01:00.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Before then; now if not given.")] = None,
    dsn: Dsn = None,
    schema: Schema = None,
    json: Json = False,
) -> int:
    """Store the jobs of past planned times that have none.

    They are planned as the schedule says now, and may overlap. At most 10 000 at once.
    """
    from jobqueue.cli.place import Place
    from jobqueue.cli.schedules.steering import backfill_schedule

    schedule, target = name_and_app(name, app)
    begin, end = moment_of("--since", since), moment_of("--until", until)
    if begin is None:
        raise Refusal("--since: say from when on, as in 2026-03-01T12:00+01:00", ExitCode.USAGE)
    return backfill_schedule(Place.of(target, dsn, schema), schedule, begin, end, json)


@schedules.command("delete")
def schedules_delete(
    name: Name, app: BesideName = None, yes: Yes = False, dsn: Dsn = None, schema: Schema = None, json: Json = False
) -> int:
    """Delete one; its jobs stay.

    One of the code only once no worker has it in its code any more.
    """
    from jobqueue.cli.place import Place
    from jobqueue.cli.schedules.steering import delete_schedule

    schedule, target = name_and_app(name, app)
    return delete_schedule(Place.of(target, dsn, schema), schedule, yes, json)
