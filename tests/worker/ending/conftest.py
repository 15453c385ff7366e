"""What the tests of this folder share."""

import pytest

from tests.support.jobs.effects import EFFECTS
from tests.support.jobs.store import connect


@pytest.fixture
async def own_table(database: str) -> str:
    """A database with a table of the user's."""
    async with connect(database) as connection:
        await connection.execute(EFFECTS)
    return database
