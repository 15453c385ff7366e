"""The README: each block is a part of an example or was really said, and what it names exists."""

import re
import shutil
import sys
import textwrap
import tomllib
from dataclasses import dataclass
from pathlib import Path

from tests.examples.programs import ROOT, processes_with, run, running
from tests.support.waiting import wait_until

README = (ROOT / "README.md").read_text()
QUICKSTART = ROOT / "examples" / "quickstart.py"
LINE_LIMIT = 185
PROMISES = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")

# What differs from run to run, with what it is compared as.
VARYING = (
    (r"postgresql://\S+", "DSN"),
    (r"/\S*/\.jobqueue", "FOLDER"),
    (r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", "ID"),
    (r"^jobqueue \d+\.\d+\S*,", "jobqueue VERSION,"),
    (r"\b\d{4}_(pre|post)_\w+", "MIGRATION"),
)


@dataclass(frozen=True)
class Command:
    """A command of the README and what it is said to print."""

    line: str
    output: tuple[str, ...]


def blocks(language: str) -> list[str]:
    """The code blocks of the README in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands() -> list[Command]:
    """All commands of the README's console blocks."""
    parts = [part for block in blocks("console") for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]
    return [Command(lines[0], tuple(lines[1:])) for lines in map(str.splitlines, parts)]


def comparable(line: str) -> str:
    """A line of output without what differs from run to run."""
    for pattern, name in VARYING:
        line = re.sub(pattern, name, line)
    return line


def test_there_are_no_blocks_that_nobody_runs() -> None:
    """S1-25: the README has blocks of Python and of commands and one diagram; the commands are the two below."""
    fences = re.findall(r"^```(.*)$", README, re.MULTILINE)

    assert {"python", "console", "text", ""} == set(fences)
    assert len(fences) == 2 * (len(blocks("python")) + len(blocks("console")) + 1)
    assert ["python -m jobqueue worker examples.quickstart:app", "python examples/quickstart.py"] == [
        command.line for command in commands()
    ]


def test_every_promise_names_a_test_that_is_there() -> None:
    """S1-18: each line of the list of promises names the test that shows it."""
    table = PROMISES.partition("## The promises")[2].partition("\n\n## ")[0]
    promises = [line for line in table.splitlines() if line.startswith("| ") and not line.startswith("| Promise")]

    assert len(promises) >= 13
    for promise in promises:
        found = re.search(r"`(tests/[\w/]+\.py)(?:::(\w+))?` \|$", promise)
        assert found is not None, promise
        assert f"def {found[2] or 'test_'}" in (ROOT / found[1]).read_text(), promise


def test_every_python_block_is_part_of_an_example() -> None:
    """Each Python block stands word for word in a file of examples/, all of which are run by tests. (S3-32)"""
    sources = [path.read_text() for path in sorted((ROOT / "examples").rglob("*.py"))]
    found = blocks("python")

    assert len(found) >= 3
    for block in found:
        assert any(block in source or textwrap.indent(block, "    ") in source for source in sources), block


def test_the_first_file_is_the_quickstart() -> None:
    """The README's one complete file is examples/quickstart.py, with nothing left out."""
    assert [QUICKSTART.read_text()] == [block for block in blocks("python") if "__main__" in block]


async def test_the_two_commands_print_what_is_shown(tmp_path: Path) -> None:
    """In an empty folder, without any database, the two commands of the README say what the README says they do."""
    (tmp_path / "examples").mkdir()
    for file in (QUICKSTART, QUICKSTART.with_name("__init__.py")):
        shutil.copy(file, tmp_path / "examples")
    worker_command, script_command = commands()

    log = tmp_path / "worker.log"
    async with running(*arguments(worker_command), dsn=None, log=log, cwd=tmp_path) as worker:
        await worker.says("worker.started")
        script = await run(*arguments(script_command), dsn=None, cwd=tmp_path)
        code = await worker.stop()

    assert 0 == script.code, script.err
    assert 0 == code, worker.said
    assert in_order(script_command.output, script.err + script.out)
    assert in_order(worker_command.output, worker.said)
    assert f"{tmp_path}/.jobqueue" in worker.said
    await wait_until(lambda: not processes_with(str(tmp_path)), "the embedded server has ended with its last user")
    # Started by root, the data may lie elsewhere: behind a link, where nobody would clear them away.
    shutil.rmtree((tmp_path / ".jobqueue" / "data").resolve())


def arguments(command: Command) -> list[str]:
    """A command's arguments for the Python that runs this test."""
    program, *rest = command.line.split()
    assert "python" == program
    return rest


def in_order(expected: tuple[str, ...], said: str) -> bool:
    """True if the output has the expected lines in their order, maybe with others between."""
    lines = iter([comparable(line) for line in said.splitlines()])
    missing = [line for line in expected if comparable(line) not in lines]
    assert [] == missing, f"{said}\n\nin which these are missing, or not in order: {missing}"
    return bool(expected)


async def test_the_tables_are_created_as_the_readme_says(empty_database: str) -> None:
    """The README's command for a PostgreSQL of one's own creates the tables, and the quick start's worker can start."""
    found = re.search(r"`python -m (jobqueue migrate up examples\.quickstart:app)`", README)
    assert found is not None

    migrated = await run("-m", *found[1].split(), dsn=empty_database)
    worked = await run("-m", "jobqueue", "worker", "examples.quickstart:app", "--burst", dsn=empty_database)

    assert 0 == migrated.code, migrated.err
    assert 0 == worked.code, worked.err


def test_every_make_target_exists() -> None:
    """Each `make ...` in the README is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)`", README))

    assert {"setup", "check", "test", "matrix", "demo"} <= named
    assert set() == named - targets


def test_the_extra_exists() -> None:
    """The README installs an extra that the project has."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    extras = re.findall(r"`pip install -e '\.\[(\w+)\]'`", README)

    assert ["embedded"] == extras
    assert set(extras) <= set(project["optional-dependencies"])
    assert ">=3.11" == project["requires-python"]
    assert sys.version_info >= (3, 11)


def test_every_path_exists() -> None:
    """Each file and folder that the README names is there."""
    named = re.findall(r"`((?:jobqueue|schema|examples|tests|docs)/[\w./]+)`", README)

    assert len(named) >= 10
    assert [] == [path for path in named if not (ROOT / path).exists()]


def test_it_can_be_read_in_two_minutes() -> None:
    """The README stays short."""
    assert len(README.splitlines()) <= LINE_LIMIT
