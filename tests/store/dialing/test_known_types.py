"""What connections know of PostgreSQL's types: of its own all the same, of a user's each for itself."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from jobqueue.store.dialing.known_types import KnowingConnection
from tests.support.patience import PATIENCE

ID = UUID(int=7)


@asynccontextmanager
async def connected(dsn: str, questions: list[str], *, cache: int = 100) -> AsyncIterator[Any]:
    """A connection whose questions to the catalog are noted."""
    connection = await asyncpg.connect(
        dsn, timeout=PATIENCE, connection_class=KnowingConnection, statement_cache_size=cache
    )

    def note(record: Any) -> None:
        if "typeinfo_tree" in record.query:
            questions.append(record.query)

    connection.add_query_logger(note)
    try:
        yield connection
    finally:
        await connection.close(timeout=PATIENCE)


@pytest.mark.parametrize("cache", [100, 0], ids=["direct", "behind a pooler"])
async def test_arrays_are_learned_once_a_process(empty_database: str, cache: int) -> None:
    """The second connection reads and writes arrays without asking the catalog."""
    questions: list[str] = []
    async with connected(empty_database, [], cache=cache) as first:
        await first.fetchval("select $1::uuid[]", [ID])
    async with connected(empty_database, questions, cache=cache) as second:
        got = await second.fetchval("select $1::uuid[]", [ID]), await second.fetchval("select $1::uuid[]", [ID, ID])

    assert ([ID], [ID, ID]) == got
    assert [] == questions


async def test_types_of_users_are_asked_for_each_time(empty_database: str) -> None:
    """A user's type may be another one tomorrow, or in the next database: nobody remembers it."""
    questions: list[str] = []
    async with connected(empty_database, questions) as first:
        await first.execute("create type pair as (a int, b text)")
        before = await first.fetchval("select array[row(1, 'one')::pair]")
        await first.execute("drop type pair; create type pair as (b text, a int, c uuid)")
    async with connected(empty_database, questions) as second:
        after = await second.fetchval("select array[row('one', 1, $1::uuid)::pair]", ID)

    assert [(1, "one")] == [tuple(pair) for pair in before]
    assert [("one", 1, ID)] == [tuple(pair) for pair in after]
    assert 2 == len(questions)
