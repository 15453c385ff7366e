"""What each database error means and what to do about it: the one table that every loop uses.

| Fault | seen as | what the caller does |
|---|---|---|
| UNKNOWN | connection lost or timed out in mid-statement | the same write again with the same token |
| AWAY | refused, starting up, shutting down, full, no primary | wait with growing, jittered delays; keep results |
| CONFLICT | serialisation failure, deadlock, lock or statement timeout | again soon, perhaps a smaller batch |
| READ_ONLY | write refused: a standby, or a demoted primary | throw away every pooled connection, then as AWAY |
| BAD_DATA | the row cannot be stored, whoever tries | only this job or this call fails; never retry the batch whole |
| NO_PARTITION | a finish met a day without a partition | make it, once |
| SETUP | a right is missing, or a table is set up so that it cannot be written | say which; wait, as AWAY |
| SCHEMA | table, column or function missing or changed | check the schema version, then as AWAY or stop |
| OURS | anything else: an error of this library | log it; do not loop |
"""

import re
import socket
import ssl
from enum import Enum, auto

import asyncpg

from jobqueue.base.errors import InvalidPayload


class Fault(Enum):
    """The kinds of database errors, by what follows from them."""

    UNKNOWN = auto()
    AWAY = auto()
    CONFLICT = auto()
    READ_ONLY = auto()
    BAD_DATA = auto()
    NO_PARTITION = auto()
    SETUP = auto()
    SCHEMA = auto()
    OURS = auto()


class UnreadableAnswer(Exception):
    """Raised when a value in an answer is one that Python cannot hold: the row was made past our checks."""

    def __init__(self, statement: str) -> None:
        super().__init__(f"{statement}: a value in the answer cannot be read")


class NotConnected(ConnectionError):
    """Raised when libpq made no connection: nothing was sent. Only its text says why."""


DATABASE_ERRORS = (
    asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError, UnreadableAnswer,
)  # fmt: skip
"""All that a call of this room can raise because of the database, the network or the data."""

NoPrimary = asyncpg.TargetServerAttributeNotMatched
"""Raised when every host that answers is a standby."""
LockTimeout = asyncpg.LockNotAvailableError
"""Raised when somebody has had for too long what was to be locked; nothing was done."""

CUT_SHORT = (asyncpg.QueryCanceledError, TimeoutError)
"""A statement took longer than it may, as the server sees it or we do."""

Deadlock = asyncpg.DeadlockDetectedError
"""Raised to one of two transactions that wait for each other; it was undone."""

_BY_STATE = {
    "25006": Fault.READ_ONLY,
    "40001": Fault.CONFLICT,
    "40P01": Fault.CONFLICT,
    "55P03": Fault.CONFLICT,
    "57014": Fault.CONFLICT,
    "57P01": Fault.AWAY,
    "57P02": Fault.AWAY,
    "57P03": Fault.AWAY,
    "55000": Fault.SETUP,
    "42501": Fault.SETUP,
    "54000": Fault.BAD_DATA,
    "54001": Fault.BAD_DATA,
    "0A000": Fault.SCHEMA,
    "42703": Fault.SCHEMA,
    "42P01": Fault.SCHEMA,
    "42883": Fault.SCHEMA,
    "3F000": Fault.SCHEMA,
}
_NAMING = {"42501", "42704", "42P01", "55000"}
_OBJECT = re.compile(
    r"(?:table|relation|sequence|function|schema|database|role|type|view|parameter) \"?[A-Za-z_][\w.]{0,120}\"?"
)
_BY_CLASS = {
    "08": Fault.UNKNOWN,
    "22": Fault.BAD_DATA,
    "23": Fault.BAD_DATA,
    "28": Fault.AWAY,
    "53": Fault.AWAY,
    "57": Fault.AWAY,
    "58": Fault.AWAY,
}


def classify(error: BaseException) -> Fault:
    """The kind of one error raised by this room."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        if state == "23514" and error.constraint_name is None:
            return Fault.NO_PARTITION  # "no partition of relation found for row" shares the code of a failed check
        if state == "55000" and error.severity == "FATAL":
            return Fault.AWAY  # the database takes no connections now
        if state == "54000" and error.server_source_filename == "async.c":
            return Fault.AWAY  # the notification queue is full: nothing is wrong with the rows
        return _BY_STATE.get(state) or _BY_CLASS.get(state[:2], Fault.OURS)
    if isinstance(error, asyncpg.InterfaceError):
        # asyncpg refuses a value before sending it (DataError is both), or finds its connection closed
        return Fault.BAD_DATA if isinstance(error, ValueError) else Fault.UNKNOWN
    nowhere = NotConnected | ConnectionRefusedError | FileNotFoundError | socket.gaierror | ssl.SSLCertVerificationError
    if isinstance(error, nowhere | NoPrimary) or _all_addresses_failed(error):
        return Fault.AWAY
    # An InternalClientError: asyncpg stumbles when a connection ends in the wrong moment
    if isinstance(error, OSError | TimeoutError | asyncpg.InternalClientError):
        return Fault.UNKNOWN
    return Fault.OURS


def _all_addresses_failed(error: BaseException) -> bool:
    """A name with several addresses, `localhost` for one, and none of them took the connection: nothing was sent."""
    return type(error) is OSError and error.errno is None and str(error).startswith("Multiple exceptions")


def brief(error: BaseException) -> str:
    """The error in words that are safe to log: class, SQLSTATE and object, never the detail, which quotes rows."""
    words = (type(error).__name__, getattr(error, "sqlstate", None), object_of(error))
    return " ".join(word for word in words if word)


def object_of(error: BaseException) -> str | None:
    """The table, function or parameter that an error is about. Only of such errors as quote nothing else."""
    if getattr(error, "sqlstate", None) not in _NAMING:
        return None
    found = _OBJECT.search(str(error.args[0]))
    return found[0] if found else None


def refused_row(task: str, error: BaseException) -> InvalidPayload:
    """What a caller is told when the database refuses a job: the rule that failed, never the row."""
    rule = getattr(error, "constraint_name", None) or brief(error)
    return InvalidPayload(f"{task} job", "", "refused", f"the database refused it ({rule})")
