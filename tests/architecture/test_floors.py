"""A room imports only from floors below it; pyproject.toml has the plan."""

import re
import subprocess
import sys
from pathlib import Path

from tests.architecture.sources import ROOT

LINT = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"


def lint_imports(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LINT, "--no-cache", "--no-logo", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_import_goes_downhill() -> None:
    """All import contracts of pyproject.toml are kept. (S1-24)"""
    answer = lint_imports()

    assert 0 == answer.returncode, answer.stdout + answer.stderr
    kept = re.search(r"(\d+) kept, 0 broken", answer.stdout)
    assert kept is not None, answer.stdout
    assert int(kept[1]) >= 5


def test_an_import_that_goes_uphill_is_reported(tmp_path: Path) -> None:
    """The plan is no decoration: an upward import, hidden behind TYPE_CHECKING, and a room not on it are found."""
    write_rooms_that_break_everything(tmp_path)
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())

    answer = lint_imports(cwd=tmp_path)

    assert 1 == answer.returncode, answer.stdout + answer.stderr
    for found in (
        "jobqueue.store.jobs -> jobqueue.app",
        "attic",
        "jobqueue.worker.claiming -> asyncpg",
        "jobqueue.worker.claiming -> rich",
        "jobqueue.worker.claiming -> uvicorn",
        "jobqueue.base.job -> asyncio",
        "0 kept, 5 broken",
    ):
        assert found in answer.stdout


def write_rooms_that_break_everything(folder: Path) -> None:
    rooms = ("base", "store", "tasks", "worker", "web", "cli", "attic")
    for room in rooms:
        (folder / "jobqueue" / room).mkdir(parents=True)
        (folder / "jobqueue" / room / "__init__.py").touch()
    (folder / "jobqueue" / "__init__.py").touch()
    (folder / "jobqueue" / "app.py").touch()
    (folder / "jobqueue" / "store" / "jobs.py").write_text(
        "from typing import TYPE_CHECKING\nimport asyncpg\nif TYPE_CHECKING:\n    import jobqueue.app\n"
    )
    (folder / "jobqueue" / "worker" / "claiming.py").write_text(
        "import asyncpg\nimport rich\nimport typer\nimport prometheus_client\nimport starlette\nimport uvicorn\n"
    )
    (folder / "jobqueue" / "base" / "job.py").write_text("import asyncio\n")
