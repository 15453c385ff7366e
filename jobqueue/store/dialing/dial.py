"""The door to a server: of several hosts, the one that answers and takes writes."""

import asyncio
import os
import ssl
from typing import Any, TypeAlias

import asyncpg

from jobqueue.store.dialing.addresses import Addresses
from jobqueue.store.dialing.sockets import cut, keep_alive
from jobqueue.store.dialing.strings import Address, address_of, missing_file

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

CONNECT_LIMIT = 10.0
"""Seconds for a connection, whichever of its hosts it is to."""
CLOSE_LIMIT = 5.0
"""Seconds to end one, or to give it back."""

_NEXT_HOST = (
    OSError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError, asyncpg.TargetServerAttributeNotMatched,
)  # fmt: skip


class Dialer:
    """Connects to the hosts of one connection string, and the addresses of each; the one that answered last first.

    So one that hangs costs its share of the time once, not at every new connection.
    """

    def __init__(self) -> None:
        self.words = ""
        """SQL that is said first on every connection."""
        self._first = 0
        self._answered: dict[tuple[str, int], Any] = {}

    async def __call__(self, dsn: str, *, timeout: float = CONNECT_LIMIT, **how: Any) -> Connection:
        """As `asyncpg.connect`, within `timeout` seconds in all. Raises ConfigurationError, ValueError, OSError."""
        address = address_of(dsn)
        if address.trusts_system:
            how["ssl"] = ssl.create_default_context()
        how["timeout"] = min(timeout / max(1, len(address.hosts)), address.limit or timeout)
        connection: Connection
        try:
            if address.hosts:
                connection = await self._to_one_of(address, how)
            else:
                connection = await self._to_one_address(address.dsn, how)
        except FileNotFoundError:
            fault = missing_file(dsn)
            if fault is None:  # then it was a socket
                raise
        else:
            keep_alive(connection)
            await self._say_first(connection)
            return connection
        raise fault

    async def _say_first(self, connection: Connection) -> None:
        if self.words:
            try:
                await connection.execute(self.words, timeout=CONNECT_LIMIT)
            except BaseException:
                cut(connection)
                raise

    async def _to_one_of(self, address: Address, how: dict[str, Any]) -> Connection:
        """Jobs are written, so a standby is of no use, unless somebody says which kind of server he means."""
        how["target_session_attrs"] = address.session or os.environ.get("PGTARGETSESSIONATTRS") or "read-write"
        fault: BaseException | None = None
        count = len(address.hosts)
        for place in [(self._first + step) % count for step in range(count)]:
            host, port = address.hosts[place]
            try:
                connection = await self._to_one_address(address.dsn, {**how, "host": host, "port": port})
            except _NEXT_HOST as error:
                fault = error
            else:
                self._first = place
                return connection
        assert fault is not None  # noqa: S101 - there are hosts
        raise fault

    async def _to_one_address(self, dsn: str, how: dict[str, Any]) -> Connection:
        way = Addresses(self._answered)
        end = asyncio.get_running_loop().time() + how["timeout"]
        while True:
            try:
                async with asyncio.timeout_at(end) as deadline:
                    way.next(deadline)
                    connection: Connection = await asyncpg.connect(dsn, **how | {"loop": way})
            except _NEXT_HOST:
                if not way.are_more:
                    raise
            else:
                way.answers(connection)
                return connection
