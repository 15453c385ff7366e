"""What tests of plans have in common."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.support.postgres.database import Databases, name_of
from tests.support.postgres.full import ARCHIVE, FILL


@pytest.fixture(scope="module")
def filled(databases: Databases, template: str) -> Iterator[str]:
    """The name of a database with 200 000 jobs and 100 000 finished ones, of which the planner knows nothing."""
    with databases.temporary(template) as dsn:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(FILL)
            connection.execute(ARCHIVE)
        yield name_of(dsn)
