"""What a run of tests makes of how it was started."""

import signal
import subprocess
import sys

from tests.support.programs.processes import ROOT


def test_ctrl_c_reaches_whatever_a_test_starts() -> None:
    """The tests' own process does not ignore Ctrl-C, and so none of its children does."""
    assert signal.default_int_handler is signal.getsignal(signal.SIGINT)


def test_ctrl_c_reaches_it_in_the_background_too() -> None:
    """A shell lets what it starts in the background ignore Ctrl-C: `make test &` is no reason to fail."""
    inner = f"{__file__}::{test_ctrl_c_reaches_whatever_a_test_starts.__name__}"
    command = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", sys.executable, "-m", "pytest", "-qp", "no:cacheprovider"]
    answer = subprocess.run([*command, inner], cwd=ROOT, capture_output=True, text=True, check=False)

    assert 0 == answer.returncode, answer.stdout
