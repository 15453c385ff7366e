"""Handlers that are stuck, as `queues list`, `top`, `info` and the dashboard tell of them."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

import pytest

from jobqueue import App
from jobqueue.base.looking.stuck import ASKED, BLOCKS, WAITS
from jobqueue.cli.info import show_info
from jobqueue.cli.place import Place
from jobqueue.cli.queues.look import show_queues
from jobqueue.cli.queues.stuck import stuck_document, stuck_lines
from jobqueue.cli.top import screen
from jobqueue.cli.top.screen import Wish, show_top
from jobqueue.store.connection.pool import Database
from jobqueue.store.looking.overview import StuckJob, stuck_now
from tests.support.jobs.store import open_database
from tests.support.jobs.working import new_app
from tests.support.patience import PATIENCE
from tests.support.waiting import wait_until
from tests.web.dashboard.visiting import visiting

ONE = StuckJob(UUID(int=1), "web-1 4711", UUID(int=7), "send", 80.0, BLOCKS, 'shop.py:7 send "hunter2"')


def of(number: int, **said: object) -> StuckJob:
    return replace(ONE, worker_id=UUID(int=number), **said)  # type: ignore[arg-type]


def test_each_worker_has_one_line() -> None:
    """What it says first, and how many more are stuck there."""
    stuck = [
        ONE,
        of(1, task="other"),
        of(2, how=ASKED, seconds=44.2),
        of(3, how=WAITS),
        of(4, task=None),
        of(5, how="?"),
    ]
    assert [
        "stuck: web-1 4711: send blocks the loop for 80 s (+1)",
        "stuck: web-1 4711: send goes on, was asked to end 44 s ago",
        "stuck: web-1 4711: send and all other slots wait for jobs, for 80 s",
        "stuck: web-1 4711: no job blocks the loop for 80 s",
        "stuck: web-1 4711: send does not come back for 80 s",
    ] == stuck_lines(stuck)
    assert [] == stuck_lines([])
    assert "stack" not in stuck_document(ONE)


@pytest.mark.parametrize("width", [80, 40, 200])
def test_long_names_leave_it_on_its_line(width: int) -> None:
    """Of many workers a few are told; of long names the end, on one line; in very few columns some of it stays."""
    long = [
        of(n, worker=f"{'host' * 20} {n}", task=f"shop\n{'task' * 40}.{n}", how=WAITS, seconds=7e9) for n in range(9)
    ]
    lines = stuck_lines(long, width)
    assert ("stuck: 4 more workers", 6) == (lines[-1], len(lines))
    assert width < 80 or max(map(len, lines)) <= width
    for n, line in enumerate(lines[:-1]):
        assert (True, True) == (f"{n}: …" in line, f"{n} and all other slots wait for jobs" in line)
        assert line.isprintable()
    short = stuck_lines([of(1, worker="w 1", task="t" * 200)], width)[0]
    assert short.startswith("stuck: w 1: …t") or width < 80, "what the short one leaves the other takes"


async def test_a_standstill_is_told_by_all_who_look(
    database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """S4-39: a parent on the only slot awaits a child; then it goes on, and nothing is told any more."""
    monkeypatch.setattr("jobqueue.worker.slots.starving._LOOK", 0.05)
    monkeypatch.setattr(screen, "_BETWEEN", 0.01)
    app = new_app(database, lease=60.0, beat=0.2)

    @app.task(queue="children")
    async def child(secret: str) -> None: ...

    @app.task
    async def parent(secret: str) -> None:
        await (await child.defer(secret)).result()

    async with app, open_database(database) as db:
        handle = await parent.defer("hunter2-secret")
        async with app.worker(concurrency=1) as work:
            await wait_until(lambda: _is_shown(db), "it is shown")
            told = await _all_told(app, database, capsys)
            seen = await _pages(app, work.supervisor.id, handle.id)
            async with app.worker(["children"], concurrency=1):
                await handle.result(timeout=PATIENCE)
                await wait_until(lambda: _is_gone(db), "it is gone")
            after = await _all_told(app, database, capsys)
            still = await _pages(app, work.supervisor.id, handle.id)
    for verb in ("queues", "top", "info"):
        (line,) = [line for line in told[verb].splitlines() if line.startswith("stuck: ")]
        assert ": parent and all other slots wait for jobs, for " in line
        assert len(line) <= 80
        assert "stuck" not in after[verb]
    for verb in ("top json", "info json"):
        (one,) = json.loads(told[verb])["stuck"]
        assert (str(handle.id), "parent", WAITS, False) == (one["job_id"], one["task"], one["how"], "stack" in one)
        assert [] == json.loads(after[verb])["stuck"]
    assert "waits on all slots of a worker" in seen["/"]
    assert "waits for other jobs, as all slots do" in seen["worker"]
    assert "start another worker" in seen["worker"]
    assert "1 stuck" in seen["/workers"]
    assert f"#stuck-{handle.id}" in seen["job"]
    assert not [path for path in still if "waits on all slots" in still[path] or "1 stuck" in still[path]]
    assert "as all slots do" not in still["worker"]
    assert "hunter2" not in "".join(told.values())


async def _is_shown(db: Database) -> bool:
    return bool(await stuck_now(db))


async def _is_gone(db: Database) -> bool:
    return not await _is_shown(db)


async def _all_told(app: App, dsn: str, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    place = Place(None, dsn, "jobqueue", app.settings)
    verbs: dict[str, Callable[[], object]] = {
        "queues": lambda: show_queues(place, False),
        "top": lambda: show_top(place, Wish(None, True, False)),
        "info": lambda: show_info(place, False),
        "top json": lambda: show_top(place, Wish(None, True, True)),
        "info json": lambda: show_info(place, True),
    }
    capsys.readouterr()
    told: dict[str, str] = {}
    for verb, show in verbs.items():
        await asyncio.to_thread(show)
        told[verb] = capsys.readouterr().out
    return told


async def _pages(app: App, worker: UUID, job: UUID) -> dict[str, str]:
    paths = {"/": "/", "/workers": "/workers", "worker": f"/workers/{worker}", "job": f"/jobs/{job}"}
    async with visiting(app) as client:
        return {name: (await client.get(path)).text for name, path in paths.items()}
