"""Jobs come in: one or many, on our connection or on the caller's, with ids and unique keys resolved.

Statements take text, numbers and flags only, so that a caller's connection keeps its own codecs.
"""

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
from uuid_utils.compat import uuid7

from jobqueue.base.errors import DuplicateJob
from jobqueue.base.job import Conflict, NewJob, Sent
from jobqueue.base.service import Patience
from jobqueue.store.connection.executor import Executor, KeyChangedHands, Undoing
from jobqueue.store.connection.joined import chunks, join
from jobqueue.store.standby import await_standby

CHUNK_ROWS = 5_000
CHUNK_BYTES = 8 << 20
_TRIES = 20
_KIND = attrgetter(
    "queue",
    "task",
    "priority",
    "delay",
    "at",
    "max_attempts",
    "timeout",
    "budget",
    "expires",
    "origin",
    "follow",
    "bundle",
    "edges",
)
_AT, _BUNDLE, _EDGES = 4, 11, 12
_CHANGED = {"replace": Conflict.REPLACED, "move": Conflict.MOVED, "replace+move": Conflict.REPLACED_AND_MOVED}

_Holders: TypeAlias = Mapping[str | None, str]
"""The id of the job that holds a key."""
_Looked: TypeAlias = dict[str | None, tuple[str, bool]]
"""The same, and whether that job waits; if so, it is locked."""


async def insert_all(executor: Executor, jobs: Sequence[NewJob[Any]], *, always: bool) -> list[Sent]:
    """Insert all jobs or none, in one transaction, in chunks; answers in the order given.

    A job whose key is taken, or whose id is known to `job` or the archive, comes back as a duplicate; what becomes of
    the holder of the key, the job says. Raises DuplicateJob. `always` notifies whether anybody sleeps or not.

    A duplicate of an id that nobody but us has seen is no duplicate: such a job follows under a new id.
    """
    if len(jobs) == 1 and _is_plain(jobs[0]) and await _insert_one(executor, jobs[0], always):
        return [Sent(jobs[0].id)]
    try:
        answers = await _insert_with_fresh_ids(executor, jobs, always)
    except DuplicateJob:
        await await_standby(executor)
        raise
    if any(sent.duplicate for sent in answers):
        await await_standby(executor)
    return answers


def _is_plain(job: NewJob[Any]) -> bool:
    return not (job.key or job.resent or job.bundle or job.edges or job.gates)


async def _insert_with_fresh_ids(executor: Executor, jobs: Sequence[NewJob[Any]], always: bool) -> list[Sent]:
    answers = await _insert_all(executor, jobs, always)
    for _ in range(_TRIES):
        told = zip(jobs, answers, strict=True)
        mistaken = {n for n, (job, sent) in enumerate(told) if sent.duplicate and job.own_id and sent.id == job.id}
        if not mistaken:
            return answers
        jobs = [replace(job, id=uuid7()) if n in mistaken else job for n, job in enumerate(jobs)]
        again = iter(await _insert_all(executor, [jobs[n] for n in sorted(mistaken)], always))
        answers = [next(again) if n in mistaken else answer for n, answer in enumerate(answers)]
    raise AssertionError("each new id was taken already")


async def _insert_all(executor: Executor, jobs: Sequence[NewJob[Any]], always: bool) -> list[Sent]:
    if len(jobs) <= CHUNK_ROWS and not any(job.key or job.resent for job in jobs) and _bytes(jobs) <= CHUNK_BYTES:
        # a single statement, which is a transaction of its own
        return _answers(jobs, await _insert(executor, jobs, always), {}, set(), set())
    taken: set[str] = set()
    patience = Patience(first=0.001, cap=0.2)
    for _ in range(_TRIES):
        with contextlib.suppress(KeyChangedHands):
            async with executor.transaction(), _savepoint(executor):
                return await _insert_whole(executor, jobs, taken, always)
        taken.clear()  # that try was undone
        await executor.fetch("pause", patience.next())  # whoever has the row locked is on the way
    raise asyncpg.SerializationError(f"unique keys kept changing hands, {_TRIES} times in a row")


def _savepoint(executor: Executor) -> contextlib.AbstractAsyncContextManager[None]:
    return executor.savepoint() if isinstance(executor, Undoing) else contextlib.nullcontext()


async def _insert_whole(executor: Executor, jobs: Sequence[NewJob[Any]], taken: set[str], always: bool) -> list[Sent]:
    keyed = [job for job in jobs if job.key is not None]
    looked = await _lock_holders(executor, keyed)
    holders = await _take_keys(executor, keyed, taken)
    await _lock_late(executor, keyed, holders, looked, taken)
    rivals = [job for job in keyed if holders[job.key] != str(job.id)]
    known = await _known(executor, rivals)
    changes = _changes([job for job in rivals if job.id not in known], holders, looked, taken)
    going = [_changed(job, changes) for job in jobs if job.key is None or holders[job.key] == str(job.id)]
    cuts = chunks([len(job.args) for job in going], CHUNK_ROWS, CHUNK_BYTES)
    present: set[Any] = set()
    for cut in cuts:
        # a transaction of many chunks would hold the lock of wake() for long: it notifies instead
        present |= await _insert(executor, going[cut], always or len(cuts) > 1)
    # A resend of a job that has let go of its key, as it runs: it does not get it back.
    if stale := [job for job in going if job.key in taken and job.id not in present]:
        await executor.fetch("give_up_keys", [job.key for job in stale], [str(job.id) for job in stale])
    present -= await _withdraw_known(executor, [job for job in going if job.resent and job.id in present], taken)
    stored = {id: change for id, change in changes.items() if change.key not in taken}
    await _change_holders(executor, stored, always)
    changed = {id for id in changes if id in stored or UUID(id) in present}
    return _answers(jobs, present, holders, known, changed)


def _bytes(jobs: Sequence[NewJob[Any]]) -> int:
    return sum(len(job.args) for job in jobs)


async def _insert(executor: Executor, jobs: Sequence[NewJob[Any]], always: bool) -> set[Any]:
    """Store jobs; those that are in. What many have in common, their kind, is sent once."""
    kinds: dict[Any, int] = {}
    of_kind = [kinds.setdefault(kind, len(kinds) + 1) for kind in map(_KIND, jobs)]
    columns = [list(column) for column in zip(*kinds, strict=True)]
    columns[_AT] = [None if at is None else at.isoformat() for at in columns[_AT]]
    columns[_BUNDLE] = [bundle and bundle.hex for bundle in columns[_BUNDLE]]
    edges = columns.pop(_EDGES)
    columns += [[each and each.waits for each in edges], [each and each.needed for each in edges]]
    name, gates = "insert_jobs", []
    if any(job.gates for job in jobs):
        name, gates = "insert_limited_jobs", [[_gates(job) for job in jobs]]
    rows = await executor.fetch(
        name,
        join([job.id.hex for job in jobs]),
        join([job.args for job in jobs]),
        join(of_kind) if len(kinds) > 1 else None,
        join([job.meta for job in jobs]),
        join([job.key for job in jobs]),
        *columns,
        *gates,
        always,
    )
    answered = {row[0] for row in rows}
    if None in answered:
        return {job.id for job in jobs}
    return {job.id for job in jobs if str(job.id) in answered}


def _gates(job: NewJob[Any]) -> str | None:
    return json.dumps(job.gates) if job.gates else None


async def insert_plain(executor: Executor, jobs: Sequence[NewJob[Any]], *, always: bool) -> bool:
    """Store jobs without keys, in one statement; False if the id of any was there already."""
    return len(await _insert(executor, jobs, always)) == len(jobs)


async def _insert_one(executor: Executor, job: NewJob[Any], always: bool) -> bool:
    """Store one plain job, in a shorter statement, of which a loop of defers is made; False if its id was taken."""
    at = None if job.at is None else job.at.isoformat()
    rows = await executor.fetch(
        "insert_job", job.id.hex, job.queue, job.task, job.args, job.priority, job.delay, at, job.max_attempts,
        job.timeout, job.budget, job.expires, job.origin, job.meta, job.follow, always,
    )  # fmt: skip
    return bool(rows)


async def _withdraw_known(executor: Executor, jobs: Sequence[NewJob[Any]], taken: set[str]) -> set[Any]:
    """Take back the just inserted jobs that have run before: their ids are in the archive.

    Looked up by a second statement, whose snapshot is newer than the insert: a job that ran between a lost answer
    and its resend is seen. Of their keys only those are given up that were taken just now: a period may go on.
    """
    if not jobs:
        return set()
    known = {row[0] for row in await executor.fetch("archived_ids", [str(job.id) for job in jobs])}
    if known:
        keys = [job.key for job in jobs if str(job.id) in known and job.key in taken]
        await executor.fetch("withdraw_jobs", sorted(known), keys)
    return {UUID(id) for id in known}


@dataclass(slots=True)
class _Change:
    """What the holder of a key gets from the jobs that wanted it, in their order: the last word counts."""

    key: str | None
    args: str | None = None
    meta: str | None = None
    due: NewJob[Any] | None = None

    def add(self, job: NewJob[Any]) -> None:
        if "replace" in job.on_conflict:
            self.args, self.meta = job.args, job.meta or self.meta
        if "move" in job.on_conflict:
            self.due = job


async def _lock_holders(executor: Executor, jobs: Sequence[NewJob[Any]]) -> _Looked:
    """Who holds the keys of jobs that would change it; the holders that wait are locked from now on."""
    keys = {job.key for job in jobs if job.key is not None and job.on_conflict in _CHANGED}
    return {row[0]: (row[1], row[2]) for row in await executor.fetch("lock_holders", sorted(keys))} if keys else {}


async def _lock_late(
    executor: Executor, jobs: Sequence[NewJob[Any]], holders: _Holders, looked: _Looked, taken: set[str]
) -> None:
    """The same for those that came after the look. Raises KeyChangedHands if it cannot be done at once."""
    keys = {job.key for job in jobs if job.key is not None and job.on_conflict in _CHANGED and job.key not in taken}
    late = sorted(key for key in keys if looked.get(key, ("", False))[0] != holders[key])
    if not late:
        return
    rows = await executor.fetch("lock_late_holders", late)
    now = {row[0]: row[1] for row in await executor.fetch("key_holders", late)}
    for key, id, waits in rows:
        if waits is None or not now.get(key) == id == holders[key]:
            raise KeyChangedHands
        looked[key] = (id, waits)
    if len(rows) < len(late):
        raise KeyChangedHands


async def _known(executor: Executor, rivals: Sequence[NewJob[Any]]) -> set[UUID]:
    """Those that were stored before: a resend, whose key is another job's by now, has nothing to say about that one."""
    resent = [str(job.id) for job in rivals if job.resent and job.on_conflict != "skip"]
    return {UUID(row[0]) for row in await executor.fetch("known_ids", resent)} if resent else set()


def _changes(rivals: Sequence[NewJob[Any]], holders: _Holders, looked: _Looked, taken: set[str]) -> dict[str, _Change]:
    """What becomes of each holder: one that waits, or a job of this very call. Raises DuplicateJob."""
    changes: dict[str, _Change] = {}
    for job in rivals:
        holder = holders[job.key]
        if job.on_conflict == "raise":
            raise DuplicateJob(UUID(holder), job.task, in_one_call=job.key in taken)
        if job.on_conflict not in _CHANGED:
            continue
        if job.key in taken or looked[job.key][1]:
            changes.setdefault(holder, _Change(job.key)).add(job)
    return changes


def _changed(job: NewJob[Any], changes: Mapping[str, _Change]) -> NewJob[Any]:
    """The job as the later ones with its key, in the same call, want it."""
    change = changes.get(str(job.id))
    if change is None:
        return job
    if change.args is not None:
        job = replace(job, args=change.args, meta=change.meta or job.meta)
    return job if change.due is None else replace(job, delay=change.due.delay, at=change.due.at)


async def _change_holders(executor: Executor, changes: Mapping[str, _Change], always: bool) -> None:
    ids = sorted(changes)
    cuts = chunks([len(changes[id].args or "") for id in ids], CHUNK_ROWS, CHUNK_BYTES)
    for cut in cuts:
        some = [changes[id] for id in ids[cut]]
        await executor.fetch(
            "change_holders",
            ids[cut],
            [change.args for change in some],
            [change.meta for change in some],
            [change.due is not None for change in some],
            [change.due and change.due.delay for change in some],
            [change.due.at.isoformat() if change.due and change.due.at else None for change in some],
            always or len(cuts) > 1,
        )


async def _take_keys(executor: Executor, jobs: Sequence[NewJob[Any]], taken: set[str]) -> _Holders:
    """For each key the id of the job that holds it now; those that were free go to `taken`, and to their first job."""
    first = {job.key: job for job in reversed(jobs) if job.key is not None}
    if not first:
        return {}
    wanted = [first[key] for key in sorted(first)]
    rows = await executor.fetch(
        "take_keys",
        [job.key for job in wanted],
        [str(job.id) for job in wanted],
        [job.key_scope for job in wanted],
        [job.key_period for job in wanted],
    )
    taken |= {row[0] for row in rows if row[2]}
    holders: dict[str | None, str] = {row[0]: row[1] for row in rows}
    if rest := [row[0] for row in rows if not row[2]] + sorted(first.keys() - holders):
        # held by others: by whom now, if by anybody, else by whom before
        holders |= {row[0]: row[1] for row in await executor.fetch("key_holders", rest)}
    if first.keys() - holders:
        raise KeyChangedHands
    return holders


def _answers(
    jobs: Sequence[NewJob[Any]], present: set[Any], holders: _Holders, known: set[UUID], changed: set[str]
) -> list[Sent]:
    """What each caller is told; of several jobs with one id only the first is new."""
    new = set(present)
    answers = []
    for job in jobs:
        holder = job.id if job.key is None or job.id in known else UUID(holders[job.key])
        if holder == job.id:
            answers.append(Sent(holder, duplicate=holder not in new))
            new.discard(holder)
        else:
            done = _CHANGED.get(job.on_conflict) if str(holder) in changed else None
            answers.append(Sent(holder, duplicate=True, conflict=done or Conflict.SKIPPED))
    return answers
