"""Unique(on_conflict=...) when many want one key at once, and when its holder starts in the same moment."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest

from jobqueue.app import App
from jobqueue.base.errors import DuplicateJob
from jobqueue.base.job import Conflict
from tests.support.jobs.deferring import Note, unique
from tests.support.jobs.store import Connection, connect
from tests.support.jobs.working import all_ended, asked, counted, new_app
from tests.support.patience import PATIENCE
from tests.support.rounds import rounds

PRODUCERS = 32
ROUNDS = rounds(2)
CONFLICTS = ["skip", "raise", "replace", "move", "replace+move"]


async def note(text: str) -> str:
    return text


async def pause(chosen: random.Random, longest: int) -> None:
    """Let others go first, a few times."""
    for _ in range(chosen.randrange(longest)):
        await asyncio.sleep(0)


class Abandoned(Exception):
    """Raised to roll a transaction back."""


@dataclass
class Told:
    """What those were told who committed."""

    ids: set[UUID] = field(default_factory=set)
    stored: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    left_alone: list[str] = field(default_factory=list)
    raised: list[str] = field(default_factory=list)


async def produce(task: Note, text: str, connection: "Connection | None", chosen: random.Random, told: Told) -> None:
    """Defer once: by the app, or in a transaction that is rolled back every other time. Then note what was said."""
    rolls_back = chosen.random() < 0.5
    await pause(chosen, 20)
    if connection is None:
        heard(await deferred(task, text), text, told)
        return
    try:
        async with connection.transaction():
            answer = await deferred(task.options(connection=connection), text)
            await pause(chosen, 20)
            await connection.execute("insert into mark values ($1)", text)  # theirs, whatever we said
            if rolls_back:
                raise Abandoned
    except Abandoned:
        return
    heard(answer, text, told)


async def deferred(task: Note, text: str) -> Any:
    try:
        return await task.defer(text)
    except DuplicateJob as error:
        return error


def heard(answer: Any, text: str, told: Told) -> None:
    told.ids.add(answer.id)
    if isinstance(answer, DuplicateJob):
        told.raised.append(text)
    elif answer.conflict is None:
        told.stored.append(text)
    else:
        (told.left_alone if answer.conflict is Conflict.SKIPPED else told.changed).append(text)


@pytest.mark.parametrize("conflict", CONFLICTS)
async def test_racing_producers_with_random_rollbacks(conflict: str, database: str) -> None:
    """S0-25, A10: 32 producers want one key, many roll back: one job, and all who commit are told of it."""
    app = App(database)
    chosen = random.Random(conflict)  # noqa: S311 - a seed to repeat it by
    await asked(database, "create table mark (text text)")
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(connect(database)) for _ in range(PRODUCERS // 2)]
        for number in range(ROUNDS):
            key = f"k{number}"
            task = app.task(name="note")(note).options(unique=unique(key, conflict), delay=3600)
            told = Told()
            who: Sequence[Connection | None] = [*connections, *[None] * (PRODUCERS - len(connections))]
            await asyncio.gather(
                *(produce(task, f"{key} {place}", connection, chosen, told) for place, connection in enumerate(who))
            )
            await assert_one(database, key, conflict, told)
    await app.close()


async def assert_one(dsn: str, key: str, conflict: str, told: Told) -> None:
    mine = "key = E'note\\n' || $1"
    assert 1 == len(told.stored) == await counted(dsn, mine, key)
    assert told.ids == {await asked(dsn, f"select id from jobqueue.job where {mine}", key)}
    assert told.ids == {await asked(dsn, f"select job_id from jobqueue.job_key where {mine}", key)}
    others = {"skip": told.left_alone, "raise": told.raised}.get(conflict, told.changed)
    assert len(told.left_alone) + len(told.raised) + len(told.changed) == len(others)
    text = await asked(dsn, f"select args ->> 'text' from jobqueue.job where {mine}", key)
    assert text in (told.stored + told.changed if "replace" in conflict else told.stored)


@pytest.mark.parametrize("scope", ["waiting", "unfinished"])
async def test_a_replace_that_races_with_the_start(scope: str, database: str) -> None:
    """A10: the handler sees the new arguments exactly if the defer said so; of scope `waiting` they are never lost."""
    app = new_app(database)
    chosen = random.Random(scope)  # noqa: S311 - a seed to repeat it by
    ends: dict[str, int] = {}
    task = app.task(note)
    async with app.worker(concurrency=4):
        number = 0
        while number < rounds(75) or not {"replaced", "stored"} <= ends.keys():
            number += 1
            key = unique(str(number), "replace", scope)
            first = await task.options(unique=key).defer("old")
            await pause(chosen, 40)
            second = await task.options(unique=key).defer("new")
            seen = await first.result(timeout=PATIENCE)
            told = second.conflict or "stored"
            assert ("new" if told == "replaced" else "old") == seen, number
            if told == "stored":
                assert "new" == await second.result(timeout=PATIENCE)
            ends[told] = ends.get(told, 0) + 1

    assert scope == "unfinished" or "skipped" not in ends, ends
    await app.close()


async def test_many_debounces_beside_a_worker(database: str) -> None:
    """A10: producers debounce keys of scope `waiting` while a worker runs them: the last word of each key runs."""
    app = new_app(database)
    chosen = random.Random(8)  # noqa: S311 - a seed to repeat it by
    ran: dict[str, int] = {}
    numbers = iter(range(100_000))
    last: dict[str, int] = {}

    @app.task
    async def save(key: str, number: int) -> None:
        ran[key] = max(number, ran.get(key, -1))

    async def produce(key: str) -> None:
        """One producer for each key, so that it is known which word is the last one."""
        for _ in range(rounds(30)):
            number = last[key] = next(numbers)
            delay = chosen.choice([None, 0.01])
            handle = await save.options(unique=unique(key, "replace+move", "waiting"), delay=delay).defer(key, number)
            assert handle.conflict in (None, Conflict.REPLACED_AND_MOVED)
            await pause(chosen, 30)

    async with app.worker(concurrency=4):
        await asyncio.gather(*(produce(f"k{number}") for number in range(8)))
        await all_ended(database)

    assert last == ran
    await app.close()
