"""`jobs errors`: the latest dead jobs, grouped by how they failed."""

import asyncio
from dataclasses import asdict

from jobqueue.cli.place import Place
from jobqueue.cli.terminal.failures import ExitCode, as_usage, tell
from jobqueue.cli.terminal.output import write_json, write_table
from jobqueue.store.looking.errors import ErrorGroup, ErrorGroups
from jobqueue.tasks.acting.filters import check_filters
from jobqueue.tasks.jobs import Jobs
from jobqueue.telling.spans import ago, moment

_COLUMNS = ["jobs", "fingerprint", "last", "error"]


def show_errors(place: Place, *, queue: str | None, limit: int, as_json: bool) -> ExitCode:
    """The groups, the largest first."""
    with as_usage():
        check_filters(queue=queue)
    groups = asyncio.run(place.ask(Jobs, lambda jobs: jobs.errors(queue=queue, limit=limit)))
    if as_json:
        window = {name: getattr(groups, name) for name in ("since", "read_at", "looked", "whole")}
        write_json({**window, "groups": [_document(group) for group in groups]})
        return ExitCode.OK
    if groups:
        rows = [[group.count, group.fingerprint, ago(group.last, groups.read_at), _told(group)] for group in groups]
        write_table(_COLUMNS, rows, right=("jobs",), apart=("error",))
    tell(_window(groups))
    return ExitCode.OK


def _told(group: ErrorGroup) -> str:
    """`charge CardDeclined at shop/billing.py:88 charge`."""
    kind = group.error_class.rpartition(".")[2] or f"no error ({', '.join(group.reasons) or 'no reason'})"
    where = "" if group.place is None else f" at {group.place}"
    return f"{group.task} {kind}{where}"


def _window(groups: ErrorGroups) -> str:
    if not groups.looked:
        return "no dead jobs"
    which = f"all {groups.looked}" if groups.whole else f"the latest {groups.looked}"
    return f"among {which} dead jobs, since {moment(groups.since, groups.read_at)}"


def _document(group: ErrorGroup) -> dict[str, object]:
    document = asdict(group)
    return {"class" if name == "error_class" else name: value for name, value in document.items()}
