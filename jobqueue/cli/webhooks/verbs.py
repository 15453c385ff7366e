"""The surface of `webhooks`: every verb with its options."""

from typing import Annotated
from uuid import UUID

import typer

from jobqueue.base.job import JobState
from jobqueue.cli.moments import moment_of
from jobqueue.cli.options import Dsn, Json, Queue, Schema, SecondTarget, States, Target, TaskName, Yes, group

webhooks = group("Tell receivers outside of what becomes of jobs.")

Id = Annotated[str, typer.Argument(metavar="ID", help="The webhook's id, or its last 8 characters.")]


@webhooks.command("list")
def webhooks_list(app: Target = None, dsn: Dsn = None, schema: Schema = None, json: Json = False) -> int:
    """List webhooks, the oldest first."""
    from jobqueue.cli.place import Place
    from jobqueue.cli.webhooks.look import show_webhooks

    return show_webhooks(Place.of(app, dsn, schema), json)


@webhooks.command("add")
def webhooks_add(
    url: Annotated[str, typer.Argument(metavar="URL", help="Of the receiver: https, at a public address.")],
    app: Annotated[str | None, typer.Argument(metavar="APP", help="As elsewhere; before or after the URL.")] = None,
    type: Annotated[
        list[str] | None,
        typer.Option("--type", metavar="NAME", help="job.dead, or dead; may be repeated. All without."),
    ] = None,
    queue: Queue = None,
    task: TaskName = None,
    origin: Annotated[str | None, typer.Option(metavar="NAME", help="Only jobs deferred by this origin.")] = None,
    bundle: Annotated[str | None, typer.Option(metavar="ID", help="Only jobs of this bundle.")] = None,
    job: Annotated[str | None, typer.Option(metavar="ID", help="Only this job.")] = None,
    secret_env: Annotated[
        str | None, typer.Option(metavar="NAME", help="A variable of the workers has the receiver's own secret.")
    ] = None,
    dsn: Dsn = None,
    schema: Schema = None,
    json: Json = False,
) -> int:
    """Post events to a URL from now on; says the secret.

    The secret is made of JOBQUEUE_WEBHOOK_KEY, which every worker needs as well.
    """
    from jobqueue.cli.place import Place
    from jobqueue.cli.webhooks.change import add_webhook, url_and_app

    receiver, target = url_and_app(url, app)
    said = {"queue": queue, "task": task, "origin": origin, "bundle": bundle, "job": job, "secret_env": secret_env}
    return add_webhook(Place.of(target, dsn, schema), receiver, type or (), said, json)


@webhooks.command("show")
def webhooks_show(id: Id, app: SecondTarget = None, dsn: Dsn = None, schema: Schema = None, json: Json = False) -> int:
    """Show one webhook, with its URL."""
    from jobqueue.cli.place import Place
    from jobqueue.cli.webhooks.look import show_webhook
    from jobqueue.cli.webhooks.meant import id_and_app

    hook, target = id_and_app(id, app)
    return show_webhook(Place.of(target, dsn, schema), hook, json)


@webhooks.command("secret")
def webhooks_secret(
    id: Id, app: SecondTarget = None, dsn: Dsn = None, schema: Schema = None, json: Json = False
) -> int:
    """Show its secret, for the receiver."""
    from jobqueue.cli.place import Place
    from jobqueue.cli.webhooks.change import show_secret
    from jobqueue.cli.webhooks.meant import id_and_app

    hook, target = id_and_app(id, app)
    return show_secret(Place.of(target, dsn, schema), hook, False, json)


@webhooks.command("rotate")
def webhooks_rotate(
    id: Id, app: SecondTarget = None, dsn: Dsn = None, schema: Schema = None, json: Json = False
) -> int:
    """Give it a new secret; the old one signs for a day more."""
    from jobqueue.cli.place import Place
    from jobqueue.cli.webhooks.change import show_secret
    from jobqueue.cli.webhooks.meant import id_and_app

    hook, target = id_and_app(id, app)
    return show_secret(Place.of(target, dsn, schema), hook, True, json)


@webhooks.command("pause")
def webhooks_pause(id: Id, app: SecondTarget = None, dsn: Dsn = None, schema: Schema = None, json: Json = False) -> int:
    """Post nothing until it is resumed."""
    from jobqueue.cli.place import Place
    from jobqueue.cli.webhooks.change import pause_webhook
    from jobqueue.cli.webhooks.meant import id_and_app

    hook, target = id_and_app(id, app)
    return pause_webhook(Place.of(target, dsn, schema), hook, json)


@webhooks.command("resume")
def webhooks_resume(
    id: Id, app: SecondTarget = None, dsn: Dsn = None, schema: Schema = None, json: Json = False
) -> int:
    """Go on, paused or disabled: try what waits now."""
    from jobqueue.cli.place import Place
    from jobqueue.cli.webhooks.change import resume_webhook
    from jobqueue.cli.webhooks.meant import id_and_app

    hook, target = id_and_app(id, app)
    return resume_webhook(Place.of(target, dsn, schema), hook, json)


@webhooks.command("remove")
def webhooks_remove(
    id: Id, app: SecondTarget = None, yes: Yes = False, dsn: Dsn = None, schema: Schema = None, json: Json = False
) -> int:
    """Remove it, and cancel what it has not delivered."""
    from jobqueue.cli.place import Place
    from jobqueue.cli.webhooks.change import remove_webhook
    from jobqueue.cli.webhooks.meant import id_and_app

    hook, target = id_and_app(id, app)
    return remove_webhook(Place.of(target, dsn, schema), hook, yes, json)


@webhooks.command("test")
def webhooks_test(id: Id, app: SecondTarget = None, dsn: Dsn = None, schema: Schema = None, json: Json = False) -> int:
    """Post an event of the type webhook.test."""
    from jobqueue.cli.place import Place
    from jobqueue.cli.webhooks.change import test_webhook
    from jobqueue.cli.webhooks.meant import id_and_app

    hook, target = id_and_app(id, app)
    return test_webhook(Place.of(target, dsn, schema), hook, json)


@webhooks.command("deliveries")
def webhooks_deliveries(
    id: Id,
    app: SecondTarget = None,
    state: States = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50,
    after: Annotated[
        UUID | None, typer.Option(metavar="ID", help="Go on after this one, the last of the page before.")
    ] = None,
    dsn: Dsn = None,
    schema: Schema = None,
    json: Json = False,
) -> int:
    """List its deliveries, newest first."""
    from jobqueue.cli.place import Place
    from jobqueue.cli.webhooks.look import show_deliveries
    from jobqueue.cli.webhooks.meant import id_and_app

    hook, target = id_and_app(id, app)
    return show_deliveries(Place.of(target, dsn, schema), hook, state, after, limit, json)


@webhooks.command("redeliver")
def webhooks_redeliver(
    id: Id,
    app: SecondTarget = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only what ended since: 2026-03-01T12:00+01:00.")
    ] = None,
    state: Annotated[
        list[JobState] | None, typer.Option("--state", help="Of this state; may be repeated. dead if not given.")
    ] = None,
    dsn: Dsn = None,
    schema: Schema = None,
    json: Json = False,
) -> int:
    """Try deliveries again that are dead, or have ended otherwise.

    A receiver sees them under the webhook-id that they had.
    """
    from jobqueue.cli.place import Place
    from jobqueue.cli.webhooks.change import redeliver
    from jobqueue.cli.webhooks.meant import id_and_app

    hook, target = id_and_app(id, app)
    return redeliver(Place.of(target, dsn, schema), hook, moment_of("--since", since), state, json)
