"""Waits that nobody would notice: jobs that wait for jobs on every slot, and queues that nobody serves."""

import asyncio
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from jobqueue.store.looking.overview import queue_stats
from jobqueue.store.workers import unserved_queues
from jobqueue.worker.keeping.unserved import Unserved
from tests.support.jobs.store import open_database
from tests.support.jobs.working import counted, new_app
from tests.support.patience import PATIENCE
from tests.support.postgres.backends import change
from tests.support.waiting import wait_until


def told(logs: list[Any], event: str) -> list[Any]:
    return [line for line in logs if line["event"] == event]


@pytest.mark.parametrize("of", ["jobs", "bundles"])
async def test_parents_on_all_slots_that_await_children_are_told(database: str, of: str) -> None:
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
