"""Waits that nobody would notice: jobs that wait for jobs on every slot, and queues that nobody serves."""

import asyncio
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from jobqueue import JobContext
from jobqueue.base.looking.stuck import WAITS
from jobqueue.store.looking.overview import StuckJob, queue_stats, stuck_now
from jobqueue.store.workers import unserved_queues
from jobqueue.worker.keeping.unserved import Unserved
from tests.support.jobs.gate import Gate
from tests.support.jobs.store import open_database
from tests.support.jobs.working import counted, new_app
from tests.support.patience import PATIENCE
from tests.support.postgres.backends import change
from tests.support.waiting import wait_until


def told(logs: list[Any], event: str) -> list[Any]:
    return [line for line in logs if line["event"] == event]


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A standstill is told after a third of a second."""
    monkeypatch.setattr("jobqueue.worker.slots.starving._LOOK", 0.05)


@pytest.mark.parametrize("of", ["jobs", "bundles"])
async def test_parents_on_all_slots_that_await_children_are_told(database: str, soon: None, of: str) -> None:
    """S4-39: once every slot has a job that waits for one which wants a slot, the log says so, once; they still end."""
    async with new_app(database) as app:

        @app.task
        async def child() -> int:
            return 1

        @app.task
        async def parent() -> int:
            if of == "jobs":
                return await (await child.defer()).result()
            async with app.bundle("children") as b:
                b.add(child.job())
            return (await app.bundles.wait(b.id)).completed

        handles = [await parent.defer() for _ in range(2)]
        with capture_logs() as logs:
            async with app.worker(concurrency=2) as work:
                await wait_until(lambda: told(logs, "worker.starved"), "the worker says that it stands still")
                assert 2 == work.snapshot().awaiting
                async with app.worker(concurrency=1):
                    assert [1, 1] == await asyncio.gather(*(handle.result(timeout=PATIENCE) for handle in handles))
                await wait_until(lambda: work.snapshot().awaiting == 0, "nobody waits any more")
        (line,) = told(logs, "worker.starved")
    assert ("warning", 2, [parent.name], [child.name]) == (
        line["log_level"], line["slots"], line["tasks"], line["awaited"],
    )  # fmt: skip


async def test_a_standstill_is_shown_for_as_long_as_it_lasts(database: str, soon: None) -> None:
    """One of the parents stands for all; gone once what they wait for runs elsewhere, shown again when it waits again;
    and told in the log once."""
    gates = [Gate(), Gate()]
    async with new_app(database, lease=60.0, beat=0.2) as app, open_database(database) as db:

        @app.task(queue="children", retry=lambda job, error: 0.0)
        async def child(ctx: JobContext, secret: str) -> None:
            await gates[ctx.job.attempt - 1].step()
            if ctx.job.attempt == 1:
                raise ValueError(secret)

        @app.task
        async def parent(secret: str) -> None:
            await (await child.defer(secret)).result()

        async def shown() -> bool:
            seen[:] = await stuck_now(db)
            return bool(seen)

        async def gone() -> bool:
            return not await shown()

        seen: list[StuckJob] = []
        handle = await parent.defer("hunter2-secret")
        with capture_logs() as logs:
            async with app.worker(concurrency=1) as work:
                await wait_until(shown, "it is shown")
                (stuck,) = seen
                async with app.worker(["children"], concurrency=1):
                    await wait_until(gone, "the child runs elsewhere")
                    assert 1 == work.snapshot().awaiting
                    await app.queues.pause("children")
                    gates[0].open.set()
                    await wait_until(shown, "the child waits again")
                    await app.queues.resume("children")
                    gates[1].open.set()
                    await handle.result(timeout=PATIENCE)
                    await wait_until(gone, "nobody waits")
    assert (handle.id, "parent", WAITS, "") == (stuck.job_id, stuck.task, stuck.how, stuck.stack)
    assert 0.2 < stuck.seconds < PATIENCE
    assert work.supervisor.id == stuck.worker_id
    assert 1 == len(told(logs, "worker.starved"))


@pytest.mark.parametrize(
    ("queues", "served"),
    [
        (["*"], {"mail", "bulk"}),
        (["*", "-bulk"], {"mail"}),
        (["mail:5"], {"mail"}),
        (["bulk", "mail"], {"mail", "bulk"}),
        (["other"], set()),
    ],
)
async def test_whether_a_queue_is_served(database: str, queues: list[str], served: set[str]) -> None:
    """S4-97: by what living workers were told; dead and leaving ones serve nothing."""
    async with new_app(database) as app, open_database(database) as db:

        @app.task
        async def note() -> None: ...

        for queue in ("mail", "bulk"):
            await note.options(queue=queue).defer()
        await change(
            database,
            "insert into jobqueue.worker (id, app, host, pid, version, queues, concurrency, alive_until) select"
            f" gen_random_uuid(), 'app', 'host', 1, '0', array{queues!r}, 1, now() + interval '1 hour'",
        )
        assert served == {queue.queue for queue in await queue_stats(db) if queue.served}
        assert {"mail", "bulk"} - served == set(await unserved_queues(db, -1.0))
        assert {} == await unserved_queues(db, 60.0)
        await change(database, "update jobqueue.worker set stopped_at = now()")
        assert not any(queue.served for queue in await queue_stats(db))
        await app.queues.pause("mail")
        assert {"bulk"} == set(await unserved_queues(db, -1.0))


async def test_a_queue_that_nobody_serves_is_told_once(database: str) -> None:
    """S4-39, S4-97: in the log by one of the workers, once, and again when it was served in between."""
    async with new_app(database) as app, open_database(database) as db:

        @app.task
        async def note() -> None: ...

        await note.options(queue="forgotten").defer()
        with capture_logs() as logs:
            async with anyio.create_task_group() as group:
                for _ in range(2):
                    group.start_soon(Unserved(db, interval=0.05, patience=0.0).run)
                await wait_until(lambda: told(logs, "queue.unserved"), "it is told")
                async with app.worker(["forgotten"]):
                    await wait_until(lambda: counted_none(database), "it was run")
                group.cancel_scope.cancel()
        lines = told(logs, "queue.unserved")
        assert {("warning", "forgotten")} == {(line["log_level"], line["queue"]) for line in lines}
        assert len(lines) <= 2, "each of the two at most once"


async def counted_none(dsn: str) -> bool:
    return await counted(dsn) == 0
