"""The relay: turns events into deliveries, ordinary jobs of the queue `webhooks`.

Every worker has one; they take turns by the lock on a webhook's row. One transaction reads what comes next in the log,
stores a job for each event that the webhook is to hear of, and moves its place: whatever dies, each is made once, in
the order of the log. The log is the backlog: while many deliveries of a webhook wait, no more are made.
"""

import random
from collections.abc import Iterator, Sequence
from uuid import UUID

import anyio
import orjson
from anyio.abc import TaskStatus

from jobqueue.base.codec import encode
from jobqueue.base.errors import EventsLost
from jobqueue.base.flows.event import DELIVERY, WHOLE, Entry, Event, Place, event_document
from jobqueue.base.flows.webhook import QUEUE, origin_of
from jobqueue.base.job import NewJob
from jobqueue.base.log import get_logger
from jobqueue.base.moments import id_at
from jobqueue.base.service import FirstLook, Patience, Seldom
from jobqueue.store.connection.faults import DATABASE_ERRORS, Fault, brief, classify
from jobqueue.store.connection.outage import Outage
from jobqueue.store.connection.pool import Database
from jobqueue.store.connection.session import Session
from jobqueue.store.flows import webhooks
from jobqueue.store.flows.events import Settling, look_at_edge, read_events
from jobqueue.store.flows.webhooks import Behind
from jobqueue.store.intake import insert_all
from jobqueue.webhooks.sending import BACKSTOP, DELAYS

MOST_WAITING = 1_000
"""Deliveries of a webhook that wait, above which no more are made."""
_NONE, _IDLE, _BUSY, _SOON = 5.0, 1.0, 0.1, 0.02
"""Seconds to the next look: without a webhook; after no news; after some; while what was seen is written, at first."""
_TOLD = 60.0
"""Seconds between two lines of the log about webhooks that cannot be read."""
_MAX_BODY = 1 << 20

log = get_logger(__name__)


class Relay:
    """A service of every worker."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._settling = Settling()
        self._soon = Patience(_SOON, _IDLE)
        self._outage = Outage("webhooks", log)
        self._seldom = Seldom(_TOLD)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Relay until cancelled; a transaction under way is then undone. Survives every database error."""
        first = FirstLook(task_status)
        while True:
            try:
                pause = await self.look()
            except DATABASE_ERRORS as error:
                first.over()
                await self._outage.wait(error)
                continue
            self._outage.over()
            first.over()
            await anyio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - spreads load, guards nothing

    async def look(self) -> float:
        """Take each webhook that is behind a step further; the seconds until it is worth to look again."""
        found = await webhooks.active(self._database)
        if not found:
            self._settling = Settling()
            return _NONE
        await look_at_edge(self._database, self._settling)
        edge = self._settling.edge
        behind = [id for id, cursor in found if edge is not None and cursor < edge]
        random.shuffle(behind)  # several relays begin with different ones
        moved = False
        for id in behind:
            moved |= await self._step_apart(id, edge or 0)
        if not self._settling.waits:
            self._soon.reset()
        return self._soon.next() if self._settling.waits else _BUSY if moved else _IDLE

    async def _step_apart(self, id: UUID, edge: int) -> bool:
        """A step that ends nothing but itself: plain SQL may have written anything into this row, or into the log."""
        try:
            return await self._step(id, edge)
        except Exception as error:
            if isinstance(error, DATABASE_ERRORS) and classify(error) is not Fault.BAD_DATA:
                raise
            if self._seldom():
                log.error("webhook.stuck", webhook=str(id), error=brief(error))
            return False

    async def _step(self, id: UUID, edge: int) -> bool:
        """The next page of one webhook; False if there was nothing to do, or no room."""
        session = Session(self._database)
        try:
            async with session.transaction():
                mine = await webhooks.take(session, id, edge, MOST_WAITING)
                if mine is None or mine.waiting >= MOST_WAITING:
                    return False
                try:
                    entries, reached = await read_events(session, Place(mine.cursor, WHOLE), edge)
                except EventsLost as lost:
                    log.error("webhook.lost_events", webhook=str(id))
                    entries, reached = [], Place.read(lost.oldest)
                events, cursor = _chosen(mine, entries, reached.seq)
                if events:
                    await insert_all(session, [new_delivery(id, event) for event in events], always=False)
                await webhooks.move(session, id, cursor)
                return True
        finally:
            await session.close()


def _chosen(mine: Behind, entries: Sequence[Entry], reached: int) -> tuple[list[Event], int]:
    """What the webhook is to hear of, as far as there is room, and up to which number that is."""
    chosen: list[Event] = []
    for entry in entries:
        if len(chosen) + mine.waiting >= MOST_WAITING:
            return chosen, entry.seq - 1
        chosen += _events(mine, entry)
    return chosen, reached


def _events(mine: Behind, entry: Entry) -> Iterator[Event]:
    if entry.task == DELIVERY:  # or a receiver that fails would hear of that
        return
    for index in mine.choice.indexes(entry, Place(mine.cursor, WHOLE)):
        yield entry.event(index)


def new_delivery(webhook: UUID, event: Event) -> NewJob[None]:
    """The job that tells a webhook of an event; always the same one."""
    return delivery(webhook, _id(webhook, event), body_of(event.type, event))


def delivery(webhook: UUID, id: UUID, body: str) -> NewJob[None]:
    """The job that posts this body to a webhook."""
    return NewJob(
        id=id,
        task=DELIVERY,
        args=encode({"webhook": str(webhook), "body": body}, "delivery", _MAX_BODY),
        queue=QUEUE,
        max_attempts=len(DELAYS),
        timeout=BACKSTOP,
        origin=origin_of(webhook),
    )


def body_of(kind: str, event: Event) -> str:
    """What is posted: the same for every try."""
    return orjson.dumps(
        {"type": kind, "timestamp": event.at, "sequence": Place.read(event.id).seq, "data": event_document(event)}
    ).decode()


def _id(webhook: UUID, event: Event) -> UUID:
    """By the event's moment, so that lists have deliveries in the order of the log."""
    return id_at(event.at, webhook.bytes + event.id.encode())
