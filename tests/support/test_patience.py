"""The limits of all tests."""

import os
import subprocess
import sys

import pytest

from tests.support.patience import PATIENCE, SLOWNESS, VARIABLE, measured_slowness, scaled
from tests.support.programs.processes import ROOT


def test_no_limit_is_shorter_than_on_the_reference_machine() -> None:
    """A fast machine gets the limits of the reference, never less."""
    assert 1.0 <= measured_slowness()
    assert 1.0 <= SLOWNESS
    assert 30.0 <= PATIENCE


def test_a_program_of_a_test_has_the_limits_of_its_run() -> None:
    """Measured once: what a test starts does not measure again."""
    code = "from tests.support.patience import SLOWNESS; print(SLOWNESS)"
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, VARIABLE: "7.5"}, capture_output=True, check=True
    )

    assert b"7.5" == said.stdout.strip()


@pytest.mark.timeout(200)
def test_a_limit_of_its_own_is_scaled(request: pytest.FixtureRequest) -> None:
    """What a test says of its own limit is meant for the reference machine."""
    marker = request.node.get_closest_marker("timeout")

    assert (scaled(200),) == marker.args


def test_the_limit_of_all_is_scaled(request: pytest.FixtureRequest) -> None:
    """A test that says nothing gets the limit of all, scaled too."""
    marker = request.node.get_closest_marker("timeout")

    assert (scaled(float(request.config.getini("timeout"))),) == marker.args
