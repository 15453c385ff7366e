"""`jobs ... --in-background`: workers do it to all jobs of a filter, and whoever asked need not wait."""

import asyncio
from dataclasses import asdict

from jobqueue.base.acting.bulk import Bulk
from jobqueue.base.steering import Action
from jobqueue.cli.jobs.steering import Order, filter_of
from jobqueue.cli.place import Place
from jobqueue.cli.terminal.asking import agreed, somebody_to_ask
from jobqueue.cli.terminal.failures import ExitCode, Refusal, as_usage, tell
from jobqueue.cli.terminal.output import write, write_json
from jobqueue.cli.terminal.user import this_user
from jobqueue.tasks.jobs import Jobs


def begin(place: Place, order: Order) -> ExitCode:
    """Ask whether that is meant, have it begin, and say its id. Raises Refusal."""
    if order.meant.ids or order.meant.key is not None:
        raise Refusal("--in-background: is for filters such as --queue; what is named is done at once", ExitCode.USAGE)
    if order.dry_run:
        raise Refusal("--in-background: leave it out to see, with --dry-run, what would be done", ExitCode.USAGE)
    verb = "priority" if order.action is Action.SET_PRIORITY else str(order.action)
    if not order.yes:
        if not somebody_to_ask():
            raise Refusal(f"jobs {verb} --in-background: there is no terminal to ask: give --yes", ExitCode.USAGE)
        if not agreed(f"{verb}: have workers do it to all jobs that match?"):
            tell("nothing was begun")
            return ExitCode.ERROR

    async def call(jobs: Jobs) -> Bulk:
        return await jobs.bulk(order.action, by=this_user(), **filter_of(order), **order.to)

    with as_usage():
        bulk = asyncio.run(place.ask(Jobs, call))
    if order.as_json:
        write_json(asdict(bulk))
    else:
        write(f"bulk {bulk.id}")
        tell(f"workers do it; `bulk show {bulk.id} --wait` tells how far it has come")
    return ExitCode.OK
