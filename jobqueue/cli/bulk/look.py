"""`bulk list`, `show` and `cancel`."""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any
from uuid import UUID

from jobqueue.base.acting.bulk import Bulk, BulkState
from jobqueue.cli.parts import is_whole
from jobqueue.cli.place import Place
from jobqueue.cli.terminal.failures import ExitCode, Refusal, tell
from jobqueue.cli.terminal.output import write, write_facts, write_json, write_table
from jobqueue.cli.terminal.user import this_user
from jobqueue.tasks.acting.bulks import Bulks
from jobqueue.telling.spans import moment


def id_and_app(id: str, app: str | None) -> tuple[UUID, str | None]:
    """In whichever order they came. Raises Refusal."""
    for word, other in ((id, app), (app, id)):
        if is_whole(word or ""):
            return UUID(word), other
    raise Refusal("give the whole id of a bulk action; `bulk list` has them", ExitCode.USAGE)


def show_bulks(place: Place, unfinished: bool, limit: int, as_json: bool) -> ExitCode:
    """The newest ones."""
    found = asyncio.run(place.ask(Bulks, lambda bulks: bulks.list(unfinished=unfinished, limit=limit)))
    if as_json:
        write_json([asdict(bulk) for bulk in found])
    elif found:
        rows = [(bulk.id, bulk.action, bulk.state, bulk.changed, _jobs(bulk)) for bulk in found]
        write_table(("id", "action", "state", "changed", "jobs"), rows, right=("changed",), apart=("jobs",))
    else:
        tell("no bulk action is known")
    return ExitCode.OK


def show_bulk(place: Place, id: UUID, wait: bool, as_json: bool) -> ExitCode:
    """One; with `wait` once it has ended. Raises BulkNotFound."""
    bulk = asyncio.run(place.ask(Bulks, lambda bulks: bulks.wait(id) if wait else bulks.get(id)))
    _write(bulk, as_json)
    return ExitCode.ERROR if bulk.state in (BulkState.FAILED, BulkState.CANCELLED) else ExitCode.OK


def cancel_bulk(place: Place, id: UUID, as_json: bool) -> ExitCode:
    """Go no further with it. Raises BulkNotFound."""
    bulk = asyncio.run(place.ask(Bulks, lambda bulks: bulks.cancel(id, by=this_user())))
    if as_json:
        _write(bulk, True)
    elif bulk.state is BulkState.CANCELLED:
        write(f"it goes no further; {bulk.changed} jobs are done")
    else:
        write(f"it had ended: {bulk.state}")
    return ExitCode.OK if bulk.state is BulkState.CANCELLED else ExitCode.ERROR


def _write(bulk: Bulk, as_json: bool) -> None:
    if as_json:
        write_json(asdict(bulk))
        return
    refused = ", ".join(f"{jobs} {reason}" for reason, jobs in bulk.refused.items())
    by = bulk.who if bulk.via is None else f"{bulk.via}:{bulk.who}"
    write(f"{bulk.action} is {bulk.state}")
    write_facts({
        "jobs": _jobs(bulk), "to": _words(bulk.to), "matched": bulk.matched, "changed": bulk.changed,
        "refused": refused, "by": by, "asked": moment(bulk.at), "ended": moment(bulk.finished_at), "error": bulk.error,
    })  # fmt: skip


def _jobs(bulk: Bulk) -> str:
    return _words(bulk.filter)


def _words(said: Mapping[str, Any]) -> str:
    shown = {name: "|".join(map(str, value)) if isinstance(value, list) else value for name, value in said.items()}
    return ", ".join(f"{name} {value}" for name, value in shown.items())
