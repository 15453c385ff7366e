"""`app.on`: functions that are told of events, on the app and in workers."""

import asyncio
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from jobqueue.base.errors import ConfigurationError, InvalidOption, NotMigrated
from jobqueue.base.flows.event import Event
from jobqueue.events import listening
from tests.support.jobs.store import connect
from tests.support.jobs.told import cancelled, jobs, lock_of_the_log, taken
from tests.support.jobs.working import new_app
from tests.support.patience import PATIENCE
from tests.support.postgres.backends import LISTENS, becomes
from tests.support.programs.processes import command_line
from tests.support.waiting import wait_until

SHOP = """
import os
from jobqueue import App

app = App(os.environ["SHOP_DSN"])

@app.on("job.cancelled", task="mail")
def hear(event):
    with open(f"heard-{os.getpid()}", "a") as file:
        file.write(f"{event.job_id}\\n")

@app.task
async def nothing() -> None: ...
"""


async def test_functions_of_both_kinds_are_told(database: str) -> None:
    """S2-10: a `def` runs in a thread, an `async def` on the loop; each hears what it asked for, once, in order."""
    app = new_app(database, name="shop")
    on_loop: list[Event] = []
    in_thread: list[tuple[Event, bool]] = []

    @app.on("job.cancelled")
    async def hear(event: Event) -> None:
        on_loop.append(event)

    def blocks(event: Event) -> None:
        in_thread.append((event, threading.current_thread() is threading.main_thread()))

    listener = app.on(["job.cancelled", "job.deleted"], blocks, task="mail", queue="slow", origin="till")
    async with app:
        await cancelled(app)
        async with app.listening(), app.events() as events:
            made = await cancelled(app, 3)
            made += await cancelled(app, 2, task="mail", queue="slow", origin="till")
            made += await cancelled(app, 1, task="mail", queue="slow")
            told = await taken(events, 6)
            await wait_until(lambda: len(on_loop) == 6 and len(in_thread) == 2, "both have heard")
        await cancelled(app)
    assert told == on_loop, "from the block's beginning to its end"
    assert [(event, False) for event in told[3:5]] == in_thread
    assert sorted(made) == sorted(jobs(told))
    listener.stop()
    listener.stop()
    assert hear.__name__ == "hear", "a decorator gives the function back"


async def test_one_that_raises_harms_nobody(database: str) -> None:
    """What it raises is logged by its class, never its text; itself and all others hear the next event."""
    app = new_app(database)
    heard: list[str] = []

    @app.on("job.cancelled")
    async def raises(event: Event) -> None:
        heard.append("async")
        raise ValueError("marker-5d1c")

    @app.on("job.cancelled")
    def raises_too(event: Event) -> None:
        heard.append("def")
        raise KeyError("marker-5d1c")

    @app.on("job.cancelled")
    async def awaits_what_is_cancelled(event: Event) -> None:
        heard.append("cancelled")
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    with capture_logs() as lines:
        async with app, app.listening():
            await cancelled(app, 2)
            await wait_until(lambda: Counter(heard) == {"async": 2, "def": 2, "cancelled": 2}, "all hear both")
    failed = [line for line in lines if line["event"] == "listener.failed"]
    assert {"ValueError": 2, "KeyError": 2, "CancelledError": 2} == Counter(line["error"] for line in failed)
    assert "marker-5d1c" not in str(lines)
    assert {"job.cancelled"} == {line["event_type"] for line in failed}


async def test_one_that_hangs_is_on_its_own(database: str) -> None:
    """One that never returns keeps neither others from hearing, nor the end of the block from coming."""
    app = new_app(database)
    heard: list[Event] = []
    let_go, stuck = threading.Event(), []

    @app.on("job.cancelled")
    async def hangs(event: Event) -> None:
        stuck.append("async")
        await asyncio.Event().wait()

    @app.on("job.cancelled")
    def hangs_too(event: Event) -> None:
        stuck.append("def")
        let_go.wait()

    @app.on("job.cancelled")
    async def hear(event: Event) -> None:
        heard.append(event)

    async with app:
        async with app.listening():
            await cancelled(app, 3)
            await cancelled(app, 2)
            await wait_until(lambda: len(heard) == 5 and len(stuck) == 2, "the other hears all, and both hang")
        await becomes(database, 0, LISTENS)
        let_go.set()
    assert ["async", "def"] == sorted(stuck), "each with the first that it was told"


async def test_they_come_and_go_while_it_listens(database: str) -> None:
    """Added inside the block, by this loop or another thread, a function hears at once; stopped, it hears no more."""
    app = new_app(database)
    heard: dict[str, list[Event]] = {"here": [], "thread": [], "always": []}

    async with app, app.listening():
        always = app.on("job.cancelled", heard["always"].append)
        here = app.on("job.cancelled", heard["here"].append)
        there = await asyncio.to_thread(app.on, "job.cancelled", heard["thread"].append)

        async def all_hear() -> bool:
            await cancelled(app)
            return all(heard.values())

        await wait_until(all_hear, "all three hear")
        here.stop()
        await asyncio.to_thread(there.stop)
        before = len(heard["here"]), len(heard["thread"])
        (last,) = await cancelled(app)
        await wait_until(lambda: last in jobs(heard["always"]), "the last is told")
        assert before == (len(heard["here"]), len(heard["thread"]))
        assert last not in jobs(heard["here"]) + jobs(heard["thread"])
        always.stop()
        await becomes(database, 0, LISTENS)


async def test_stopped_before_it_has_begun(database: str) -> None:
    """One that is stopped in the very moment of its start does not keep the block from beginning."""
    app = new_app(database)
    stopped = app.on("job.dead", print)
    async with app:
        asyncio.get_running_loop().call_soon(stopped.stop)
        async with asyncio.timeout(PATIENCE), app.listening():
            assert [] == app._hub.listeners._all


async def test_added_too_late(database: str) -> None:
    """One that another thread adds in the very moment of the block's end starts nothing that nobody would end."""
    app = new_app(database)
    app.on("job.dead", print)
    before = asyncio.all_tasks()
    async with app:
        async with app.listening():
            adding = threading.Thread(target=app.on, args=("job.dead", print))
            adding.start()
            adding.join()  # the loop stands still: what the thread has asked of it comes after the block's end
        await wait_until(lambda: asyncio.all_tasks() == before, "no task is left")


async def test_a_worker_tells_them(database: str) -> None:
    """Inside a worker they are told without `listening`; nested blocks and workers of one loop tell each once."""
    app = new_app(database)
    heard: list[Event] = []
    app.on("job.completed", heard.append)

    @app.task
    async def work() -> None: ...

    async with app, app.worker(), app.listening():
        handles = [await work.defer() for _ in range(3)]
        await wait_until(lambda: len(heard) >= 3, "it hears")
        async with app.events("0", types="job.completed") as events:
            await taken(events, 3)
        assert sorted(handle.id for handle in handles) == sorted(jobs(heard))
    await becomes(database, 0, LISTENS)


async def test_each_process_hears_each_once(database: str, tmp_path: Path) -> None:
    """S2-10: two worker processes beside the one that cancels: each of them hears every event, once."""
    app = new_app(database)
    with command_line(tmp_path) as cli:
        cli.module("shop", SHOP)
        workers = [cli.start("worker", "shop:app", SHOP_DSN=database) for _ in range(2)]
        for worker in workers:
            await worker.says("worker.started")
        async with app:
            made = [id for count in (1, 3, 2) for id in await cancelled(app, count, task="mail")]
            await cancelled(app)

            def heard() -> list[list[str]]:
                files = [tmp_path / f"heard-{worker.pid}" for worker in workers]
                return [sorted(file.read_text().split()) if file.exists() else [] for file in files]

            expected = 2 * [sorted(map(str, made))]
            await wait_until(lambda: heard() == expected, "both processes have heard all")
        for worker in workers:
            worker.signal(15)
            assert 0 == await worker.ends()
        assert expected == heard()


async def test_a_log_that_cannot_be_read_now_keeps_nobody_from_starting(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a writer of the log does not end, a block begins all the same, and hears what comes later."""
    monkeypatch.setattr(listening, "_BEGIN_LIMIT", 0.05)
    app = new_app(database)
    heard: list[Event] = []
    app.on("job.cancelled", heard.append)
    lock = await lock_of_the_log(database)
    async with app, connect(database) as writer:
        writing = writer.transaction()
        await writing.start()
        await writer.execute(lock)
        async with asyncio.timeout(PATIENCE), app.listening():
            await writing.rollback()

            async def hears() -> bool:
                await cancelled(app)
                return bool(heard)

            await wait_until(hears, "it hears")


async def test_without_the_schema_a_block_says_so(empty_database: str) -> None:
    """What forbids to listen is raised where the block begins, and not swallowed in a task."""
    app = new_app(empty_database)
    app.on("job.dead", print)
    async with app:
        with pytest.raises(NotMigrated):
            async with app.listening():
                pass


def test_what_cannot_be_told_is_refused() -> None:
    """A function without an argument, and a type that there is not, are refused where they are registered."""
    app = new_app("postgresql://nowhere")

    def no_argument() -> None: ...

    refused: Any = no_argument
    wrong: Any = "job.daed"
    with pytest.raises(ConfigurationError, match="must be a function of one argument, the Event"):
        app.on("job.dead", refused)
    with pytest.raises(InvalidOption, match=r"did you mean job\.dead\?"):
        app.on(wrong, print)
