"""A room imports only from floors below it; pyproject.toml has the plan."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.architecture.sources import PACKAGE, ROOT

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


UPHILL = {
    "store/steering.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import jobqueue.app\n",
    "store/schema/statements.py": "import jobqueue.store.intake\n",
    "tasks/context.py": "import jobqueue.tasks.task\n",
    "worker/keeping/holds.py": "import jobqueue.worker.supervisor\n",
    "worker/claiming/claimer.py": "import asyncpg\nimport httpcore\nimport rich\nimport uvicorn\n",
    "cli/terminal/output.py": "import jobqueue.cli.main\n",
    "bench/figures.py": "import jobqueue.cli.main\nimport jobqueue.web.health\nimport typer\n",
    "web/health.py": "import jobqueue.bench.figures\n",
    "web/dashboard/access/loopback.py": "import jobqueue.web.dashboard.site\n",
    "cron/planning.py": "import cronsim\nimport jobqueue.cron.firing\n",
    "webhooks/signing.py": "import jobqueue.webhooks.relay\n",
    "testing/ignoring.py": "import pytest\nimport jobqueue.testing.kit\n",
    "base/job.py": "import asyncio\n",
    "attic/__init__.py": "",
}
"""What is added to files of the package to break every contract; a room that is on no plan."""


def test_an_import_that_goes_uphill_is_reported(tmp_path: Path) -> None:
    """The plan is no decoration: an upward import, hidden behind TYPE_CHECKING, and a room not on it are found."""
    shutil.copytree(PACKAGE, tmp_path / "jobqueue", ignore=shutil.ignore_patterns("__pycache__"))
    for name, lines in UPHILL.items():
        file = tmp_path / "jobqueue" / name
        file.parent.mkdir(exist_ok=True)
        with file.open("a") as end:
            end.write(lines)
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())

    answer = lint_imports(cwd=tmp_path)

    assert 1 == answer.returncode, answer.stdout + answer.stderr
    for found in (
        "jobqueue.store.steering -> jobqueue.app",
        "jobqueue.store.schema.statements -> jobqueue.store.intake",
        "jobqueue.tasks.context -> jobqueue.tasks.task",
        "jobqueue.worker.keeping.holds -> jobqueue.worker.supervisor",
        "jobqueue.worker.claiming.claimer -> asyncpg",
        "jobqueue.worker.claiming.claimer -> httpcore",
        "jobqueue.worker.claiming.claimer -> rich",
        "jobqueue.worker.claiming.claimer -> uvicorn",
        "jobqueue.cli.terminal.output -> jobqueue.cli.main",
        "jobqueue.bench.figures -> jobqueue.cli.main",
        "jobqueue.bench.figures -> jobqueue.web.health",
        "jobqueue.bench.figures -> typer",
        "jobqueue.web.health -> jobqueue.bench.figures",
        "jobqueue.web.dashboard.access.loopback -> jobqueue.web.dashboard.site",
        "jobqueue.cron.planning -> cronsim",
        "jobqueue.cron.planning -> jobqueue.cron.firing",
        "jobqueue.webhooks.signing -> jobqueue.webhooks.relay",
        "jobqueue.testing.ignoring -> pytest",
        "jobqueue.testing.ignoring -> jobqueue.testing.kit",
        "jobqueue.base.job -> asyncio",
        "attic",
        "0 kept, 16 broken",
    ):
        assert found in answer.stdout, found
