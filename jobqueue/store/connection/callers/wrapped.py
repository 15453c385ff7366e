"""The driver's connection in what Django, Tortoise and Piccolo call a connection or transaction.

They are taken only inside a transaction: whoever gives one means to join it, and with all three it is easily left out.
"""

from typing import Any

from jobqueue.base.errors import InvalidOption
from jobqueue.store.connection.callers.telling import is_in_transaction, is_of, kind_of


def of_tortoise(given: Any) -> Any:
    """The connection of what `in_transaction` gives. Raises InvalidOption outside a transaction."""
    ended = getattr(given, "_finalized", True)  # only a transaction has it
    return _inside(given, None if ended else given._connection, "async with in_transaction() as tx:")


def of_piccolo(given: Any) -> Any:
    """The connection of what `DB.transaction()` gives. Raises InvalidOption outside a transaction."""
    return _inside(given, getattr(given, "connection", None), "async with DB.transaction() as transaction:")


def of_django(given: Any) -> Any:
    """psycopg's connection of Django's. Raises InvalidOption outside `atomic()`, and on another driver."""
    if given.vendor != "postgresql":
        raise InvalidOption("connection", f"is Django's to {given.vendor}; pass connections[alias] of PostgreSQL")
    if not given.in_atomic_block and given.get_autocommit():
        raise InvalidOption(
            "connection", "is Django's outside a transaction; pass it inside `with transaction.atomic():`, or pass none"
        )
    given.ensure_connection()
    if not is_of("psycopg", given.connection):
        raise InvalidOption(
            "connection",
            "is Django's on psycopg2; install psycopg (3), which Django then takes, or call jobqueue.defer in SQL",
        )
    return given.connection


def _inside(given: object, driver: Any, block: str) -> Any:
    if driver is None or not is_in_transaction(driver):
        raise InvalidOption(
            "connection", f"is outside a transaction ({kind_of(given)}); pass what `{block}` gives, inside its block"
        )
    return driver
