"""docs/phases.md: its Python blocks are one program that runs, its SQL and its command do what they say."""

import ast
import inspect
import re
import shlex
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from jobqueue import App, JobState
from tests.examples.programs import ROOT
from tests.support.jobs.working import asked, reached
from tests.support.patience import PATIENCE
from tests.support.programs.processes import command_line

PAGE = (ROOT / "docs" / "phases.md").read_text(encoding="utf-8")


ID = r"[0-9a-f]{8}-[0-9a-f-]{27}"


def blocks(language: str) -> list[str]:
    """The code blocks of the page in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


async def execute(block: str, names: dict[str, Any]) -> None:
    """Run a block of Python as if it stood in an async function whose names are kept."""
    code = compile(block, "docs/phases.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    running = eval(code, names)  # noqa: S307 - the page is ours
    if inspect.iscoroutine(running):
        await running


async def asleep_no_more(app: App, job: Any, dsn: str) -> None:
    """Let its sleep be over."""
    await reached(app, job, JobState.SCHEDULED)
    await asked(
        dsn, "update jobqueue.phase set wake_at = now() where job_id = $1 and kind = 'sleep' returning 1", job.id
    )
    await app.jobs.reschedule(job.id, delay=0)


async def test_the_page_runs(database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The first block is a job from its defer to its result; each of the others runs behind it, by its names."""
    monkeypatch.setenv("JOBQUEUE_DSN", database)
    await asked(database, "create table reservation (id serial, order_id int)")
    first, *others = blocks("python")
    async with asyncpg.create_pool(database, min_size=0) as pool:
        names: dict[str, Any] = {"__name__": "page", "pool": pool}
        await execute(first, names)
        app, job = names["app"], names["job"]
        async with app:
            async with app.worker():
                await asleep_no_more(app, job, database)
                assert "receipt for 1200, parcel 7, approved by ada" == await job.result(timeout=PATIENCE)
            for block in others:
                await execute(block, names)
            assert {"note": 2} == await app.jobs.unread_signals(job.id)
            read, refund = await names["read"].defer(3), await names["refund"].defer(5)
            await app.run_until_idle()
            assert (3, "receipt for -5") == (await read.result(), await refund.result())
            assert "said" in names

    (sql,), (command,) = blocks("sql"), blocks("console")
    assert "done" == await asked(database, re.sub(ID, str(job.id), sql))
    line, _, output = command.partition("\n")
    with command_line(tmp_path) as cli:
        answer = await cli.run(*shlex.split(re.sub(ID, str(job.id), line))[4:-1], "--dsn", database)
    assert (0, output) == (answer.code, answer.out)
    assert 4 == await asked(database, "select count(*) from jobqueue.signal where job_id = $1", job.id)
