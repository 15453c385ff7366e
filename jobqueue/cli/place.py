"""Which database a verb is about, and how it is reached."""

import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from jobqueue.base.errors import ConfigurationError
from jobqueue.base.settings import Settings
from jobqueue.cli.terminal.failures import ExitCode, Refusal, in_words, users_part
from jobqueue.store.connection.faults import DATABASE_ERRORS
from jobqueue.store.connection.pool import Database
from jobqueue.store.schema.statements import names

if TYPE_CHECKING:
    from jobqueue.app import App

T = TypeVar("T")
View = TypeVar("View")


@dataclass(frozen=True, slots=True)
class Place:
    """A database with one schema of ours: an App's, or that of a connection string."""

    app: "App | None"
    dsn: str | None
    schema: str
    settings: Settings

    @classmethod
    def of(cls, target: str | None, dsn: str | None, schema: str | None) -> "Place":
        """What was named on the command line, without a name `JOBQUEUE_DSN`. `dsn` and `schema` go before the App's."""
        app = _loaded(target)
        if app is None:
            dsn = dsn or os.environ.get("JOBQUEUE_DSN")
            if not dsn:
                raise Refusal(
                    "which database? Name an App (shop:app), or give --dsn, or set JOBQUEUE_DSN", ExitCode.USAGE
                )
        return cls(app, dsn, _checked(schema, app), app.settings if app else Settings.from_environment(os.environ))

    @contextlib.asynccontextmanager
    async def resolved_dsn(self) -> AsyncIterator[str]:
        """The connection string; an embedded server runs as long as the block."""
        if self.dsn is not None or self.app is None:
            yield self.dsn or ""
            return
        async with self.app.resolved_dsn() as dsn:
            yield dsn

    @contextlib.asynccontextmanager
    async def database(self) -> AsyncIterator[tuple[str, Database]]:
        """The connection string and one connection there, its schema not yet checked.

        Database errors inside the block become Refusals: print after it.
        """
        async with self.resolved_dsn() as dsn, self.reached(dsn) as database:
            yield dsn, database

    async def ask(
        self,
        view: Callable[[Callable[[], Awaitable[Database]]], View],
        question: Callable[[View], Awaitable[T]],
    ) -> T:
        """What `Jobs` or `Queues` there answer. Raises NotMigrated too."""
        async with self.database() as (_, database):
            await database.check()

            async def there() -> Database:
                return database

            return await question(view(there))

    @contextlib.asynccontextmanager
    async def reached(self, dsn: str, connections: int = 1) -> AsyncIterator[Database]:
        """One connection to a connection string that is resolved already; else as `database`."""
        with reaching(dsn):
            database = await Database.open(
                dsn, self.schema, name="jobqueue command line", max_size=connections, pooler=self.settings.pooler
            )
            try:
                await database.reach()
                yield database
            finally:
                await database.close()


def schema_of(target: str | None, schema: str | None) -> str:
    """The schema that was named, else the App's, else `jobqueue`."""
    return _checked(schema, _loaded(target))


@contextlib.contextmanager
def reaching(dsn: str) -> Iterator[None]:
    """Turn what the database or the network raises into a Refusal that names the place, without the password."""
    try:
        yield
    except (ValueError, *DATABASE_ERRORS) as error:
        sentence = in_words(error, dsn) if users_part(error.__traceback__) is None else None
        if sentence is None:
            raise
        raise Refusal(sentence) from None


def _loaded(target: str | None) -> "App | None":
    if not target:
        return None
    from jobqueue.cli.loading import load_app  # here: who names a connection string needs no App

    return load_app(target)


def _checked(schema: str | None, app: "App | None") -> str:
    schema = schema or (app.schema if app else "jobqueue")
    try:
        names(schema)
    except ConfigurationError as error:
        raise Refusal(f"--{error}", ExitCode.USAGE) from None
    return schema
