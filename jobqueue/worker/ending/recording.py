"""Writes the phases of running jobs, and finds what earlier runs have left: for all jobs together, in few statements.

A phase goes on as soon as its record is stored. Records are kept while the database is away, or somebody has the job's
row locked. What is still unwritten when a job ends, whoever ends it writes first, so that no step is done again.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import anyio
from anyio.abc import TaskStatus

from jobqueue.base.errors import ClaimLost, InvalidPayload
from jobqueue.base.flows.phase import Found, Looked, Record, Wait, Waking
from jobqueue.base.job import WorkerId
from jobqueue.base.log import get_logger
from jobqueue.base.service import Patience
from jobqueue.store.connection.callers.on_asyncpg import OnAsyncpg
from jobqueue.store.connection.executor import Executor
from jobqueue.store.connection.faults import DATABASE_ERRORS, Fault, classify
from jobqueue.store.connection.outage import Outage
from jobqueue.store.connection.pool import Database
from jobqueue.store.connection.session import Session
from jobqueue.store.flows.phases import load_phases, phase_result, record_on, record_phases
from jobqueue.store.flows.signals import take_signals
from jobqueue.store.outcomes import holds_still, still_claimed
from jobqueue.worker.ending.questions import Questions
from jobqueue.worker.keeping.holds import Held, Hold

_BATCH = 500
_BATCH_BYTES = 8 << 20
_REST = 1.0

Begun: TypeAlias = Callable[[Executor, Collection[Hold]], Awaitable[None]]
Key: TypeAlias = tuple[Hold, str]
"""A running job and the name of its phase."""


class Recorder:
    """The one writer of phases of a worker."""

    def __init__(self, database: Database, worker: WorkerId, holds: Held, have_begun: Begun) -> None:
        """`have_begun` has the log told first that jobs have begun, before anything is told of their phases."""
        self.recorded = 0
        """Phases, sleeps and waits whose end was recorded."""
        self._worker = worker
        self._schema = database.schema
        self._session = Session(database)
        self._holds = holds
        self._have_begun = have_begun
        self._records: dict[Key, Record] = {}
        """The last word of each phase, until it is written."""
        self._arrived = asyncio.Event()
        self._stored = Questions[Key, Waking | None](holds, self._arrived.set)
        self._looks = Questions[Key, Looked](holds, self._arrived.set)
        self._loads = Questions[Hold, Sequence[Found]](holds, self._arrived.set)
        self._texts = Questions[Key, str | None](holds, self._arrived.set)
        self._waits: dict[Key, Wait] = {}
        """What the looks are for."""
        self._in_flight: Collection[Hold] = ()
        self._landed = asyncio.Event()
        self._locked: dict[Hold, Patience] = {}
        """Jobs that somebody had locked when something was to be said of them."""
        self._resting: set[Hold] = set()
        """Those of them that wait for their next try."""
        self._outage = Outage("phases", get_logger(__name__))

    @property
    def unwritten(self) -> int:
        """How many phases have said what nobody has written yet."""
        return len(self._records)

    def note(self, hold: Hold, record: Record) -> None:
        """Write this soon."""
        self._records[hold, record.name] = record
        self._arrived.set()

    async def store(self, hold: Hold, record: Record) -> Waking | None:
        """Write this, and return once that is done. Cancelled, it is written all the same."""
        self.note(hold, record)
        return await self._stored.ask((hold, record.name), hold)

    async def look(self, hold: Hold, wait: Wait) -> Looked:
        """Take the next signal, or say until when to wait."""
        key = hold, wait.name
        self._waits[key] = wait
        try:
            return await self._looks.ask(key, hold)
        finally:
            del self._waits[key]

    async def load(self, hold: Hold) -> Sequence[Found]:
        """What earlier runs have left."""
        return await self._loads.ask(hold, hold)

    async def text(self, hold: Hold, name: str) -> str | None:
        """The result of a completed phase."""
        return await self._texts.ask((hold, name), hold)

    async def written(self, hold: Hold) -> None:
        """Return once nothing that was said of this running job is unwritten: its end may be written then.

        A transaction could not write it with the end: if that failed, it would be lost.
        """
        while hold in self._in_flight or any(of is hold for of, _ in self._records):
            self._landed.clear()
            await self._landed.wait()

    async def store_on(self, connection: Any, hold: Hold, record: Record) -> None:
        """Write this with the transaction that the connection is in. Raises ClaimLost, InvalidPayload."""
        if not await holds_still(OnAsyncpg(connection, self._schema), self._worker, hold.id, hold.fence):
            raise ClaimLost(hold.id)
        try:
            stored = await record_on(connection, self._schema, self._worker, (hold.id, hold.fence), record)
        except DATABASE_ERRORS as error:
            if classify(error) is not Fault.BAD_DATA:
                raise
            raise _refused(f"result of phase {record.name!r}") from None
        if not stored:
            raise ClaimLost(hold.id)
        self.recorded += record.over

    async def write_last_words(self, executor: Executor, holds: Collection[Hold]) -> Collection[Hold]:
        """Write what is unwritten of these jobs, which are about to end; those of them that somebody has locked.

        Raises the database's errors; the records are kept then, unless they are what it refuses.
        """
        if not self._records and not self._in_flight:
            return ()
        holds = set(holds)
        await self._land(holds)
        left = {key: record for key, record in self._records.items() if key[0] in holds}
        return await self._write(executor, left) if left else ()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Write until cancelled. Survives every database error."""
        task_status.started()
        try:
            while True:
                await self._next()
                self._arrived.clear()
                self._forget_the_ended()
                try:
                    await self._turn()
                    self._outage.over()
                except DATABASE_ERRORS as error:
                    await self._outage.wait(error)
                    self._arrived.set()
        finally:
            await self._session.close()

    async def _next(self) -> None:
        """Wait for something to do. A worker without phases needs no connection for them."""
        with anyio.move_on_after(_REST):
            await self._arrived.wait()
            return
        if self._records or self._texts:
            return  # of one whose run has ended: perhaps nobody writes its last words any more
        await self._session.close()
        await self._arrived.wait()

    async def _turn(self) -> None:
        """All that waits now, but for jobs that somebody has locked: they are tried again by and by."""
        await self._read()
        # The last words of one that has ended are the finisher's to write. Before the looks: a handler comes to its
        # wait after what it has noted, and so it is told.
        mine = {key: record for key, record in self._records.items() if _runs(key[0]) and key[0] not in self._resting}
        locked = set(await self._write(self._session, mine) if mine else ())
        locked.update(await self._look_around())
        self._locked = {hold: patience for hold, patience in self._locked.items() if hold in locked | self._resting}
        for hold in locked:
            self._resting.add(hold)
            patience = self._locked.setdefault(hold, Patience(first=0.005, cap=1.0))
            asyncio.get_running_loop().call_later(patience.next(), self._again, hold)
        if any(key not in self._records for key in self._texts):
            self._arrived.set()

    def _again(self, hold: Hold) -> None:
        self._resting.discard(hold)
        self._arrived.set()

    async def _read(self) -> None:
        loads = list(self._loads)[:_BATCH]
        if loads:
            await self._have_begun(self._session, loads)
            found = await load_phases(self._session, [hold.id for hold in loads])
            for hold in loads:
                self._loads.answer(hold, found.get(hold.id, ()))
        for hold, name in self._texts:
            if (hold, name) not in self._records:  # else it is asked what is about to be written
                self._texts.answer((hold, name), await phase_result(self._session, hold.id, name))
        if self._loads:
            self._arrived.set()

    async def _look_around(self) -> Collection[Hold]:
        looks: dict[tuple[Hold, str], Key] = {}
        unsaid = {hold for hold, _ in self._records}  # what was before a wait is told before it
        for key in self._looks:
            if key[0] not in self._resting and key[0] not in unsaid:
                looks.setdefault((key[0], self._waits[key].signal), key)
        waits = {key: self._waits[key] for key in list(looks.values())[:_BATCH]}
        locked = await self._look_at(waits) if waits else ()
        if any(key not in waits and key[0] not in self._resting for key in self._looks):
            self._arrived.set()
        return locked

    async def _look_at(self, waits: Mapping[Key, Wait]) -> Collection[Hold]:
        """What the database refuses fails its own wait, and no other."""
        try:
            return await self._look_together(waits)
        except DATABASE_ERRORS as error:
            if classify(error) is not Fault.BAD_DATA:
                raise
        if len(waits) > 1:
            apart = [await self._look_at({key: wait}) for key, wait in waits.items()]
            return {hold for holds in apart for hold in holds}
        ((key, wait),) = waits.items()
        self._looks.fail(key, _refused(f"signal {wait.signal!r}"))
        return ()

    async def _look_together(self, waits: Mapping[Key, Wait]) -> Collection[Hold]:
        with self._sending(hold for hold, _ in waits):
            asked = [((hold.id, hold.fence), wait) for (hold, _), wait in waits.items()]
            answers = await take_signals(self._session, self._worker, asked)
        for hold, name in waits:
            if (looked := answers.get((hold.fence, name))) is not None:
                self.recorded += looked.payload is not None
                self._looks.answer((hold, name), looked)  # whoever was cut off meanwhile finds it in his next run
        left = {key for key in waits if key in self._looks}
        return await self._told(self._session, left, self._looks)

    async def _write(self, executor: Executor, records: Mapping[Key, Record]) -> Collection[Hold]:
        """Write these records; the jobs that somebody has locked. What fails in between is kept."""
        left, busy = dict(records), set[Hold]()
        while left:
            part = _part(left)
            try:
                busy.update(await self._write_part(executor, part))
            except DATABASE_ERRORS as error:
                if classify(error) is not Fault.BAD_DATA:
                    raise
                await self._write_apart(executor, part)
            for key in part:
                del left[key]
        return busy

    async def _write_part(self, executor: Executor, part: Mapping[Key, Record]) -> Collection[Hold]:
        with self._sending(hold for hold, _ in part):
            told = [((hold.id, hold.fence), record) for (hold, _), record in part.items()]
            stored = await record_phases(executor, self._worker, told)
        left = set[Key]()
        for key, record in part.items():
            hold, name = key
            if (hold.fence, name) not in stored:
                left.add(key)
                continue
            self.recorded += record.over
            if self._records.get(key) is record:
                del self._records[key]
                self._stored.answer(key, stored[hold.fence, name])
        return await self._told(executor, left, self._stored)

    async def _write_apart(self, executor: Executor, part: Mapping[Key, Record]) -> None:
        """One by one: what the database refuses fails its own phase, and no other."""
        for key, record in part.items():
            try:
                await self._write_part(executor, {key: record})
            except DATABASE_ERRORS as error:
                if classify(error) is not Fault.BAD_DATA:
                    raise
                if self._records.get(key) is record:
                    del self._records[key]
                self._stored.fail(key, _refused(f"result of phase {key[1]!r}"))

    async def _told(
        self, executor: Executor, keys: Collection[Key], questions: "Questions[Key, Any]"
    ) -> Collection[Hold]:
        """Of what was not answered: the jobs that are only locked. Whoever waits for the others has lost his claim."""
        if not keys:
            return ()
        holds = {hold for hold, _ in keys}
        still = await still_claimed(executor, self._worker, [(hold.id, hold.fence) for hold in holds])
        for key in keys:
            if key[0].id not in still:
                questions.fail(key, ClaimLost(key[0].id))
                self._records.pop(key, None)
        self._landed.set()
        return {hold for hold in holds if hold.id in still}

    async def _land(self, holds: Collection[Hold]) -> None:
        """Wait for what is on its way of these jobs."""
        while any(hold in self._in_flight for hold in holds):
            self._landed.clear()
            await self._landed.wait()

    @contextlib.contextmanager
    def _sending(self, holds: Iterator[Hold]) -> Iterator[None]:
        """Something is said of these jobs: nothing may be said of their end before it is there."""
        sent = set(holds)
        self._in_flight = {*self._in_flight, *sent}
        try:
            yield
        finally:
            self._in_flight = {hold for hold in self._in_flight if hold not in sent}
            self._landed.set()

    def _forget_the_ended(self) -> None:
        """Some jobs end without an outcome to write, and then nobody writes their last words. A wait needs a run."""
        for key in list(self._records):
            if key[0] not in self._holds:
                del self._records[key]
                self._stored.fail(key, ClaimLost(key[0].id))
        for key in self._looks:
            if not _runs(key[0]):
                self._looks.fail(key, ClaimLost(key[0].id))
        self._landed.set()


def _part(records: Mapping[Key, Record]) -> dict[Key, Record]:
    """As many as go into one statement."""
    part: dict[Key, Record] = {}
    size = 0
    for key, record in records.items():
        size += len(record.result or "")
        if part and (len(part) == _BATCH or size > _BATCH_BYTES):
            break
        part[key] = record
    return part


def _refused(what: str) -> InvalidPayload:
    return InvalidPayload(what, "", "refused", "the database refuses it")


def _runs(hold: Hold) -> bool:
    return hold.task is not None and not hold.task.done()
