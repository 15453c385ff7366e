"""A share in the embedded server for an app that was given no DSN: said once in a process, migrated by itself."""

import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from jobqueue.base.errors import ConfigurationError
from jobqueue.store.schema.migrate import migrate

_ANY = "*"
_announced: set[str] = set()


@dataclass(frozen=True, slots=True)
class EmbeddedShare:
    """The server runs at least until `leave` was called."""

    dsn: str
    leave: Callable[[], Awaitable[None]]


def be_silent() -> None:
    """Say nothing: another process of the same command does."""
    _announced.add(_ANY)


async def join_embedded(schema: str) -> EmbeddedShare:
    """Join the server of this machine, which the first one starts, and migrate it. Raises ConfigurationError."""
    if sys.platform == "win32":
        raise ConfigurationError("the embedded server needs Linux or macOS; pass a DSN or set JOBQUEUE_DSN")
    from jobqueue.store.embedded.server import EmbeddedServer, embedded_folder  # POSIX only, and an extra

    server = EmbeddedServer(embedded_folder())
    dsn = await server.join()
    try:
        if not {_ANY, str(server.folder)} & _announced:
            _announced.add(str(server.folder))
            sys.stderr.write(f"jobqueue: using the embedded PostgreSQL in {server.folder}\n")
        await migrate(dsn, schema)
    except BaseException:
        await server.leave()
        raise
    return EmbeddedShare(dsn, server.leave)
