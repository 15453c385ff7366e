"""docs/limits.md: its Python blocks are one program that runs, its SQL and its command do what they say."""

import ast
import inspect
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.examples.programs import ROOT
from tests.support.jobs.working import asked
from tests.support.patience import PATIENCE
from tests.support.programs.processes import command_line

PAGE = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The code blocks of the page in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


async def execute(block: str, names: dict[str, Any]) -> None:
    """Run a block of Python as if it stood in an async function whose names are kept."""
    code = compile(block, "docs/limits.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    running = eval(code, names)  # noqa: S307 - the page is ours
    if inspect.iscoroutine(running):
        await running


async def test_the_page_runs(
    database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first block defers a job, the second changes limits while workers run; SQL and command line do the same."""
    monkeypatch.setenv("JOBQUEUE_DSN", database)
    first, second = blocks("python")
    names: dict[str, Any] = {"__name__": "page"}
    await execute(first, names)
    app, job = names["app"], names["job"]
    async with app:
        async with app.worker():
            assert "sent to ada@example.org" == await job.result(timeout=PATIENCE)
            others = [
                await names["send_report"].defer("a"),
                await names["reindex"].defer(),
                await names["book"].defer(1, 2),
            ]
            assert ["reported to a", None, 2] == [await each.result(timeout=PATIENCE) for each in others]
            (sql,) = blocks("sql")
            id = await asked(database, sql)
            assert "sent to b@c.de" == await names["send_mail"].handle(id).result(timeout=PATIENCE)
        assert ("send_mail\nacme", "smtp", "~fair:default\nacme") == (await app.jobs.get(job.id)).gates
        await execute(second, names)
        assert {"book", "queue/reports", "reindex", "send_mail", "smtp"} == {
            line.split()[0] for line in capsys.readouterr().out.splitlines()
        }
        assert ["acme"] == [line.key for line in names["lines"]] or [] == names["lines"]

    (command,) = blocks("console")
    line, _, output = command.partition("\n")
    with command_line(tmp_path) as cli:
        answer = await cli.run(*shlex.split(line)[4:-1], "--dsn", database)
    assert (0, output) == (answer.code, answer.out)
