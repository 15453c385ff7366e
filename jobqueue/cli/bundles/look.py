"""`bundles`: list, show and wait for them."""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import asdict
from uuid import UUID

from jobqueue.base.flows.bundle import Bundle
from jobqueue.base.job import Job, JobState
from jobqueue.bundles.bundles import Bundles
from jobqueue.cli.bundles.meant import ask, ask_one
from jobqueue.cli.bundles.waiting import Bar
from jobqueue.cli.place import Place
from jobqueue.cli.terminal.failures import ExitCode, tell
from jobqueue.cli.terminal.outages import tell_of_outages
from jobqueue.cli.terminal.output import write, write_facts, write_heading, write_json, write_table
from jobqueue.telling.spans import ago, moment

_NOT_WELL = [JobState.DEAD, JobState.CANCELLED]
_SHOWN = 10


def list_bundles(
    place: Place, *, unfinished: bool, name: str | None, after: UUID | None, limit: int, as_json: bool
) -> ExitCode:
    """A page of bundles, the newest first."""
    page = asyncio.run(
        ask(place, lambda bundles: bundles.list(unfinished=unfinished, name=name, after=after, limit=limit))
    )
    if as_json:
        write_json([document(bundle) for bundle in page])
    elif page:
        headers = ("id", "name", "state", "ended", "of", "dead", "made")
        write_table(headers, map(_row, page), right=("ended", "of", "dead"), apart=("name",))
    else:
        tell("no such bundles")
    if len(page) == limit and sys.stdout.isatty():
        tell(f"more, perhaps: --after {page[-1].id}")
    return ExitCode.OK


def show_bundle(place: Place, part: str, as_json: bool) -> ExitCode:
    """One with its counts, and the members that did not end well. Raises BundleNotFound."""

    async def look(bundles: Bundles, id: UUID) -> tuple[Bundle, Sequence[Job]]:
        return await bundles.get(id), await bundles.members(id, state=_NOT_WELL, limit=_SHOWN)

    bundle, failed = asyncio.run(ask_one(place, part, look))
    if as_json:
        write_json(document(bundle))
        return ExitCode.OK
    write(f"bundle {bundle.id}  {state_of(bundle)}")
    write_facts(
        {
            "name": bundle.name,
            "origin": bundle.origin,
            "parent": bundle.parent_id,
            "members": f"{bundle.added}: {counted(bundle)}",
            "made": moment(bundle.created_at),
            "asked to end": moment(bundle.cancel_asked),
            "ended": moment(bundle.finished_at),
            "rounds": bundle.round if bundle.round > 1 else None,
        }
    )
    if failed:
        write_heading("the latest that are dead or cancelled" if len(failed) == _SHOWN else "dead or cancelled")
        rows = [(job.id, job.state, job.task, (job.error and job.error.error_class) or job.reason) for job in failed]
        write_table(("id", "state", "task", "error"), rows, apart=("task", "error"))
    return ExitCode.OK


def wait_for_bundle(place: Place, part: str, limit: float | None, as_json: bool) -> ExitCode:
    """Wait for its end, with a bar where a person sees it; at most `limit` seconds. Raises BundleNotFound."""
    tell_of_outages()

    async def wait(bundles: Bundles, id: UUID) -> Bundle | None:
        try:
            with Bar() as bar:
                return await bundles.wait(id, limit, looked=bar.show)
        except TimeoutError:
            return None

    bundle = asyncio.run(ask_one(place, part, wait))
    if bundle is None:
        tell(f"bundle {part} has not ended within {limit:g} s")
        return ExitCode.TIMED_OUT
    if as_json:
        write_json(document(bundle))
    else:
        write(f"{state_of(bundle)}: {counted(bundle)}")
    return ExitCode.ERROR if bundle.has_errors else ExitCode.OK


def document(bundle: Bundle) -> dict[str, object]:
    """A bundle as JSON values."""
    return asdict(bundle) | {"pending": bundle.pending, "fraction": bundle.fraction, "has_errors": bundle.has_errors}


def state_of(bundle: Bundle) -> str:
    """In a word, as of a job."""
    if not bundle.finished:
        return "open" if bundle.open else "running"
    return "dead" if bundle.dead else "cancelled" if bundle.cancelled else "completed"


def counted(bundle: Bundle) -> str:
    """What has become of its members: `97 completed, 3 dead`."""
    counts = {name: getattr(bundle, name) for name in ("pending", "completed", "cancelled", "dead")}
    return ", ".join(f"{jobs} {name}" for name, jobs in counts.items() if jobs) or "none"


def _row(bundle: Bundle) -> tuple[object, ...]:
    counts = bundle.ended, bundle.added, bundle.dead or None
    return bundle.id, bundle.name, state_of(bundle), *counts, ago(bundle.created_at)
