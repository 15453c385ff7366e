"""Errors in words, and where the user's part of a traceback begins."""

import socket
import ssl

import asyncpg
import pytest

from jobqueue.base.errors import NotMigrated
from jobqueue.cli.terminal.failures import in_words, tell, users_part
from jobqueue.store.dialing.strings import DSN_HINT

DSN = "postgresql://me:geheim@host/shop"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (asyncpg.InvalidPasswordError("x"), "the password was refused"),
        (asyncpg.InvalidAuthorizationSpecificationError("x"), "this user may not connect"),
        (asyncpg.InvalidCatalogNameError("x"), "there is no such database"),
        (asyncpg.TooManyConnectionsError("x"), "no free connection"),
        (asyncpg.CannotConnectNowError("x"), "starting up"),
        (asyncpg.ReadOnlySQLTransactionError("x"), "read-only"),
        (
            asyncpg.InsufficientPrivilegeError("permission denied for table job"),
            "lacks a right: table job; see `grant`",
        ),
        (asyncpg.InsufficientPrivilegeError("geheim"), "lacks a right; see `grant`"),
        (asyncpg.UndefinedObjectError('unrecognized configuration parameter "geheime"'), 'know: parameter "geheime"'),
        (asyncpg.ObjectNotInPrerequisiteStateError('cannot delete from table "job"'), 'forbids it: table "job"'),
        (asyncpg.TargetServerAttributeNotMatched("x"), "none of its hosts takes writes"),
        (asyncpg.DuplicatePreparedStatementError("x"), "JOBQUEUE_POOLER=transaction"),
        (asyncpg.LockNotAvailableError("x"), "somebody has locked"),
        (asyncpg.DiskFullError("x"), "its disk is full"),
        (ConnectionRefusedError(111, "x"), "the connection was refused"),
        (
            OSError("Multiple exceptions: [Errno 111] Connect call failed ('::1', 1, 0, 0)"),
            "the connection was refused",
        ),
        (socket.gaierror(-2, "x"), "its host name is unknown"),
        (FileNotFoundError(2, "x"), "no server listens on this socket"),
        (TimeoutError(), "no answer in time"),
        (ssl.SSLError("x"), "no encrypted connection"),
        (ConnectionResetError(104, "x"), "the connection failed (ConnectionResetError)"),
    ],
)
def test_database_errors_say_what_to_do(error: Exception, words: str) -> None:
    """Each error is one line that names the place, and nothing of the error's own text."""
    sentence = in_words(error, DSN)

    assert sentence is not None
    assert sentence.startswith("cannot work with postgresql://me:***@host/shop: ")
    assert words in sentence


def test_a_mistaken_parameter_is_named() -> None:
    """Who wrote `sslmode=verify-full` without a certificate is not told to quote special characters."""
    error = asyncpg.ClientConfigurationError('root certificate file "/geheim/root.crt" does not exist or ...')

    assert (
        "the connection string has a mistake in sslmode: verify-ca and verify-full need sslrootcert=FILE, or "
        "sslrootcert=system"
    ) == in_words(error, DSN)


def test_a_dsn_that_cannot_be_read_is_not_repeated() -> None:
    """The driver quotes parts of it; we do not."""
    sentence = in_words(ValueError("invalid literal for int() with base 10: 'geheim'"), DSN)

    assert sentence is not None
    assert "the connection string cannot be read" in sentence
    assert "geheim" not in sentence


def test_the_form_that_is_right_is_not_masked(capsys: pytest.CaptureFixture[str]) -> None:
    """Where the password goes is said in the open; a real one is not."""
    tell(f"use {DSN_HINT}, not {DSN}")

    assert f"jobqueue: use {DSN_HINT}, not postgresql://me:***@host/shop\n" == capsys.readouterr().err


def test_our_own_errors_speak_for_themselves() -> None:
    """An error of the library is its own sentence; a stranger's is none."""
    assert str(NotMigrated("jobqueue", 1)) == in_words(NotMigrated("jobqueue", 1))
    assert in_words(KeyError("x")) is None


def test_the_user_s_part_begins_with_their_frame() -> None:
    """Frames of ours and of the standard library before it are left out; without one of theirs nothing is left."""
    with pytest.raises(LookupError) as theirs:
        in_words(Talkative())
    with pytest.raises(LookupError) as ours:
        "".encode("no such codec")

    part = users_part(theirs.tb)
    assert part is not None
    assert __file__ == part.tb_frame.f_code.co_filename
    assert users_part(ours.tb) is ours.tb


class Talkative(NotMigrated):
    """An error that fails while it is put into words."""

    def __init__(self) -> None:
        super().__init__("jobqueue", 1)

    def __str__(self) -> str:
        raise LookupError
