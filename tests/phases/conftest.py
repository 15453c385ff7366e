"""One worker for all cases of a table, where each is about its own job only: starting it costs ten times a case."""

from collections.abc import AsyncIterator

import pytest_asyncio

from jobqueue import App
from tests.support.jobs.working import new_app
from tests.support.postgres.database import Databases
from tests.support.postgres.kept import kept_open


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def own(databases: Databases, template: str) -> AsyncIterator[str]:
    """The DSN of a database for several cases."""
    with databases.temporary(template) as dsn:
        async with kept_open(dsn):
            yield dsn


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(own: str) -> AsyncIterator[App]:
    """An app with a worker on that one. Its tests run in the event loop of their module."""
    async with new_app(own) as app, app.worker():
        yield app
