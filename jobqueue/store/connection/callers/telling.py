"""What the other libraries' connections and errors are, told without an import of any."""

from typing import Any

import asyncpg

from jobqueue.store.connection.faults import DATABASE_ERRORS, Fault, classify

_IDLE = 0


def is_of(package: str, given: object) -> bool:
    """Whether its class, or one that it inherits from, is defined in this package, which may not be installed."""
    return any(f"{kind.__module__}.".startswith(f"{package}.") for kind in type(given).__mro__)


def kind_of(given: object) -> str:
    """Its class, for an error's text."""
    return f"{type(given).__module__}.{type(given).__qualname__}"


def is_in_transaction(driver: Any) -> bool:
    """Whether a connection of asyncpg's or psycopg's is inside a transaction; not if it is closed or given back."""
    if not isinstance(driver, asyncpg.Connection | asyncpg.pool.PoolConnectionProxy):
        return int(driver.info.transaction_status) != _IDLE and not driver.closed
    return getattr(driver, "_con", driver) is not None and not driver.is_closed() and driver.is_in_transaction()


def refusal(error: BaseException) -> BaseException | None:
    """That the database refuses a row, as asyncpg says it, without the row; None for any other error."""
    orig = getattr(error, "orig", None)  # SQLAlchemy's has the driver's inside; that of asyncpg is one deeper
    for one in (error, orig, getattr(orig, "__cause__", None)):
        same = as_asyncpg(one)
        if same is not None and classify(same) is Fault.BAD_DATA:
            return same
    return None


def as_asyncpg(error: BaseException | None) -> BaseException | None:
    """An error of asyncpg's or psycopg's as one of asyncpg's; None for any other, and for one without a state."""
    if isinstance(error, DATABASE_ERRORS):
        return error
    state = getattr(error, "sqlstate", None)
    if state is None or not is_of("psycopg", error):
        return None
    diag = getattr(error, "diag", None)
    fields = {"C": state, "M": "refused", "n": getattr(diag, "constraint_name", None) or ""}
    same: BaseException = asyncpg.PostgresError.new(fields)
    if classify(same) is not Fault.BAD_DATA:  # that would quote a row
        same = asyncpg.PostgresError.new(fields | {"M": getattr(diag, "message_primary", None) or str(error)})
    return same


def is_database_error(error: BaseException) -> bool:
    """Whether it comes from a database, by whichever of these libraries."""
    return isinstance(error, DATABASE_ERRORS) or any(is_of(package, error) for package in ("psycopg", "sqlalchemy.exc"))
