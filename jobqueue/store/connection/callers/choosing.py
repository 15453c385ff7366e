"""Which executor a caller's connection becomes; what cannot be joined is refused, with what to pass instead."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import asyncpg

from jobqueue.base.errors import InvalidOption
from jobqueue.store.connection.callers.on_asyncpg import OnAsyncpg
from jobqueue.store.connection.callers.on_psycopg import OnPsycopg
from jobqueue.store.connection.callers.on_sqlalchemy import OnSqlalchemy
from jobqueue.store.connection.callers.telling import is_of, kind_of
from jobqueue.store.connection.callers.wrapped import of_django, of_piccolo, of_tortoise
from jobqueue.store.connection.executor import Executor

_ASYNC = (
    "must be an asyncpg connection, psycopg's AsyncConnection, SQLAlchemy's AsyncSession or AsyncConnection, "
    "or a transaction of Tortoise or Piccolo"
)
_SYNC = "must be a psycopg connection, SQLAlchemy's Session or Connection, or Django's connection inside atomic()"
_IS_SYNC = (
    "is synchronous ({}) and would block the event loop; to defer on it use task.defer_sync or app.defer_many_sync, "
    "all else takes an asynchronous one, or none"
)
_IS_ASYNC = (
    "is asynchronous ({}); use `await task.defer(...)` or `await app.defer_many(...)`, or pass a synchronous one"
)
_HAVE_NONE = {
    "pool": "not a pool: a pool has no transaction to join, so pass a connection of it",
    "engine": "an engine has no transaction to join, so pass a session or a connection of it",
    "sessionmaker": "it makes sessions, so pass one of them",
    "cursor": "so pass its connection",
}
"""What has no transaction, by a part of its name."""


class _Family(NamedTuple):
    make: Callable[[Any, str], Executor]
    is_async: bool


def executor_on(connection: object, schema: str) -> Executor:
    """The executor for a caller's connection that is awaited. Raises InvalidOption for what cannot be joined."""
    family = _family_of(connection)
    if family is None:
        _refuse(connection, _ASYNC)
    if not family.is_async:
        raise InvalidOption("connection", _IS_SYNC.format(kind_of(connection)))
    return family.make(connection, schema)


def sync_executor_on(connection: object, schema: str) -> Executor:
    """The executor for a caller's synchronous connection: its coroutines never suspend. Raises InvalidOption."""
    family = _family_of(connection)
    if family is None:
        _refuse(connection, _SYNC)
    if family.is_async:
        raise InvalidOption("connection", _IS_ASYNC.format(kind_of(connection)))
    return family.make(connection, schema)


def is_synchronous(connection: object) -> bool:
    """Whether it is a connection that can be joined, by `defer_sync` alone."""
    family = _family_of(connection)
    return family is not None and not family.is_async


def _family_of(given: object) -> _Family | None:
    """By what it is; a capability tells connections and sessions from what else a library has."""
    if isinstance(given, asyncpg.Connection | asyncpg.pool.PoolConnectionProxy):
        return _Family(OnAsyncpg, True)
    if is_of("psycopg", given) and hasattr(given, "autocommit"):
        return _Family(OnPsycopg, inspect.iscoroutinefunction(getattr(given, "execute", None)))
    if is_of("sqlalchemy", given) and hasattr(given, "scalar"):
        return _Family(OnSqlalchemy, is_of("sqlalchemy.ext.asyncio", given))
    if is_of("django", given) and hasattr(given, "in_atomic_block"):
        return _Family(lambda given, schema: OnPsycopg(of_django(given), schema), False)
    if is_of("tortoise", given):
        return _Family(lambda given, schema: executor_on(of_tortoise(given), schema), True)
    if is_of("piccolo.engine", given):
        return _Family(lambda given, schema: executor_on(of_piccolo(given), schema), True)
    return None


def _refuse(given: object, rule: str) -> NoReturn:
    if is_of("psycopg2", given):
        raise InvalidOption("connection", "is psycopg2's; pass one of psycopg (3), or call jobqueue.defer in SQL")
    kind = kind_of(given)
    instead = [f"; {text}" for word, text in _HAVE_NONE.items() if word in type(given).__name__.lower()]
    raise InvalidOption("connection", f"{rule}, not {kind}{''.join(instead[:1])}")
