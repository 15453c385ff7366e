"""Compiled files: without them each test process, and each command it starts, compiles all of ours anew."""

import compileall
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FOLDERS = ("jobqueue", "examples", "tests/support")


def keep_compiled() -> None:
    """Write compiled files even if PYTHONDONTWRITEBYTECODE is set: git ignores them, `make clean` removes them."""
    sys.dont_write_bytecode = False


def compile_all() -> None:
    """Compile what has changed, before processes start that read it but would not write it."""
    for folder in FOLDERS:
        compileall.compile_dir(ROOT / folder, quiet=2)


def import_share(config: pytest.Config) -> None:
    """In one of several test processes: import its share of the tests before all others.

    A file of tests that has changed is compiled by pytest, which rewrites its asserts. Each process would do that for
    all of them (in a new checkout 4 of 10 seconds), since all come to the same file at the same time.
    """
    workerinput: dict[str, object] | None = getattr(config, "workerinput", None)
    if workerinput is None:
        return
    number, count = int(str(workerinput["workerid"]).removeprefix("gw")), int(str(workerinput["workercount"]))
    asked = [ROOT / argument.partition("::")[0] for argument in config.args]
    files = {file for path in asked for file in (path.rglob("test_*.py") if path.is_dir() else [path])}
    for file in sorted(files)[number % count :: count]:
        with suppress(Exception, pytest.skip.Exception):  # it is imported again where that is told
            import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))
