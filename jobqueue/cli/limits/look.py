"""`limits`: list them, show one with its lines. Keys are shown, as unique keys are, and never logged."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict
from typing import TypeVar

from jobqueue.base.flows.limit import LimitLine, LimitStats, Rate
from jobqueue.cli.place import Place
from jobqueue.cli.terminal.failures import ExitCode, as_usage, tell
from jobqueue.cli.terminal.output import write, write_facts, write_json, write_table
from jobqueue.tasks.limits import Limits
from jobqueue.telling.spans import duration, moment

T = TypeVar("T")

HEADERS = ("limit", "at once", "rate", "held", "waiting", "oldest", "notes")
NUMBERS = ("at once", "held", "waiting", "oldest")


def show_limits(place: Place, as_json: bool) -> ExitCode:
    """All of them, by name."""
    limits = asked(place, Limits.list)
    if as_json:
        write_json([asdict(limit) for limit in limits])
    elif limits:
        write_table(HEADERS, [limit_row(limit) for limit in limits], right=NUMBERS, apart=("limit", "rate", "notes"))
    else:
        tell("no worker has declared a limit: @app.task(limit=Limit(5)) makes one, and a worker says so at its start")
    return ExitCode.OK


def show_limit(place: Place, name: str, key: str | None, most: int, as_json: bool) -> ExitCode:
    """One of them with its lines, or with one of these."""

    async def look(limits: Limits) -> tuple[LimitStats, Sequence[LimitLine]]:
        return await limits.get(name), await limits.lines(name, most, key=key)

    limit, lines = asked(place, look)
    if as_json:
        write_json(asdict(limit) | {"lines": [asdict(line) for line in lines]})
        return ExitCode.OK
    write(f"limit {limit.name}")
    write_facts(_facts(limit))
    if any(line.key is not None for line in lines):
        columns = ["key", "held", "waiting", "oldest", *(["next"] if limit.rate else [])]
        write("lines")
        rows = [_line_row(line)[: len(columns)] for line in lines]
        write_table(columns, rows, right=("held", "waiting"), apart=("key",), indent="  ")
    elif key is not None:
        tell("nobody holds a place there, and nobody waits")
    return ExitCode.OK


def asked(place: Place, question: Callable[[Limits], Awaitable[T]]) -> T:
    """What the limits there answer. Raises Refusal for wrong words, and what `Place.ask` does."""

    async def ask(limits: Limits) -> T:
        with as_usage(name="NAME"):
            return await question(limits)

    return asyncio.run(place.ask(Limits, ask))


def limit_row(limit: LimitStats) -> tuple[str | None, ...]:
    """A limit as the cells of a table."""
    at_once = None if limit.concurrency is None else str(limit.concurrency)
    return (
        limit.name, at_once, _short(limit.rate), str(limit.held), str(limit.waiting), _waited(limit.oldest_wait),
        ", ".join(_notes(limit)),
    )  # fmt: skip


def _facts(limit: LimitStats) -> dict[str, object]:
    changed = limit.changed
    said = [] if changed is None else [*_said("at once", changed.concurrency), *_said("rate", changed.rate)]
    declared = [*_said("at once", limit.declared.concurrency), *_said("rate", limit.declared.rate)]
    return {
        "at once": limit.concurrency,
        "rate": limit.rate,
        "order": "one after the other, also over retries" if limit.ordered else None,
        "held": limit.held,
        "waiting": limit.waiting,
        "oldest": _waited(limit.oldest_wait),
        "declared": f"{', '.join(declared)}; by {limit.declared_by or 'somebody'}, {moment(limit.declared_at)}",
        "changed": f"{', '.join(said)}; {moment(limit.changed_at)}; until `limits reset`" if said else None,
    }


def _said(what: str, value: object) -> Iterator[str]:
    if value is not None:
        yield f"{what} {value}"


def _line_row(line: LimitLine) -> tuple[object, ...]:
    soon = line.next_in if line.waiting else None
    return (
        line.key, line.held, line.waiting, _waited(line.oldest_wait),
        None if soon is None or soon <= 0 else f"in {duration(soon)}",
    )  # fmt: skip


def _notes(limit: LimitStats) -> Iterator[str]:
    if limit.changed is not None:
        yield "changed by hand"
    if limit.ordered:
        yield "in order"
    if limit.busiest:
        yield f"longest: {', '.join(f'{line.key} {line.waiting}' for line in limit.busiest if line.waiting)}"


def _short(rate: Rate | None) -> str | None:
    return None if rate is None else f"{rate.count}/{rate.seconds:g} s"


def _waited(seconds: float | None) -> str | None:
    return None if seconds is None else duration(max(seconds, 0.0))
