"""The surface: help, version, usage."""

import os
import subprocess
import sys
from collections.abc import Iterator

from typer.testing import CliRunner

from jobqueue.cli.main import surface
from tests.support.programs.processes import CommandLine


async def test_help_lists_verbs_and_exit_codes(cli: CommandLine) -> None:
    """`--help` names every verb and what each exit code means."""
    answer = await cli.run("--help")

    assert 0 == answer.code
    for words in (
        "worker ",
        "migrate ",
        "jobs ",
        "info ",
        "Exit codes:",
        "3  `worker` cancelled jobs",
        "130  interrupted",
    ):
        assert words in answer.out


def every_help(words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """The help of a command and of each verb below it, as a terminal of 80 columns shows it."""
    runner = CliRunner()
    text = runner.invoke(
        surface, [*words, "--help"], env={"COLUMNS": "80"}, terminal_width=78
    ).output  # click leaves two
    yield words, text
    _, _, commands = text.partition("\nCommands:\n")
    for line in commands.partition("\n\n")[0].splitlines():
        if line[2:3].strip():
            yield from every_help((*words, line.split()[0]))


def test_help_fits_a_terminal() -> None:
    """In 80 columns no line of any verb's help is longer, and no verb's sentence is cut off."""
    helps = dict(every_help())

    assert {("worker",), ("jobs", "list"), ("queues", "keep"), ("migrate", "sql")} <= set(helps)
    wide = [(words, line) for words, text in helps.items() for line in text.splitlines() if len(line) > 80]
    cut = [(words, line) for words, text in helps.items() for line in text.splitlines() if line.endswith("...")]
    assert ([], []) == (wide, [(words, line) for words, line in cut if not line.startswith("Usage: ")])


def test_the_shell_completes_verbs() -> None:
    """The shell's question to the installed command is answered with the verbs that fit."""
    question = {"_JOBQUEUE_COMPLETE": "complete_bash", "COMP_WORDS": "jobqueue jobs c", "COMP_CWORD": "2"}
    script = "import sys; sys.argv = ['jobqueue']; from jobqueue.__main__ import main; main()"

    answer = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | question, capture_output=True, text=True, check=False
    )

    assert (0, {"counts", "cancel"}) == (answer.returncode, set(answer.stdout.split()))


async def test_the_version_is_shown(cli: CommandLine) -> None:
    """`--version` is one line."""
    assert (0, "jobqueue 0.1.0\n") == ((answer := await cli.run("--version")).code, answer.out)


async def test_without_a_verb_the_help_is_shown(cli: CommandLine) -> None:
    """No verb is wrong usage: the help goes to stderr."""
    for words in ((), ("jobs",)):
        answer = await cli.run(*words)
        assert 2 == answer.code
        assert answer.err.startswith("Usage: python -m jobqueue")
        assert "" == answer.out


async def test_an_unknown_verb_is_one_line(cli: CommandLine) -> None:
    """A verb that does not exist is one line, with the command that lists them."""
    answer = await cli.run("frobnicate")

    assert (2, "") == (answer.code, answer.out)
    assert "jobqueue: No such command 'frobnicate'; see python -m jobqueue --help\n" == answer.err


def loaded_by(modules: str) -> set[str]:
    """All modules that importing these, and what is done then, loads."""
    code = f"import sys, {modules}; print(*sorted(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(answer.stdout.split())


def test_the_surface_is_light() -> None:
    """A verb is found without loading tables, event loops, the code of any other verb, or another group of verbs."""
    loaded = loaded_by("typer, jobqueue.cli.main as cli; typer.main.get_command(cli.surface).get_command(None, 'jobs')")
    assert {"typer", "jobqueue.cli.jobs.verbs"} <= loaded
    assert not {"rich", "uvloop", "jobqueue.cli.worker.run", "jobqueue.cli.jobs.look", "jobqueue.cli.place"} & loaded
    assert not {f"jobqueue.cli.{name}.verbs" for name in ("bulk", "bundles", "limits", "queues", "webhooks")} & loaded


def test_short_verbs_load_no_logging() -> None:
    """What only looks or asks is done before structlog, and rich's tracebacks with it, would be loaded.

    Nor does it load the App, which those who name a connection string have no need of; but a defer does.
    """
    verbs = ("jobs.look", "jobs.steering", "queues.look", "queues.prune", "schema", "info", "jobs.defer")
    *without_app, defer = (f"jobqueue.cli.{verb}" for verb in verbs)
    loaded = loaded_by(f"{', '.join(without_app)}; seen = 'jobqueue.app' in sys.modules; import {defer}; print(seen)")

    assert "False" in loaded
    assert {f"jobqueue.cli.{verb}" for verb in verbs} <= loaded
    assert not {"structlog", "rich.traceback", "pygments", "uvloop"} & loaded
