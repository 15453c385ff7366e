"""The arrays of PostgreSQL's own types are known here: no connection asks for them.

asyncpg has no codec at hand for arrays like uuid[]: each new connection would ask the catalog for them, once for every
statement that brings a new one. That costs the server more than to connect (measured: 4 to 13 ms against 3), and comes
before the first claim of a worker and the first defer of a process. But their numbers stand in PostgreSQL's source, and
are the same in every version and database.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg

if TYPE_CHECKING:
    _Connection = asyncpg.Connection[asyncpg.Record]
else:
    _Connection = asyncpg.Connection  # generic in the stubs only

ARRAYS = {
    199: ("json", 114), 1000: ("bool", 16), 1001: ("bytea", 17), 1005: ("int2", 21), 1007: ("int4", 23),
    1009: ("text", 25), 1015: ("varchar", 1043), 1016: ("int8", 20), 1021: ("float4", 700), 1022: ("float8", 701),
    1115: ("timestamp", 1114), 1182: ("date", 1082), 1183: ("time", 1083), 1185: ("timestamptz", 1184),
    1187: ("interval", 1186), 1231: ("numeric", 1700), 2951: ("uuid", 2950), 3807: ("jsonb", 3802),
}  # fmt: skip
"""By the number of an array's type: the name and the number of the type of its elements."""


class _NothingPrepared(NamedTuple):
    """Stands for asyncpg's statement that asks the catalog, when it was not sent: it has displaced no other."""

    name: str = "known"


class KnowingConnection(_Connection):
    """A connection that knows these arrays, and asks for all other types as asyncpg does."""

    async def _introspect_types(self, typeoids: Iterable[int], timeout: float | None) -> tuple[Any, Any]:
        """Private in asyncpg: one that has no such method never calls this, and asks as often as it likes."""
        asked = set(typeoids)
        known = [_as_the_catalog_has_it(oid) for oid in asked & ARRAYS.keys()]
        if len(known) == len(asked):
            return known, _NothingPrepared()
        plain: Any = super()
        rows, statement = await plain._introspect_types(asked - ARRAYS.keys(), timeout)
        return [*known, *rows], statement


def _as_the_catalog_has_it(oid: int) -> dict[str, object]:
    name, element = ARRAYS[oid]
    return {
        "oid": oid, "ns": "pg_catalog", "name": f"_{name}", "kind": b"b", "basetype": None, "elemtype": element,
        "elemdelim": ",", "range_subtype": None, "attrtypoids": None, "attrnames": None, "elemtype_name": name,
    }  # fmt: skip
