"""Databases for tests of applications, made from a template."""

import asyncio

from jobqueue.store.cloning import clone_of, template_of
from tests.support.jobs.store import connect
from tests.support.postgres.database import Databases

SCHEMA = "cloned_here"
"""No other test of the server has it, nor its template."""


async def migrations(dsn: str) -> int:
    """How many migrations a clone has."""
    async with clone_of(dsn, SCHEMA) as clone, connect(clone) as connection:
        return int(await connection.fetchval("select count(*) from cloned_here.migration"))


async def test_several_make_the_template_at_the_same_moment(databases: Databases) -> None:
    """They are connected to different databases of one server; each gets a whole clone, and one template is left."""
    with databases.temporary() as one, databases.temporary() as other:
        counts = await asyncio.gather(*(migrations(dsn) for dsn in (one, other, one, other)))
        assert {counts[0]} == set(counts)
        async with connect(one) as connection:
            left = await connection.fetch("select datname from pg_database where datname ~ $1", template_of(SCHEMA))
            assert [template_of(SCHEMA)] == [row[0] for row in left]
