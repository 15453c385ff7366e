"""Hundreds of browsers: one listening connection, each event to each of them, once and in order."""

import asyncio
import os
import re
from pathlib import Path

import pytest

from tests.examples.programs import running
from tests.support.jobs.working import new_app
from tests.support.patience import PATIENCE
from tests.support.postgres.backends import LISTENS, becomes
from tests.support.programs.many_clients import Cost, at_a_rate, clients
from tests.support.waiting import wait_until

LISTENS_TO_LOG = f"{LISTENS} and query ilike '%jobqueue_log%'"
LONG = bool(os.environ.get("JOBQUEUE_LONG"))
CLIENTS, EVENTS, RATE = (300, 900, 30.0) if LONG else (30, 60, 100.0)

SITE = """
from jobqueue import App
from jobqueue.web import events

site = events(App(), authorize=lambda scope, choice: True)
"""


@pytest.mark.timeout(300)
async def test_all_of_them_hear_all(database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """S2-42: thirty clients, three hundred in the long run, which prints how late events come and what that costs."""
    app = new_app(database)

    @app.task
    async def work() -> None: ...

    (tmp_path / "shop.py").write_text(SITE)
    command = ("-m", "uvicorn", "shop:site", "--port", "0", "--no-access-log")
    async with app, app.worker(), running(*command, dsn=database, log=tmp_path / "log", cwd=tmp_path) as server:
        await server.says("Uvicorn running on")
        address = re.search(r"http://127\.0\.0\.1:(\d+)", server.said)
        assert address is not None
        async with clients(int(address[1]), "/?types=job.completed", CLIENTS) as many:
            await becomes(database, 1, LISTENS_TO_LOG)
            cost = Cost(server.process.pid)
            await asyncio.wait_for(at_a_rate(work.defer, EVENTS, RATE), PATIENCE + 2 * EVENTS / RATE)
            await wait_until(lambda: all(len(client.heard) >= EVENTS for client in many), "all have heard all")
            with capsys.disabled():
                cost.tell(many, aloud=LONG)
        await server.stop()
    expected = sorted(many[0].heard, key=lambda id: int(id.partition(".")[0]))
    assert EVENTS == len(set(expected))
    assert [] == [client.heard for client in many if client.heard != expected]
    assert "Traceback" not in server.said
