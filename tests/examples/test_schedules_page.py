"""docs/schedules.md: its Python blocks are one program that runs, its commands do what they say."""

import ast
import inspect
import re
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jobqueue import App
from tests.examples.programs import ROOT
from tests.support.programs.processes import CommandLine, command_line
from tests.support.waiting import wait_until

PAGE = (ROOT / "docs" / "schedules.md").read_text(encoding="utf-8")


FIRED = datetime(2026, 3, 8, tzinfo=UTC)
"""Before that a planned time has its job from the page; at seven in the morning the worker may fire one of today."""


def blocks(language: str) -> list[str]:
    """The code blocks of the page in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


async def execute(block: str, names: dict[str, Any]) -> None:
    """Run a block of Python as if it stood in an async function whose names are kept."""
    code = compile(block, "docs/schedules.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    running = eval(code, names)  # noqa: S307 - the page is ours
    if inspect.iscoroutine(running):
        await running


async def declared(app: App) -> bool:
    """Whether a worker has stored what the code says."""
    return {"digest", "tidy often", "tidy thoroughly"} <= {each.name for each in await app.schedules.list()}


async def commands_run(cli: CommandLine, dsn: str) -> dict[str, str]:
    """Run the commands of the page; what each verb wrote."""
    (console,) = blocks("console")
    written: dict[str, str] = {}
    for line in console.splitlines():
        _, _, _, _, *words = shlex.split(line)
        answer = await cli.run(*[word for word in words if word != "shop:app"], "--dsn", dsn)
        assert 0 == answer.code, answer.err
        written[words[1]] = answer.out
    return written


async def test_the_page_runs(database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The first block puts a schedule; a worker stores those of the code; the other blocks and the commands follow."""
    monkeypatch.setenv("JOBQUEUE_DSN", database)
    first, *others = blocks("python")
    names: dict[str, Any] = {"__name__": "page"}
    await execute(first, names)
    app = names["app"]
    async with app:
        async with app.worker(["none"]):
            await wait_until(lambda: declared(app), "the schedules of the code are stored")
        for block in others:
            await execute(block, names)
        digests = [job.planned_at for job in await app.jobs.list(origin="schedule:digest")]
        with command_line(tmp_path) as cli:
            written = await commands_run(cli, database)
        last = [schedule.name for schedule in await app.schedules.list()]
        await app.run_until_idle()
        first_day = (await app.jobs.list(origin="schedule:digest"))[-1]
        result = (await app.jobs.get(first_day.id)).result

    assert [datetime(2026, 3, day, 6, tzinfo=UTC) for day in range(7, 0, -1)] == [
        at for at in digests if at and at < FIRED
    ]
    assert "the digest of 01 March 2026" == result
    assert (7, 0) == (names["done"].stored, names["done"].known)
    assert "stored 0 jobs; 7 planned times had theirs\n" == written["backfill"]
    assert "schedule remind-7 is deleted; jobs that it has stored stay\n" == written["delete"]
    assert ["digest", "tidy often", "tidy thoroughly"] == last
    assert 11 == len(written["next"].splitlines())
