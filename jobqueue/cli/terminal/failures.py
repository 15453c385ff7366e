"""What the command line says when something fails, and with which code it exits.

What a user can put right is one line. An exception out of the user's own code keeps its traceback, from their first
frame on. Nothing that is said here contains a password.
"""

import errno
import io
import os
import select
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Protocol, runtime_checkable

from jobqueue.base.errors import ConfigurationError, DatabaseError, InvalidOption, JobQueueError
from jobqueue.cli.terminal.safe_text import escaped, masked

_HERE = Path(__file__).parents[1]
_PACKAGE = _HERE.parent
_STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))
_INSTALLED = {"site-packages", "dist-packages"}
_MACHINERY = {"anyio", "asyncpg", "click", "pydantic", "pydantic_core", "structlog", "typer", "uvloop"}
"""Packages whose frames above the user's own are of no interest to them."""
_CANNOT_WRITE = {errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


class ExitCode(IntEnum):
    """How a command ended; `--help` lists them."""

    OK = 0
    ERROR = 1
    USAGE = 2
    CUT_OFF = 3
    LEFT_HARD = 4
    TIMED_OUT = 124
    INTERRUPTED = 130


class Refusal(Exception):
    """Something that the user can put right, in one line."""

    def __init__(self, text: str, code: ExitCode = ExitCode.ERROR) -> None:
        super().__init__(text)
        self.code = code


@contextmanager
def as_usage(**words: str) -> Iterator[None]:
    """Turn an InvalidOption into a Refusal that names the option of the command line; `words` has those named apart."""
    try:
        yield
    except InvalidOption as error:
        word = words.get(error.option) or f"--{error.option.replace('_', '-')}"
        raise Refusal(f"{word}: {str(error).partition(': ')[2]}", ExitCode.USAGE) from None


@contextmanager
def no_exit(when: str) -> Iterator[None]:
    """Turn a `sys.exit` of the user's own code into a Refusal: whoever supervises us must not take it for our end."""
    try:
        yield
    except SystemExit as error:
        theirs = users_part(error.__traceback__)
        place = "your own code" if theirs is None else _last_place(theirs)
        raise Refusal(f"{place} called sys.exit({error.code!r}) {when}") from None


@runtime_checkable
class WrongUsage(Protocol):
    """The errors of the command-line parser, whichever one typer brings along."""

    exit_code: int

    def format_message(self) -> str:
        """What is wrong with the words that were given."""
        ...


def tell(text: str) -> None:
    """Say one line to the user, on stderr, if that can still be written: the terminal may have been closed."""
    try:
        sys.stderr.write(f"jobqueue: {escaped(masked(text))}\n")
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # what is left would fail again at the exit


def tell_now(text: str, *, own_line: bool = True) -> None:
    """Say one line from a signal handler or a dying process: unbuffered, and not at all if nobody reads.

    `own_line`: it answers a key, after which the terminal's cursor does not stand at the beginning of a line.
    """
    with suppress(OSError, ValueError):
        number = sys.stderr.fileno()
        if select.select([], [number], [], 0)[1]:
            after_control_c = "\n" if own_line and os.isatty(number) else ""  # the terminal has just written ^C
            os.write(number, f"{after_control_c}jobqueue: {text}\n".encode())


def leave(code: ExitCode) -> NoReturn:
    """End the process at once, whatever tasks and threads still run."""
    with suppress(Exception):
        sys.stdout.flush()
        getattr(sys.stderr, "flush_last", sys.stderr.flush)()
    os._exit(code)


def write_what_it_can() -> None:
    """Have stdout write as an escape what its encoding lacks, as stderr does."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def report(error: BaseException) -> ExitCode:
    """Tell the user what failed; the exit code that goes with it."""
    error = _only_one_of(error)
    if isinstance(error, OSError) and error.errno in _CANNOT_WRITE and _was_writing(error.__traceback__):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left would fail again at the exit
        if not isinstance(error, BrokenPipeError):  # whoever read this has seen enough
            tell(f"cannot write: {error.strerror}")
        return ExitCode.ERROR
    if isinstance(error, WrongUsage):
        message = error.format_message()
        if message.startswith("Usage: "):  # no verb was given: the message is the help
            sys.stderr.write(f"{message}\n")
        else:
            tell(_one_line(message) + _where_to_read(error))
        return ExitCode.USAGE
    if isinstance(error, Refusal):
        tell(str(error))
        return error.code
    theirs = users_part(error.__traceback__)
    sentence = in_words(error) if theirs is None else None
    if sentence is not None:
        tell(sentence)
    elif theirs is not None and isinstance(error, ConfigurationError):
        tell(f"{error} ({_last_place(theirs)})")
    elif isinstance(error, SyntaxError):  # says itself where it is, and never came to a frame of theirs
        show_traceback(error, theirs)
    else:
        show_traceback(error, theirs or error.__traceback__)
    return ExitCode.ERROR


def in_words(error: BaseException, dsn: str | None = None) -> str | None:
    """One line for an error that the user can put right; None for any other. `dsn` is where it came from, if known."""
    if isinstance(error, DatabaseError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, JobQueueError):
        return str(error)
    from jobqueue.cli.terminal.database_words import describe  # drags in the driver, which most failures do not need

    return describe(error, dsn)


def show_traceback(error: BaseException, trace: TracebackType | None) -> None:
    """Write a traceback to stderr, from this frame on."""
    sys.stderr.write(masked("".join(traceback.format_exception(type(error), error, trace))))


def users_part(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame of the user's own code on; None if it never came there."""
    while trace is not None and _is_machinery(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return trace


def _is_machinery(file: str) -> bool:
    path = Path(file)
    if file.startswith("<") or path.is_relative_to(_PACKAGE):
        return True
    if not path.is_absolute():  # as compiled modules name themselves: uvloop/loop.pyx
        return bool(path.parts) and path.parts[0] in _MACHINERY
    below = [folder for parent, folder in zip(path.parts, path.parts[1:], strict=False) if parent in _INSTALLED]
    return below[0] in _MACHINERY if below else path.is_relative_to(_STANDARD_LIBRARY)


def _was_writing(trace: TracebackType | None) -> bool:
    """True if it failed in a function of the command line's own, or in rich: they only write, others reach places."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    file = Path(trace.tb_frame.f_code.co_filename)
    return file.is_relative_to(_HERE) or "rich" in file.parts


def _last_place(theirs: TracebackType) -> str:
    """Where the user's code was when it called us: the last frame that is theirs."""
    place, trace = theirs, users_part(theirs.tb_next)
    while trace is not None:
        place, trace = trace, users_part(trace.tb_next)
    return f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}"


def _only_one_of(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _one_line(message: str) -> str:
    return " ".join(message.replace("Value error, ", "").split()).rstrip(".")  # the parser says it of every choice


def _where_to_read(error: WrongUsage) -> str:
    command = getattr(getattr(error, "ctx", None), "command_path", None)
    return f"; see {command} --help" if command else ""
