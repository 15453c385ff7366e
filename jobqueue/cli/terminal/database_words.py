"""Errors of the database and the network in words that say what to do. None of them quotes a row or a password."""

import socket
import ssl

from jobqueue.cli.terminal.safe_text import shown_dsn
from jobqueue.store.connection.faults import DATABASE_ERRORS, brief
from jobqueue.store.dialing.strings import DSN_HINT

_BY_STATE = {
    "28P01": "the password was refused",
    "28000": "this user may not connect; see pg_hba.conf and `create role`",
    "3D000": "there is no such database; create it first, for example with createdb",
    "3F000": "the schema is missing; run `python -m jobqueue migrate up`",
    "25006": "this server is read-only; give the address of the primary",
    "42501": "this user lacks a right it needs; see `grant`",
    "42704": "the connection string has a parameter that PostgreSQL does not know",
    "53300": "the server has no free connection; raise max_connections, or run fewer workers",
    "57P03": "the server is starting up or shutting down; try again",
}


def describe(error: BaseException, dsn: str | None) -> str | None:
    """One line for an error of the database; None for any other."""
    if isinstance(error, ValueError) and (dsn is not None or isinstance(error, DATABASE_ERRORS)):
        return f"the connection string cannot be read; {DSN_HINT}, special characters as %xx"
    if not isinstance(error, DATABASE_ERRORS):
        return None
    place = "the database" if dsn is None else shown_dsn(dsn)
    return f"cannot work with {place}: {_fault(error)}"


def _fault(error: BaseException) -> str:
    state = getattr(error, "sqlstate", None)
    if state is not None:
        return _BY_STATE.get(state) or f"PostgreSQL answered with {brief(error)}"
    if isinstance(error, ConnectionRefusedError) or "Connect call failed" in str(error):
        return "the connection was refused; is PostgreSQL running there?"
    if isinstance(error, socket.gaierror):
        return "its host name is unknown"
    if isinstance(error, FileNotFoundError):
        return "no server listens on this socket"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLError) or "SSL" in str(error):
        return "no encrypted connection could be made; see sslmode="
    return f"the connection failed ({brief(error)})"
