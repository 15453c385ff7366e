"""Errors of the database and the network in words that say what to do. None of them quotes a row or a password."""

import socket
import ssl

from jobqueue.cli.terminal.safe_text import shown_dsn
from jobqueue.store.connection.faults import DATABASE_ERRORS, Fault, NoPrimary, brief, classify, object_of
from jobqueue.store.dialing.strings import DSN_HINT, mistaken_parameter

_BY_STATE = {
    "08P01": "what stands there refuses a parameter of the connection string, or does not speak as PostgreSQL does",
    "26000": "a transaction pooler stands before it; set JOBQUEUE_POOLER=transaction",
    "28P01": "the password was refused",
    "28000": "this user may not connect; see pg_hba.conf and `create role`",
    "3D000": "there is no such database; create it first, for example with createdb",
    "3F000": "the schema is missing; run `python -m jobqueue migrate up`",
    "42P05": "a transaction pooler stands before it; set JOBQUEUE_POOLER=transaction",
    "25006": "this server is read-only; give the address of the primary",
    "53100": "its disk is full",
    "53300": "the server has no free connection; raise max_connections, or run fewer workers",
    "55P03": "somebody has locked what this needs; try again",
    "57014": "it took too long, or was cancelled there",
    "57P03": "the server is starting up or shutting down; try again",
}
_WITH_OBJECT = {
    "42501": "this user lacks a right{}; see `grant`",
    "42704": "the connection string has a parameter that PostgreSQL does not know{}",
    "42P01": "something is missing there{}; run `python -m jobqueue migrate up`",
    "55000": "what is set there forbids it{}; a publication for all tables needs a replica identity",
}


def describe(error: BaseException, dsn: str | None) -> str | None:
    """One line for an error of the database; None for any other."""
    if isinstance(error, ValueError) and not isinstance(error, ssl.SSLError):
        if classify(error) is Fault.BAD_DATA and dsn is None:
            return f"the data cannot be stored: {brief(error)}"
        if told := mistaken_parameter(error):
            return f"the connection string has a mistake in {told}"
        if dsn is not None or isinstance(error, DATABASE_ERRORS):
            return f"the connection string cannot be read; {DSN_HINT}, special characters as %xx"
    if not isinstance(error, DATABASE_ERRORS):
        return None
    place = "the database" if dsn is None else shown_dsn(dsn)
    return f"cannot work with {place}: {_fault(error)}"


def _fault(error: BaseException) -> str:
    state = getattr(error, "sqlstate", None)
    if state in _WITH_OBJECT:
        about = object_of(error)
        return _WITH_OBJECT[state].format(f": {about}" if about else "")
    if state is not None:
        return _BY_STATE.get(state) or f"PostgreSQL answered with {brief(error)}"
    if isinstance(error, NoPrimary):
        return "none of its hosts takes writes; one must be the primary"
    return _fault_of_network(error)


def _fault_of_network(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        why = getattr(error, "verify_message", "")
        return f"its certificate was refused ({why}); see sslrootcert=, and the name of the host"
    if isinstance(error, ssl.SSLError) or "SSL" in str(error):
        return "no encrypted connection could be made; see sslmode="
    if isinstance(error, ConnectionRefusedError) or "Connect call failed" in str(error):
        return "the connection was refused; is PostgreSQL running there?"
    if isinstance(error, socket.gaierror):
        return "its host name is unknown"
    if isinstance(error, FileNotFoundError):
        return "no server listens on this socket"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return f"the connection failed ({brief(error)})"
