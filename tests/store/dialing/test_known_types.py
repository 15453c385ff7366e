"""What connections know of PostgreSQL's types: of its arrays all that is needed, of a user's types nothing."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from jobqueue.store.dialing.known_types import ARRAYS, KnowingConnection
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
async def test_arrays_are_known(empty_database: str, cache: int) -> None:
    """A new connection reads and writes arrays without asking the catalog."""
    questions: list[str] = []
    async with connected(empty_database, questions, cache=cache) as connection:
        got = [await connection.fetchval("select $1::uuid[]", ids) for ids in ([ID], [ID, ID])]

    assert [[ID], [ID, ID]] == got
    assert [] == questions


async def test_what_is_known_is_what_the_catalog_has(empty_database: str) -> None:
    """Each number is that of the array, and of its elements, in this server too; whose values asyncpg can read."""
    async with connected(empty_database, []) as connection:
        rows = await connection.fetch(
            "select a.oid, e.typname, e.oid as element from pg_type a join pg_type e on e.typarray = a.oid"
            " where a.oid = any($1::oid[]) and e.typdelim = ','",
            list(ARRAYS),
        )
        columns = ", ".join(f"array[null]::{name}[]" for name, _ in ARRAYS.values())
        values = await connection.fetchrow(f"select {columns}")

    assert {row["oid"]: (row["typname"], row["element"]) for row in rows} == ARRAYS
    assert [[None]] * len(ARRAYS) == list(values)


async def test_known_beside_unknown(empty_database: str) -> None:
    """One statement may have arrays that are known and types that are not: only for those the catalog is asked."""
    questions: list[str] = []
    async with connected(empty_database, questions) as connection:
        got = await connection.fetchrow("select $1::uuid[], int4range(1, 3), array[1.5]::numeric[]", [ID])

    assert ([ID], asyncpg.Range(1, 3), [Decimal("1.5")]) == tuple(got)
    assert 1 == len(questions)


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
