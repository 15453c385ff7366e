"""`audit`: who did what, the newest first."""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC
from typing import Any

from jobqueue.base.acting.audit import AuditEntry, By
from jobqueue.cli.jobs.shortened import whole
from jobqueue.cli.place import Place
from jobqueue.cli.terminal.failures import ExitCode, as_usage, tell
from jobqueue.cli.terminal.output import write_json, write_table
from jobqueue.tasks.acting.audit import Audit

_IDS_SHOWN = 2
_MEANS = ("cli", "web")


@dataclass(frozen=True, slots=True)
class Wish:
    """Which rows."""

    job: str | None
    who: str | None
    action: str | None
    before: int | None
    limit: int
    as_json: bool


def show_audit(place: Place, wish: Wish) -> ExitCode:
    """A page of the audit."""
    with as_usage(by="--who", action="--action"):
        who = None if wish.who is None else _by(wish.who)
    job = None if wish.job is None else whole(place, [wish.job])[0]
    page = asyncio.run(place.ask(Audit, lambda audit: audit.list(
        job=job, who=who, action=wish.action, before=wish.before, limit=wish.limit)))  # fmt: skip
    if wish.as_json:
        write_json({"entries": [asdict(entry) for entry in page], "next": page.next})
    elif page:
        write_table(("at (UTC)", "who", "action", "changed", "what"), [_row(entry) for entry in page], apart=("what",))
        if page.next is not None:
            tell(f"go on with: --before {page.next}")
    else:
        tell("the audit has no such row")
    return ExitCode.OK


def _by(text: str) -> By:
    via, colon, who = text.partition(":")
    return By(who, via) if colon and via in _MEANS else By(text)


def _row(entry: AuditEntry) -> tuple[str, ...]:
    by = entry.who if entry.via is None else f"{entry.via}:{entry.who}"
    return f"{entry.at.astimezone(UTC):%Y-%m-%d %H:%M:%S}", by, entry.action, _changed(entry), _what(entry)


def _changed(entry: AuditEntry) -> str:
    return str(entry.changed) if entry.changed == entry.matched else f"{entry.changed} of {entry.matched}"


def _what(entry: AuditEntry) -> str:
    """In words: `queue mail, until 12:00; 3 too_late`."""
    what = dict(entry.what)
    ids, jobs, named = what.pop("ids", None), what.pop("jobs", None), what.pop("filter", None)
    parts = []
    if isinstance(ids, list) and ids:
        more = (jobs if isinstance(jobs, int) else len(ids)) - _IDS_SHOWN
        parts.append(" ".join(map(str, ids[:_IDS_SHOWN])) + (f" and {more} more" if more > 0 else ""))
    if isinstance(named, Mapping):
        parts += [f"{name} {_value(value)}" for name, value in named.items()]
    parts += [f"{name} {_value(value)}" for name, value in what.items()]
    refused = ", ".join(f"{jobs} {reason}" for reason, jobs in entry.refused.items())
    return ", ".join(parts) + (f"; refused: {refused}" if refused else "")


def _value(value: Any) -> str:
    if isinstance(value, list):
        return "|".join(map(str, value))
    return "(not shown)" if value is True else str(value)
