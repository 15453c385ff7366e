"""Connection strings: shown without their secrets, and their faults told without them."""

import re
from urllib.parse import unquote

from jobqueue.base.errors import ConfigurationError, JobQueueError
from jobqueue.store.connection.pool import DSN_HINT

_QUERY_SECRET = re.compile(r"(?i)((?:password|passfile|sslkey|sslpassword)=)[^&\s]*")
_USER = re.compile(r"(?s)^(\w+://)([^:@/?#]*)(:.*)?@")  # to the last @: a password may have one that nobody quoted


def without_secrets(dsn: str) -> str:
    """The DSN as it may be shown or logged: user, host, port and database, never a password."""
    return _QUERY_SECRET.sub(r"\1***", _USER.sub(_shown_user, dsn))


def _shown_user(found: re.Match[str]) -> str:
    return f"{found[1]}{unquote(found[2])}{':***' if found[3] else ''}@"


def fault_of_dsn(error: BaseException, dsn: str | None) -> ConfigurationError | None:
    """What is raised instead if a connection failed because its DSN cannot be read; else the place is noted on `error`.

    The driver's own text quotes the part that it stumbles over, which may be one of the password.
    """
    if isinstance(error, ValueError | OverflowError) and not isinstance(error, JobQueueError):
        return ConfigurationError(
            f"dsn: cannot be read ({type(error).__name__}); {DSN_HINT}, special characters as %xx"
        )
    if isinstance(error, OSError) and dsn is not None:
        error.add_note(f"while connecting to {without_secrets(dsn)}")
    return None
