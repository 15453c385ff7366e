"""The jobs of one block, in the order in which they came; handed out in the order in which workers would take them."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from heapq import heappop, heappush
from itertools import count
from typing import Any
from uuid import UUID

from jobqueue.base.errors import DuplicateJob
from jobqueue.base.job import Conflict, JobState, KeyScope, NewJob, Sent
from jobqueue.testing.memory.kept import Kept
from jobqueue.testing.memory.phases import KeptPhases

_WAITING = (JobState.SCHEDULED, JobState.BLOCKED, JobState.READY)


@dataclass(slots=True)
class _Key:
    holder: UUID
    scope: KeyScope
    until: datetime | None


class Shelf:
    """Jobs by id, and the unique keys that they hold."""

    def __init__(self, now: Callable[[], datetime], due: Callable[[float | None, datetime | None], datetime]) -> None:
        """`due` says when a job is due that is to run in so many seconds, or at a moment."""
        self.jobs: dict[UUID, Kept] = {}
        self.followers = defaultdict[UUID, list[Kept]](list)
        """Those that wait for a job."""
        self._keys: dict[str, _Key] = {}
        self._places = count(1)
        self._ready: list[tuple[int, int, Kept]] = []
        self._scheduled: list[tuple[datetime, int, Kept]] = []
        """Heaps, the next one first. What has become of it since, it says itself."""
        self._fresh: list[Kept] = []
        self._undo: list[Callable[[], object]] | None = None
        self._now = now
        self._due = due

    @contextmanager
    def all_or_none(self) -> Iterator[None]:
        """What is put inside is taken back if the block raises, what it has changed of others too."""
        undo = list[Callable[[], object]]()
        self._undo = undo
        try:
            yield
        except BaseException:
            for step in reversed(undo):
                step()
            raise
        finally:
            self._undo = None

    def put(self, new: NewJob[Any], *, blocked_by: frozenset[UUID] = frozenset(), callback: bool = False) -> Sent:
        """Take in a job; or say which one holds its id or its key. Raises DuplicateJob."""
        if new.id in self.jobs:
            return Sent(new.id, duplicate=True)
        if new.key is not None:
            holder = self._holder(new.key)
            if holder is not None:
                return self._meet(holder, new)
            until = None if new.key_period is None else self._now() + timedelta(seconds=new.key_period)
            before, self._keys[new.key] = self._keys.get(new.key), _Key(new.id, new.key_scope, until)
            self._or_else(partial(self._give_key_back, new.key, before))
        kept = Kept(
            new, next(self._places), JobState.SCHEDULED, self._now(), self._now(), new.queue, new.priority,
            KeptPhases(self._now), callback, waits_for=set(blocked_by),
        )  # fmt: skip
        self.jobs[new.id] = kept
        self._or_else(partial(self._take_back, kept))
        for id in blocked_by:
            self.followers[id].append(kept)
        if blocked_by:
            kept.state = JobState.BLOCKED
        else:
            self.begin_waiting(kept)
        return Sent(new.id)

    def begin_waiting(self, kept: Kept) -> None:
        """Nothing holds it up any more but its own delay, which counts from now."""
        kept.fall_due(self._due(kept.new.delay, kept.new.at))
        self.put_back(kept, kept.due_at)

    def put_back(self, kept: Kept, due_at: datetime) -> None:
        """It runs again, once it is due."""
        kept.state, kept.due_at = JobState.SCHEDULED, due_at
        if due_at <= self._now():
            self.make_ready(kept)
        else:
            heappush(self._scheduled, (due_at, next(self._places), kept))

    def make_ready(self, kept: Kept) -> None:
        """It may run now, behind those of its priority that may already."""
        kept.place, kept.heard = next(self._places), None
        self.release(kept)
        self._fresh.append(kept)

    def release(self, kept: Kept) -> None:
        """It may run now, where it stood."""
        kept.state = JobState.READY
        heappush(self._ready, (-kept.priority, kept.place, kept))

    def take_fresh(self) -> list[Kept]:
        """Those that have become ready since this was asked last."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def best(self, queue: str | None) -> Kept | None:
        """The one that a worker would take now, of this queue or any."""
        while self._scheduled and self._scheduled[0][0] <= self._now():
            due_at, _, kept = heappop(self._scheduled)
            if kept.state is JobState.SCHEDULED and kept.due_at == due_at:
                self.make_ready(kept)
        others, best = [], None
        while self._ready and best is None:
            entry = heappop(self._ready)
            kept = entry[2]
            if kept.state is not JobState.READY or kept.place != entry[1]:
                continue
            if queue in (None, kept.queue):
                best = kept
            others.append(entry)  # the best one too: whoever looks has not begun it yet
        for entry in others:
            heappush(self._ready, entry)
        return best

    def begin(self, kept: Kept) -> None:
        """It runs from here on."""
        kept.state, kept.claimed_at = JobState.RUNNING, self._now()
        kept.attempt += 1
        key = self._keys.get(kept.new.key or "")
        if key is not None and key.holder == kept.id and key.scope == "waiting":
            del self._keys[kept.new.key or ""]

    def end(self, kept: Kept, state: JobState, reason: str | None, result: str | None) -> None:
        """It has ended."""
        kept.state, kept.reason, kept.result, kept.finished_at = state, reason, result, self._now()
        self.tell(kept)

    def tell(self, kept: Kept) -> None:
        """Wake those who wait for it."""
        for future in kept.ended:
            future.get_loop().call_soon_threadsafe(_wake, future)
        kept.ended.clear()

    def _holder(self, key: str) -> Kept | None:
        held = self._keys.get(key)
        if held is None:
            return None
        kept = self.jobs[held.holder]
        free = held.until is not None and held.until <= self._now()
        free = free or (held.scope != "period" and kept.state.final)
        return None if free else kept

    def _meet(self, holder: Kept, new: NewJob[Any]) -> Sent:
        """Another job has the key."""
        if new.on_conflict == "raise":
            raise DuplicateJob(holder.id, new.task)
        if new.on_conflict == "skip" or holder.state not in _WAITING:
            return Sent(holder.id, duplicate=True, conflict=Conflict.SKIPPED)
        self._or_else(partial(self._set_back, holder, holder.new, holder.state, holder.due_at))
        if "replace" in new.on_conflict:
            holder.new = replace(holder.new, args=new.args, meta=new.meta or holder.new.meta)
        if "move" in new.on_conflict and holder.state is not JobState.BLOCKED:
            holder.fall_due(self._due(new.delay, new.at))
            self.put_back(holder, holder.due_at)
        said = {"replace": Conflict.REPLACED, "move": Conflict.MOVED}
        return Sent(holder.id, duplicate=True, conflict=said.get(new.on_conflict, Conflict.REPLACED_AND_MOVED))

    def _or_else(self, step: Callable[[], object]) -> None:
        if self._undo is not None:
            self._undo.append(step)

    def _take_back(self, kept: Kept) -> None:
        del self.jobs[kept.id]
        kept.state = JobState.CANCELLED

    def _give_key_back(self, key: str, before: _Key | None) -> None:
        del self._keys[key]
        if before is not None:
            self._keys[key] = before

    def _set_back(self, holder: Kept, new: NewJob[Any], state: JobState, due_at: datetime) -> None:
        holder.new = new
        if holder.due_at != due_at or holder.state is not state:
            holder.fall_due(due_at)
            self.put_back(holder, due_at)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
