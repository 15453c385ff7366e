"""What tests of plans have in common."""

import pytest

from tests.support.postgres.database import Databases
from tests.support.postgres.full import ARCHIVE, FILL


@pytest.fixture(scope="module")
def full(databases: Databases, template: str) -> str:
    """The name of a database with many jobs and no finished ones, to be cloned: filling one takes seconds."""
    return databases.filled(template, FILL)


@pytest.fixture(scope="module")
def filled(databases: Databases, full: str) -> str:
    """The name of one with 25 000 finished jobs beside them; the planner knows nothing of either."""
    return databases.filled(full, ARCHIVE)


@pytest.fixture(scope="module")
def analysed(databases: Databases, filled: str) -> str:
    """The same, and the planner knows everything."""
    return databases.filled(filled, "analyze")
