"""Thousands of callers, a third of whom give up in the middle: whoever got an answer has a true one."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias
from uuid import UUID

import anyio
import pytest

from jobqueue.app import App
from jobqueue.base.errors import InvalidPayload
from jobqueue.base.job import Sent
from jobqueue.tasks.sending import surely
from tests.support.jobs.store import new_job
from tests.support.jobs.working import asked
from tests.support.patience import PATIENCE
from tests.support.postgres.backends import change

CALLERS = 3_000
LONGEST = 0.004
"""Seconds after which those who give up have done so."""
REFUSE_BAD = "alter table jobqueue.job add constraint no_bad_jobs check (args ->> 'text' <> 'bad')"

Call: TypeAlias = Callable[[], Awaitable[Sent]]


async def by_timeout(call: Call, seconds: float) -> Sent:
    async with asyncio.timeout(seconds):
        return await call()


async def by_scope(call: Call, seconds: float) -> Sent:
    with anyio.fail_after(seconds):
        return await call()


async def by_cancel(call: Call, seconds: float) -> Sent:
    task = asyncio.ensure_future(call())
    asyncio.get_running_loop().call_later(seconds, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        raise TimeoutError from None


@pytest.mark.parametrize("give_up", [by_timeout, by_scope, by_cancel])
async def test_a_storm_of_callers(
    give_up: Callable[[Call, float], Awaitable[Sent]], database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S0-11: all acknowledged jobs are in, no job appears after the last answer, each bad one fails alone.

    A third of the callers give up within 4 ms, 2 % have a row that the database refuses.
    """
    monkeypatch.setattr(surely, "CANCEL_LIMIT", PATIENCE)  # else it may be unknown, on a machine that is slow
    await change(database, REFUSE_BAD)
    chance = random.Random(7)  # noqa: S311 - the same storm each time, nothing to guard
    app = App(database)
    await app.jobs.counts()
    bad, told = set[UUID](), dict[UUID, Any]()

    async def one(impatient: bool) -> None:
        job = new_job(args='{"text": "bad"}' if chance.random() < 0.02 else '{"text": "good"}')
        if "bad" in job.args:
            bad.add(job.id)

        async def call() -> Sent:
            return await app.sender.send(job, None)

        try:
            told[job.id] = await (give_up(call, chance.uniform(0, LONGEST)) if impatient else call())
        except Exception as error:
            told[job.id] = error

    waves = 10  # so that some give up before their row is sent, some while, some after
    for _ in range(waves):
        await asyncio.gather(*(one(number % 3 == 0) for number in range(CALLERS // waves)))
    inside = set(await asked(database, "select array_agg(id) from jobqueue.job"))
    await app.close()
    later = set(await asked(database, "select array_agg(id) from jobqueue.job"))

    kinds = Counter(type(answer) for answer in told.values())
    assert set(kinds) <= {Sent, InvalidPayload, TimeoutError}, kinds
    assert later == inside, "jobs appeared after the last answer"
    assert {id for id, answer in told.items() if isinstance(answer, Sent)} <= inside
    assert not bad & inside
    refused = {id for id, answer in told.items() if isinstance(answer, InvalidPayload)}
    assert refused <= bad
    assert all(isinstance(told[id], InvalidPayload | TimeoutError) for id in bad)
    assert kinds[Sent] >= CALLERS // 2, "the patient are served"
    assert kinds[TimeoutError] > CALLERS // 20, "nobody gave up: this was no storm"
