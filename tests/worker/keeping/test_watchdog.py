"""A task that blocks the event loop is named while it does so: nothing on the loop itself could."""

import logging
import re

import pytest

from tests.support.jobs.beating import block
from tests.support.jobs.working import end_of, new_app
from tests.support.patience import scaled, stretched
from tests.support.waiting import wait_until

MARKER = "marker-7f3a9"
UNIT = stretched(0.5)
"""Seconds after which a blocked loop is told of, where a test sets it."""


def said(text: str) -> list[dict[str, str]]:
    """The lines of the watchdog, as the facts in them."""
    lines = [line for line in text.splitlines() if "event='loop.blocked'" in line]
    return [dict(re.findall(r"(\w+)=(None|'[^']*'|[\d.]+)", line)) for line in lines]


def blocks_the_loop(secret: str, seconds: float) -> None:
    block(seconds)


async def test_the_task_that_blocks_is_named(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """S3-14, Reliability B8: after a second without a turn the log has task, job and place, and no argument."""
    app = new_app(database)
    lags: list[float] = []

    @app.task
    async def slow(secret: str) -> None:
        blocks_the_loop(secret, 1.3)

    async with app, app.worker() as worker:
        handle = await slow.defer(MARKER)

        def lag() -> bool:
            lags.append(worker.snapshot().lag)
            return max(lags) > 1

        await wait_until(lag, "the lag is told")
        await wait_until(lambda: worker.snapshot().lag < 0.5, "it turns again")
        await end_of(app, handle)

    (line,) = [line for line in said(caplog.text) if line["task"] != "None"]
    assert ("1.0", f"'{handle.id}'", f"'{handle.task}'") == (line["seconds"], line["job_id"], line["task"])
    assert "blocks_the_loop" in line["stack"]
    assert "test_watchdog.py" in line["stack"]
    assert MARKER not in caplog.text
    assert 1 < max(lags) < scaled(3)


async def test_it_is_said_again_after_twice_the_time(
    database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A loop that stays blocked is told of after 1, 2, 4, ... times the limit, and each time anew."""
    monkeypatch.setattr("jobqueue.worker.keeping.watchdog._BLOCKED", UNIT)
    monkeypatch.setattr("jobqueue.worker.keeping.watchdog._LOOK", 0.02)
    app = new_app(database)

    @app.task
    async def slow(seconds: float) -> None:
        block(seconds)

    async with app, app.worker():
        for units in (5.6, 1.4):
            await end_of(app, await slow.defer(units * UNIT))
    told = [line for line in said(caplog.text) if line["task"] != "None"]
    assert [1, 2, 4, 1] == [round(float(line["seconds"]) / UNIT) for line in told]


async def test_code_beside_the_tasks_is_told_without_one(
    database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever blocks the loop but is no job is told by its place alone, also while jobs wait beside it."""
    monkeypatch.setattr("jobqueue.worker.keeping.watchdog._BLOCKED", UNIT)
    monkeypatch.setattr("jobqueue.worker.keeping.watchdog._LOOK", 0.02)
    app = new_app(database)

    async with app, app.worker() as worker:
        await wait_until(lambda: worker.snapshot().listening, "it works")
        blocks_the_loop("", 1.4 * UNIT)
    (line,) = [line for line in said(caplog.text) if "blocks_the_loop" in line["stack"]]
    assert ("None", "None") == (line["job_id"], line["task"])
    assert "blocks_the_loop" in line["stack"]


async def test_a_healthy_loop_is_not_mentioned(
    database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Under load, with every slot busy, the watchdog has nothing to say and the lag is small."""
    monkeypatch.setattr("jobqueue.worker.keeping.watchdog._BLOCKED", scaled(1.0))
    caplog.set_level(logging.DEBUG, "jobqueue")
    app = new_app(database)

    @app.task
    async def quick() -> None: ...

    async with app, app.worker() as worker:
        await app.defer_many([quick.job() for _ in range(3_000)])
        await end_of(app, await quick.defer())
        assert worker.snapshot().lag < scaled(0.5)
    assert [] == said(caplog.text)


async def test_a_log_that_breaks_is_no_hang(
    database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Reliability B9: an error while the watchdog tells of a block neither ends its watch nor counts as a hang."""
    monkeypatch.setattr("jobqueue.worker.keeping.watchdog._BLOCKED", 0.1)
    monkeypatch.setattr("jobqueue.worker.keeping.watchdog._LOOK", 0.02)
    broken: list[int] = []

    def fail(ident: int) -> str:
        broken.append(ident)
        raise OSError("no log")

    app = new_app(database)

    @app.task
    async def slow() -> None:
        block(0.25)

    async with app, app.worker() as worker:
        with monkeypatch.context() as inner:
            inner.setattr("jobqueue.worker.keeping.watchdog.stack_of_thread", fail)
            await end_of(app, await slow.defer())
            await wait_until(lambda: worker.snapshot().lag < 0.1, "it turns again")
        assert [] == said(caplog.text)
        await end_of(app, await slow.defer())
        await wait_until(lambda: said(caplog.text), "the watch goes on")
    assert broken
