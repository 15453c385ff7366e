"""An app's way to its database: opened on first use, once an event loop; closed; led elsewhere for tests."""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator

from jobqueue.base.errors import AppClosed, InvalidOption
from jobqueue.base.settings import Settings
from jobqueue.store.connection.callers.choosing import executor_on
from jobqueue.store.connection.edge import own_session
from jobqueue.store.connection.executor import Executor
from jobqueue.store.connection.location import Location, Nowhere
from jobqueue.store.connection.loops import PerLoop
from jobqueue.store.connection.pool import Database
from jobqueue.store.connection.session import Session
from jobqueue.tasks.sending.producer import Producer
from jobqueue.tasks.sending.sync_producer import SyncProducer

PRODUCER_CONNECTIONS = 10
_LOOKING = 4
"""Connections for looks: pages that people open do not take any from those that defer."""
_LOOKING_ONLY = {"default_transaction_read_only": "on", "statement_timeout": "5s"}


class Opening:
    """One producer for each event loop, made when that loop first needs it."""

    def __init__(
        self, location: Location, name: str, settings: Settings, when_opening: Callable[[], object],
        require_connection: bool = False,
    ) -> None:  # fmt: skip
        """`name` shows in PostgreSQL. `when_opening` is called before a producer is made."""
        self._require_connection = require_connection
        self.name = name
        self.settings = settings
        self.schema = location.schema
        self._when_opening = when_opening
        self.lead_to(location)

    def lead_to(self, location: Location) -> None:
        """From now on the database is there, and not opened yet."""
        self._location, self._opened, self._closed = location, False, False
        self._producers = PerLoop(self._make, Producer.close, Producer.abandon)
        self._sync = SyncProducer(location, self.name, self.settings.pooler)
        self._looks = PerLoop(self._make_looks, Database.close, Database.abandon)

    @contextlib.contextmanager
    def override(self, location: Location) -> Iterator[None]:
        """Another database inside the block, where it is opened anew, also if it was closed."""
        kept = self._location, self._producers, self._sync, self._looks, self._opened, self._closed
        self.lead_to(location)
        try:
            yield
        finally:
            self._location, self._producers, self._sync, self._looks, self._opened, self._closed = kept

    @property
    def is_open(self) -> bool:
        """Opened, and not closed yet."""
        return self._opened and not self._closed

    @property
    def most_connections(self) -> float:
        """How many connections there can be at once; infinite without a pool of the user's own."""
        return self._location.most_connections

    async def open(self) -> None:
        """Connect now, also after `close`; the schema is checked later. Raises DatabaseError, ConfigurationError."""
        self.allow()
        if not isinstance(self._location, Nowhere):
            await self._producers.get()

    def allow(self) -> None:
        """Closed or not, from now on it can be used."""
        self._closed = False

    async def close(self) -> None:
        """Wait for what is being stored, then close. Bounded, idempotent."""
        self._closed = True
        await self._sync.close()
        await self._looks.close()
        await self._producers.close()

    def refuse_if_closed(self) -> None:
        """Raise AppClosed after `close`."""
        if self._closed:
            raise AppClosed

    def check_defer(self, connection: object | None) -> None:
        """Raise AppClosed after `close`, and InvalidOption for a defer that forgot a connection which is required."""
        self.refuse_if_closed()
        if connection is None and self._require_connection:
            raise InvalidOption(
                "connection",
                "is missing, and this app has require_connection=True; pass the connection or session whose "
                "transaction the job belongs to",
            )

    def sync_producer(self) -> SyncProducer:
        """This process's producer for callers without an event loop."""
        self._when_opening()
        self._sync.prepare()
        return self._sync

    async def producer(self) -> Producer:
        """The running loop's producer, its schema checked. Raises NotMigrated, SchemaTooNew, AppClosed."""
        self.refuse_if_closed()
        producer = await self._producers.get()
        await producer.check()
        return producer

    async def database(self) -> Database:
        """The producer's database, or the one that was lent."""
        self.refuse_if_closed()
        if self._location.lent is not None:
            return self._location.lent
        return (await self.producer()).database

    def session(self) -> contextlib.AbstractAsyncContextManager[Session]:
        """A connection of the producer's. What the database does to it inside the block is a DatabaseError."""
        return own_session(self.database)

    async def looks(self) -> Database:
        """A database to look at only, for the pages of a dashboard: it can write nothing, and no look takes long.

        On the user's own pool, and through a pooler, it is guarded by the limits of the callers alone.
        """
        self.refuse_if_closed()
        if self._location.lent is not None:
            return self._location.lent
        database = await self._looks.get()
        if not database.checked:
            await database.check()
        return database

    async def another_database(self, connections: int) -> Database:
        """A database of its own, for a worker, who closes it; the schema not yet checked."""
        return await self._location.open(name=self.name, connections=connections, pooler=self.settings.pooler)

    def executor_on(self, connection: object) -> Executor:
        """What statements run on that join a caller's transaction. Opens nothing, which might need that connection."""
        self.refuse_if_closed()
        return executor_on(connection, self.schema)

    @contextlib.asynccontextmanager
    async def resolved_dsn(self) -> AsyncIterator[str]:
        """The connection string to use now; the embedded server, if that is it, runs at least as long as the block."""
        self.refuse_if_closed()
        async with self._location.resolved_dsn() as dsn:
            yield dsn

    async def _make_looks(self) -> Database:
        pooler = self.settings.pooler
        return await self._location.open(name=self.name, connections=_LOOKING, pooler=pooler, more=_LOOKING_ONLY)

    async def _make(self) -> Producer:
        self._when_opening()
        database = await self.another_database(PRODUCER_CONNECTIONS)
        self._opened = True
        # A pool of one connection would have none left to look with.
        return Producer(database, listens=self.most_connections > 1 and self.settings.listens)
