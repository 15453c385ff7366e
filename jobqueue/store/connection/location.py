"""Where an app's database is: the caller's pool, a DSN, `JOBQUEUE_DSN`, or the embedded server; and opening it."""

import contextlib
import inspect
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TypeAlias

from jobqueue.base.errors import ConfigurationError
from jobqueue.base.log import get_logger
from jobqueue.base.settings import Pooler
from jobqueue.store.connection.edge import EDGE
from jobqueue.store.connection.pool import Database, Pool
from jobqueue.store.dialing.strings import DSN_HINT, AnyUrl, fault_of_dsn, text_of
from jobqueue.store.embedded.share import join_embedded
from jobqueue.store.schema.statements import names

log = get_logger(__name__)

Leave: TypeAlias = Callable[[], Awaitable[None]]
Dsn: TypeAlias = AnyUrl | Callable[[], AnyUrl | Awaitable[AnyUrl]]


class Location:
    """Nothing is read or connected until it is asked for."""

    def __init__(self, dsn: Dsn | None, pool: "Pool | None", schema: str, *, embedded: bool = True) -> None:
        """`embedded`: whether it may be the embedded server, if there is no connection string."""
        if dsn is not None and pool is not None:
            raise ConfigurationError("pool: give either dsn or pool, not both")
        names(schema)
        self.lent: Database | None = None
        """What is to be used as it is, and never opened."""
        self._dsn = dsn
        self._pool = pool
        self._embedded = embedded
        self._apart = False
        """Whether a pooler by session has shown that it is one."""
        self._told = False
        self.schema = schema

    @property
    def most_connections(self) -> float:
        """How many connections the caller's pool has at the most; infinite without one."""
        return float("inf") if self._pool is None else self._pool.get_max_size()

    @contextlib.asynccontextmanager
    async def resolved_dsn(self) -> AsyncIterator[str]:
        """The connection string to use now; the embedded server, if that is it, runs at least as long as the block."""
        dsn, leave = await self.dsn_to_keep()
        try:
            yield dsn
        finally:
            if leave is not None:
                await leave()

    async def dsn_to_keep(self) -> tuple[str, Leave | None]:
        """The connection string to use now, and what ends our share in the embedded server, if that is it."""
        if self._pool is not None:
            raise ConfigurationError("pool: this needs a connection string, and this App stands on a pool of yours")
        dsn = await self._configured_dsn()
        if dsn is not None:
            return dsn, None
        server = await join_embedded(self.schema)
        return server.dsn, server.leave

    async def open(
        self, *, name: str, connections: int, pooler: Pooler, more: Mapping[str, str] | None = None
    ) -> Database:
        """A database of its own for a producer or a worker; `close` on it ends its share in an embedded server too.

        `more`: settings of its sessions, where no pooler stands between.
        Raises DatabaseError, and ConfigurationError if the DSN cannot be read.
        """
        dsn, leave = None, None
        if self._pool is not None:
            database = Database.around(self._pool, self.schema, pooler)
        else:
            # No `async with` around what lives as long as the loop: its generator would be ended by the loop as well,
            # in no order.
            dsn, leave = await self.dsn_to_keep()
            database = await Database.open(
                dsn, self.schema, name=name, max_size=connections, pooler=pooler, leave=leave,
                apart=self._apart, more=more if pooler == "none" else None,
            )  # fmt: skip
        with EDGE:
            try:
                await database.reach()
                self._reached(database)
            except BaseException as error:
                await database.close()
                fault = fault_of_dsn(error, dsn)
                if fault is None:
                    raise
            else:
                return database
        raise fault  # out here: the driver's own words would follow as its context

    def _reached(self, database: Database) -> None:
        self._apart = database.asked.holds
        if self._told:
            return
        self._told = database.asked.are_shared or database.remedy is not None
        if database.asked.are_shared:
            log.error("pooler.shared", pooler=database.pooler)
        elif self._told:
            log.warning("pooler.unlimited", remedy=database.remedy)

    async def _configured_dsn(self) -> str | None:
        """Raises ConfigurationError for an empty one: whoever set it to nothing did not mean a server of our own."""
        if self._dsn is None:
            named = os.environ.get("JOBQUEUE_DSN")
            if named == "":
                raise ConfigurationError(f"JOBQUEUE_DSN: is empty; {DSN_HINT}")
            if named is None and not self._embedded:
                raise ConfigurationError("dsn: none is given, JOBQUEUE_DSN is not set, and Settings(embedded=False)")
            return named
        given = self._dsn() if callable(self._dsn) else self._dsn
        if inspect.isawaitable(given):
            given = await given
        if not given:
            raise ConfigurationError(f"dsn: is empty; {DSN_HINT}")
        return text_of(given)


class Nowhere(Location):
    """No database that could be opened: whoever asks for one is told why. Perhaps one that was lent."""

    def __init__(self, schema: str, why: str, lent: Database | None = None) -> None:
        def refuse() -> str:
            raise ConfigurationError(why)

        super().__init__(refuse, None, schema)
        self.lent = lent
