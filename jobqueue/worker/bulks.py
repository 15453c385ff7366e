"""Does bulk actions: a service of every worker, which takes a page of one at a time.

One transaction locks the row, finds the next page, changes it, notes how far it has come, the numbers and the audit: a
crash repeats nothing and loses nothing, and two workers never do one page. Between two pages it rests, for plain jobs
have the way. Jobs that others have locked are tried again at the end.
"""

import random
import time
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import anyio
from anyio.abc import TaskStatus

from jobqueue.base.acting.bulk import BulkState
from jobqueue.base.errors import InvalidOption
from jobqueue.base.log import get_logger
from jobqueue.base.service import Wakeup
from jobqueue.base.settings import Settings
from jobqueue.base.steering import Action, Change
from jobqueue.store import steering
from jobqueue.store.acting import bulks
from jobqueue.store.acting.audit import Noted
from jobqueue.store.acting.bulks import Taken
from jobqueue.store.connection.faults import DATABASE_ERRORS, Fault, brief, classify
from jobqueue.store.connection.outage import Outage
from jobqueue.store.connection.pool import Database
from jobqueue.store.connection.session import Session
from jobqueue.store.dated import in_a_day
from jobqueue.store.flows.bundles import list_members
from jobqueue.store.looking.listing import Place, find_ids_from
from jobqueue.tasks.acting.filters import PAGE, check_meant, wanted_by
from jobqueue.tasks.acting.steering import change_of

_IDLE, _OTHERS = 30.0, 1.0
"""Seconds to the next look if none is left to do; while others do them."""
_ROUNDS = 2
_AGAIN = 2.0
"""How often locked jobs are tried again, and after how many seconds."""
_MOST_LOCKED = 2 * PAGE
"""Further ones are told as busy at once."""
_FAILURES = 5
"""In a row, of one page, for which the database itself is not to blame: then it has failed."""
_LATER = 30.0
"""Seconds after which one goes on whose page could not be done because of others."""
_REST = 4.0
"""Times as long as a page took is the rest after it: as long as that, a drain beside it lost a fifth."""
_TRANSIENT = (Fault.UNKNOWN, Fault.AWAY, Fault.CONFLICT, Fault.READ_ONLY, Fault.SETUP, Fault.SCHEMA)

_UNREADABLE = (InvalidOption, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What a row that nobody can read may lead to."""

log = get_logger(__name__)


class BulkRunner:
    """A part of every worker."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self.wakeup = Wakeup()
        self._session = Session(database)
        self._poll = _IDLE if settings.listens else min(_IDLE, settings.poll)
        self._outage = Outage("bulk", log)
        self._failures: Counter[UUID] = Counter()
        self._at_work: UUID | None = None

    async def look_first(self, session: Session) -> None:
        """Ask whether there is one to do, on a connection that is open: most workers need none for this."""
        self.wakeup.clear()
        if await bulks.any_left(session):
            self.wakeup.ring()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled, once woken; a page under way is then undone. Survives every database error."""
        task_status.started()
        pause = self._poll
        try:
            while True:
                await self.wakeup.wait(pause * random.uniform(0.8, 1.2))  # noqa: S311 - spreads load, guards nothing
                self.wakeup.clear()
                try:
                    pause = await self.look()
                except DATABASE_ERRORS as error:
                    await self._failed(error)
                    await self._outage.wait(error)
                    pause = 0.0
                    continue
                self._outage.over()
                if pause >= _OTHERS:
                    await self._session.close()  # it is seldom needed
        finally:
            await self._session.close()

    async def look(self) -> float:
        """Do a page, if there is one to do; seconds until the next look."""
        began, self._at_work = time.monotonic(), None
        if not await bulks.any_left(self._session):
            return self._poll
        try:
            done = await in_a_day(self._session, self._page)
        except _UNREADABLE as error:  # plain SQL may have written anything into its row
            await self._give_up(error)
            return 0.0
        if not done:
            return _OTHERS
        self._failures.clear()
        return _REST * (time.monotonic() - began)

    async def _page(self) -> bool:
        session, self._at_work = self._session, None
        async with session.transaction():
            row = await bulks.take(session)
            if row is None:
                return False
            self._at_work = row["id"]
            bulk = bulks.read(row)
            told, locked = await _step(session, bulk)
            pause = _after(bulk, told, locked)
            over = bulk.place is None and not bulk.locked
            await _add(session, bulk, told)
            await bulks.move(session, bulk, BulkState.FINISHED if over else BulkState.RUNNING, pause)
        if over:
            log.info("bulk.finished", bulk=str(bulk.id), action=bulk.action, matched=bulk.matched, changed=bulk.changed)
        return True

    async def _failed(self, error: BaseException) -> None:
        """A page has failed: too often, if it is its own fault, is the end of its bulk."""
        fault = classify(error)
        if self._at_work is None or (fault in _TRANSIENT and fault is not Fault.CONFLICT):
            return
        try:
            if fault is Fault.CONFLICT:  # a lock, or what takes too long: it may be so for hours
                await bulks.postpone(self._session, self._at_work, _LATER)
                return
            self._failures[self._at_work] += 1
            if self._failures[self._at_work] >= _FAILURES:
                await self._give_up(error)
        except DATABASE_ERRORS as another:
            await self._outage.wait(another)

    async def _give_up(self, error: BaseException) -> None:
        if (id := self._at_work) is not None:
            self._failures.pop(id, None)
            await bulks.end(self._session, id, BulkState.FAILED, brief(error))
            log.error("bulk.failed", bulk=str(id), error=brief(error))


async def _step(session: Session, bulk: Taken) -> tuple[dict[UUID, Change], list[UUID]]:
    """The next page, or those that were locked: what became of each, and which are still locked."""
    action = Action(bulk.action)
    if bulk.place is None:
        ids, bulk.locked, bulk.round = bulk.locked, [], bulk.round + 1
    else:
        ids, bulk.place = await _next(session, bulk, action)
    tries = steering.Tries(pauses=(0.0,))  # one further try, which looks at every day
    told = await change_of(action, _target(bulk))(session, ids, True, tries) if ids else {}
    return told, tries.locked


async def _next(session: Session, bulk: Taken, action: Action) -> tuple[list[UUID], Mapping[str, Any] | None]:
    given, place = check_meant((), bulk.filter), bulk.place or {}
    wanted, bundled = wanted_by(action, given), given.get("bundled")
    if "bundle" in given:
        after = UUID(place["after"]) if "after" in place else None
        page = await list_members(session, UUID(given["bundle"]), wanted, after, PAGE, payload=False)
        ids = sorted(job.id for job in page if (job.finished_at or job.created_at) <= bulk.at)
        return ids, None if page.next is None else {"after": str(page.next)}
    here = _place(place)
    ids, next = await find_ids_from(session, wanted, here, PAGE, bulk.at)
    if here.piece is None:
        ids = await bulks.older(session, ids, bulk.at)
    if bundled is not None:
        ids = await steering.bundled(session, ids, bundled)
    return ids, None if next is None else _document(next)


def _after(bulk: Taken, told: dict[UUID, Change], locked: list[UUID]) -> float:
    """What is locked is not told yet, but in the last round; the seconds until it goes on."""
    if bulk.round < _ROUNDS:
        later = locked[: max(0, _MOST_LOCKED - len(bulk.locked))]
        for id in later:
            del told[id]
        bulk.locked = bulk.locked + later
    return _AGAIN if bulk.place is None and bulk.locked else 0.0


async def _add(session: Session, bulk: Taken, told: dict[UUID, Change]) -> None:
    note = None
    if bulk.audit_id is not None:
        note = Noted.of(bulk.audit_id, bulk.matched, bulk.changed, bulk.refused)
        await note.jobs(session, told, ids=[id for id, change in told.items() if change.happened])
    refused = Counter(str(change) for change in told.values() if not change.happened)
    bulk.matched += len(told)
    bulk.changed += len(told) - refused.total()
    bulk.refused += refused


def _target(bulk: Taken) -> dict[str, Any]:
    """A delay counts from when it was asked for."""
    to = dict(bulk.to)
    if "delay" in to:
        to["at"] = bulk.at + timedelta(seconds=to.pop("delay"))
    elif "at" in to:
        to["at"] = datetime.fromisoformat(to["at"])
    return to


def _place(said: Mapping[str, Any]) -> Place:
    if not said:
        return Place()
    piece = said.get("piece")
    return Place(UUID(said["after"]), None if piece is None else (datetime.fromisoformat(piece[0]), piece[1]))


def _document(place: Place) -> Mapping[str, Any]:
    piece = None if place.piece is None else [place.piece[0].isoformat(), place.piece[1]]
    return {"after": str(place.after), "piece": piece}
