"""`events`: what the log says of jobs, the newest of it or from a place on, and on as it happens."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from jobqueue.base.errors import EventsLost
from jobqueue.base.flows.event import WHOLE, Choice, Event, Place, event_document
from jobqueue.cli.jobs.shortened import whole
from jobqueue.cli.place import Place as Where
from jobqueue.cli.terminal.event_words import line_of, types_of
from jobqueue.cli.terminal.failures import ExitCode, Refusal, as_usage, tell
from jobqueue.cli.terminal.outages import tell_of_outages
from jobqueue.cli.terminal.output import write, write_json
from jobqueue.events.feed import Feed
from jobqueue.events.hub import choice_of
from jobqueue.events.stream import EventStream
from jobqueue.store.connection.pool import Database
from jobqueue.store.flows.events import PAGE, Settling, last_events, look_at_edge, read_events

_CONNECTIONS = 3
_ROWS_BACK = 5_000
"""Rows of the log that are looked through for the newest events of some kind."""
_NEWEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Wish:
    """Which events, from where, and whether to stay."""

    types: Sequence[str]
    task: str | None
    queue: str | None
    origin: str | None
    job: str | None
    after: str | None
    limit: int
    follow: bool
    as_json: bool


def show_events(where: Where, wish: Wish) -> ExitCode:
    """The newest events, or those behind a place, and with `follow` all that come."""
    with as_usage(types="--type"):
        job = whole(where, [wish.job])[0] if wish.job is not None else None
        after = None if wish.after is None else Place.read(wish.after)
        choice = _choice(wish, job)
    tell_of_outages()
    last = asyncio.run(_show(where, wish, choice, after))
    if last is not None and not wish.as_json and sys.stdout.isatty():
        tell(f"go on with: --after {last}")
    return ExitCode.OK


def _choice(wish: Wish, job: UUID | None) -> Choice:
    return choice_of(types_of(wish.types), task=wish.task, queue=wish.queue, origin=wish.origin, job=job)


async def _show(where: Where, wish: Wish, choice: Choice, after: Place | None) -> str | None:
    """Write them; the place behind the last one."""
    last = None
    async with where.resolved_dsn() as dsn, where.reached(dsn, _CONNECTIONS) as database:
        await database.check()
        try:
            async for event in _wanted(database, where, wish, choice, after):
                last = event.id
                _write(event, wish.as_json)
        except EventsLost as lost:
            reason = f"--after: the log begins later, retention has dropped what lies between; --after {lost.oldest}"
            raise Refusal(f"{reason} is all that is left") from None
    return last


async def _wanted(
    database: Database, where: Where, wish: Wish, choice: Choice, after: Place | None
) -> AsyncIterator[Event]:
    if not wish.follow:
        found = _newest(database, choice, wish.limit) if after is None else _behind(database, choice, after)
        async for event in found:
            yield event
        return
    feed = Feed(database, listens=where.settings.listens)

    async def there() -> Feed:
        return feed

    try:
        async with EventStream(there, choice, after) as stream:
            async for event in stream:
                yield event
    finally:
        await feed.close()


async def _newest(database: Database, choice: Choice, limit: int) -> AsyncIterator[Event]:
    """The newest events that are meant, in order."""
    found, before, rows = list[Event](), _NEWEST, 0
    while len(found) < limit:
        page = await last_events(database, before)
        for entry in page:
            found += [entry.event(index) for index in reversed(choice.indexes(entry, Place(0, 0)))]
        rows += len(page)
        if len(page) < PAGE:
            break
        before = page[-1].seq
        if rows >= _ROWS_BACK:
            tell(f"looked back to event {before}; with --after 0 all that is kept is read")
            break
    for event in reversed(found[:limit]):
        yield event


async def _behind(database: Database, choice: Choice, after: Place) -> AsyncIterator[Event]:
    """All events that are meant, from a place up to now."""
    settling, place = Settling(), after
    while settling.edge is None:
        await look_at_edge(database, settling)
    while place < Place(settling.edge, WHOLE):
        entries, reached = await read_events(database, place, settling.edge)
        for entry in entries:
            for index in choice.indexes(entry, place):
                yield entry.event(index)
        place = reached


def _write(event: Event, as_document: bool) -> None:
    if as_document:
        write_json(event_document(event), line=True)
        return
    write(line_of(event, job=True))
    sys.stdout.flush()  # somebody may wait for it
