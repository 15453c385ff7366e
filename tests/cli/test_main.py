"""The surface: help, version, usage."""

import subprocess
import sys

from tests.support.processes import CommandLine


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
    """All modules that importing these loads."""
    code = f"import sys, {modules}; print(*sorted(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(answer.stdout.split())


def test_the_surface_is_light() -> None:
    """The help is shown without loading tables, event loops or the code of any verb."""
    loaded = loaded_by("jobqueue.cli.main")
    assert "typer" in loaded
    assert not {"rich", "uvloop", "jobqueue.cli.worker.run", "jobqueue.cli.jobs.look", "jobqueue.cli.place"} & loaded


def test_short_verbs_load_no_logging() -> None:
    """What only looks or asks is done before structlog, and rich's tracebacks with it, would be loaded."""
    verbs = ("jobs.look", "jobs.defer", "jobs.steering", "queues.look", "queues.prune", "schema", "info")
    loaded = loaded_by(", ".join(f"jobqueue.cli.{verb}" for verb in verbs))

    assert {f"jobqueue.cli.{verb}" for verb in verbs} <= loaded
    assert not {"structlog", "rich.traceback", "pygments", "uvloop"} & loaded
