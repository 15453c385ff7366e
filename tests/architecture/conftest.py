"""What tests of plans have in common."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.support.postgres.database import Databases
from tests.support.postgres.full import ARCHIVE, FILL
from tests.support.postgres.plans import Connection


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


@pytest.fixture
def learned(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Connection]:
    """A clone with a planner that has learned something: the parameter names a template fixture, and statements."""
    template, statements = request.param
    with (
        databases.temporary(request.getfixturevalue(template)) as dsn,
        psycopg.connect(dsn, autocommit=True) as connection,
    ):
        for statement in statements:
            connection.execute(statement.encode())
        yield connection
