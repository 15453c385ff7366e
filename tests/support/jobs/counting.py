"""Counts the statements that an app sends, by their names."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from jobqueue.store.schema.statements import statement, statements
from tests.support.patience import PATIENCE


@dataclass
class Sent:
    """What went over the connections of a pool."""

    calls: Counter[str] = field(default_factory=Counter)
    longest: dict[str, int] = field(default_factory=dict)
    """The most characters that the values of one call had, by statement."""
    values: dict[str, tuple[object, ...]] = field(default_factory=dict)
    """Those of the last call, by statement."""

    def add(self, query: str, values: Any) -> None:
        name = _names().get(query, query)
        self.calls[name] += 1
        self.values[name] = tuple(values or ())
        self.longest[name] = max(self.longest.get(name, 0), len(str(values)))


@asynccontextmanager
async def counted_pool(dsn: str) -> AsyncIterator[tuple[Any, Sent]]:
    """A pool for `App(pool=...)`, and the count of what is sent over it."""
    sent = Sent()

    async def watch(connection: Any) -> None:
        connection.add_query_logger(lambda record: sent.add(record.query, record.args))

    async with asyncpg.create_pool(dsn, min_size=0, max_size=12, init=watch, timeout=PATIENCE) as pool:
        yield pool, sent


def _names() -> dict[str, str]:
    return {statement(name): name for name in statements()}
