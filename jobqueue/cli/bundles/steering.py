"""`bundles cancel`, `retry` and `delete`."""

import asyncio
from collections import Counter
from uuid import UUID

from jobqueue.base.errors import BundleNotFound
from jobqueue.base.flows.bundle import Bundle
from jobqueue.base.steering import Change, Changes
from jobqueue.bundles.bundles import Bundles
from jobqueue.cli.bundles.look import counted
from jobqueue.cli.bundles.meant import ask_one
from jobqueue.cli.place import Place
from jobqueue.cli.terminal.asking import agreed, somebody_to_ask
from jobqueue.cli.terminal.failures import ExitCode, Refusal, tell
from jobqueue.cli.terminal.output import write, write_json
from jobqueue.cli.terminal.user import this_user

_WORDS = {"cancel": "cancelled", "retry": "retried", "delete": "deleted"}


def steer_bundle(place: Place, verb: str, part: str, yes: bool, as_json: bool) -> ExitCode:
    """Do it to its members, after a question if that is for good. Raises BundleNotFound, Refusal."""
    if verb != "retry" and not yes:
        bundle = asyncio.run(ask_one(place, part, Bundles.get))
        if not somebody_to_ask():
            raise Refusal(f"bundles {verb} is for good, and there is no terminal to ask: give --yes", ExitCode.USAGE)
        if not agreed(f"{verb} bundle {bundle.name} with its members ({counted(bundle)})?"):
            tell(f"nothing was {_WORDS[verb]}")
            return ExitCode.ERROR

    async def do(bundles: Bundles, id: UUID) -> tuple[Changes, Bundle | None]:
        changes: Changes = await getattr(bundles, verb)(id, by=this_user())  # each verb is named as its method
        try:
            return changes, await bundles.get(id)
        except BundleNotFound:
            return changes, None

    changes, left = asyncio.run(ask_one(place, part, do))
    counts = Counter(str(change) for change in changes.each.values())
    if as_json:
        write_json(dict(counts))
    else:
        asked = f", asked {counts[Change.ASKED]} running to end" if counts[Change.ASKED] else ""
        write(f"{_WORDS[verb]} {counts[Change.DONE]} {'job' if counts[Change.DONE] == 1 else 'jobs'}{asked}")
    if verb == "delete" and left is not None:
        tell(f"the bundle stays, for members of it run: {counted(left)}; cancel it first")
        return ExitCode.ERROR
    return ExitCode.OK
