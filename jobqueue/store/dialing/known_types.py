"""PostgreSQL's own types are learned once a process, not once a connection.

asyncpg has no codec at hand for arrays like uuid[]: on each new connection it asks the catalog for them, once for every
statement that brings a new one. That costs the server more than to connect (measured: 4 to 13 ms against 3). The types
that PostgreSQL itself brings are the same in every database of a server version, so the answer is kept.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg

if TYPE_CHECKING:
    _Connection = asyncpg.Connection[asyncpg.Record]
else:
    _Connection = asyncpg.Connection  # generic in the stubs only

_FIRST_OF_USERS = 16384  # PostgreSQL gives no lower oid to what users create

_answers: dict[tuple[int, ...], list[asyncpg.Record]] = {}


class _NothingPrepared(NamedTuple):
    """Stands for asyncpg's statement that asks the catalog, when it was not sent: it has displaced no other."""

    name: str = "known"


class KnowingConnection(_Connection):
    """A connection that shares with all others of its process what they have learned of built-in types."""

    async def _introspect_types(self, typeoids: Iterable[int], timeout: float | None) -> tuple[Any, Any]:
        """Private in asyncpg: one that has no such method never calls this, and asks as often as it likes."""
        question = (self.get_server_version().major, *sorted(typeoids))
        if question in _answers:
            return _answers[question], _NothingPrepared()
        plain: Any = super()
        rows, asked = await plain._introspect_types(typeoids, timeout)
        if all(oid < _FIRST_OF_USERS for oid in (*question, *(row["oid"] for row in rows))):
            _answers[question] = rows
        return rows, asked
