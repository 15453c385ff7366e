"""Tests drive the public surface: what they import from inside is what the package root exports, or is marked here."""

import ast
from pathlib import Path

import pytest

import jobqueue
from tests.architecture.sources import ROOT, TESTS, nodes

DRIVING = ("app", "cli", "examples", "flows", "worker")
"""Folders whose tests stand where a user stands. The others test one module each, by its name."""

MARKED = {
    "app/test_bulk.py": "makes chunks small",
    "app/test_closing.py": "makes limits short",
    "app/test_pool.py": "takes the smallest pool",
    "app/test_steering.py": "goes through the table of actions",
    "app/joining/test_every_verb.py": "goes through the table of actions",
    "cli/terminal/test_failures.py": "one module of the command line",
    "cli/test_loading.py": "one module of the command line",
    "cli/test_main.py": "asks the surface for every verb",
    "cli/terminal/test_output.py": "one module of the command line",
    "cli/terminal/test_safe_text.py": "one module of the command line",
    "cli/bench/test_table.py": "one module of the command line",
    "telling/test_lines.py": "one module, of a floor that nobody sees",
    "cli/web/test_web.py": "one module of the command line",
    "cli/jobs/test_story.py": "one module of the command line",
    "cli/jobs/test_timeline.py": "one module of the command line",
    "cli/queues/test_stuck.py": "one module of the command line, and verbs in this process",
    "cli/top/test_top.py": "one module of the command line, as a part too",
    "flows/test_poolers.py": "migrates a second schema, and asks what is applied",
    "flows/test_standby.py": "sends a defer and an outcome again, as parts",
    "worker/claiming/test_aside.py": "reads the log as JSON",
    "worker/test_starting.py": "looks at the order in which parts begin",
    "worker/slots/test_batches.py": "holds a claimer's sleep up",
    "worker/keeping/test_beside.py": "the thread beside the loop, as a part",
    "worker/slots/test_cancelling.py": "listens to what workers are told, and holds an answer up",
    "worker/test_error_hooks.py": "makes the limit short",
    "worker/keeping/test_board.py": "looks from another connection, and the board as a part",
    "worker/noting/test_counting.py": "the sender of counts, as a part",
    "worker/noting/test_looking.py": "who looks at the depths, as a part",
    "worker/keeping/test_machine.py": "which processes live, as a part",
    "worker/ending/test_completing.py": "makes a pool small, and the wait for it short",
    "worker/ending/test_progress.py": "a report past its fence",
    "worker/claiming/test_limited.py": "the pauses of the admitter, as a part",
    "worker/claiming/test_staging.py": "holds a burst up between two looks",
    "worker/claiming/test_marks.py": "marks and windows, as parts",
    "worker/claiming/test_sharing.py": "which queues two workers share, as a rule",
    "worker/claiming/test_queues.py": "the shares of slots, as rules",
    "worker/keeping/test_rescue.py": "pretends to be workers of this machine",
    "worker/keeping/test_tally.py": "the names and bounds of the counts, and one as a part",
    "worker/test_upkeep.py": "makes the hour short",
    "worker/test_upkeep_of_acting.py": "has its hour begin at once",
    "worker/test_bulks_beside_upkeep.py": "goes page by page, with a sweep in between, as parts",
    "worker/claiming/test_wakeup.py": "the alarm, as a part",
    "worker/slots/test_line.py": "the line of jobs that wait, as a part",
    "worker/slots/test_starving.py": "one service as a part, and what it asks",
}


PUBLIC = ("jobqueue.testing", "jobqueue.web")
"""Public as well: see what they export."""


def from_inside(path: Path) -> set[str]:
    """Return the names that a file imports from modules inside the package."""
    return {
        alias.name
        for node in nodes(path, ast.ImportFrom)
        if (node.module or "").startswith("jobqueue.")
        if node.module not in PUBLIC
        for alias in node.names
    }


@pytest.mark.parametrize("folder", DRIVING)
def test_tests_import_no_private_name_but_marked_ones(folder: str) -> None:
    """S1-23: where tests stand as a user, only the files marked above import what the package root does not export."""
    files = sorted((TESTS / folder).rglob("test_*.py"))
    assert len(files) >= 2, f"only {len(files)} test files in {folder}: wrong place?"
    private = {path.relative_to(TESTS).as_posix(): from_inside(path) - set(jobqueue.__all__) for path in files}
    assert {} == {name: names for name, names in private.items() if names and name not in MARKED}


def test_marks_are_needed() -> None:
    """A file that is marked really imports something private, and exists."""
    assert [] == [name for name in MARKED if not from_inside(ROOT / "tests" / name) - set(jobqueue.__all__)]
