"""A connection string as psycopg takes it, which hands it to libpq."""

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from jobqueue.base.errors import ConfigurationError
from jobqueue.store.dialing.dial import CONNECT_LIMIT
from jobqueue.store.dialing.silence import COUNT, IDLE, INTERVAL, SILENCE_MS
from jobqueue.store.dialing.strings import DSN_HINT, SQLALCHEMY, tls

_SCHEME = re.compile(r"^(postgres|postgresql)(\+\w+)?://")
_KEPT_ALIVE = {
    "keepalives": 1,
    "keepalives_idle": IDLE,
    "keepalives_interval": INTERVAL,
    "keepalives_count": COUNT,
    "tcp_user_timeout": SILENCE_MS,
}


def libpq_of(dsn: str, name: str, settings: Mapping[str, str]) -> dict[str, Any]:
    """The keywords of `psycopg.connect`. What libpq does not know is for the server, as with asyncpg.

    `settings` are asked for at the start of the session. Raises ConfigurationError if it cannot be read.
    """
    from psycopg import ProgrammingError  # an extra

    if _SCHEME.match(dsn) is None:
        raise ConfigurationError(f"dsn: cannot be read, it must begin with postgresql://; {DSN_HINT}")
    with suppress(ProgrammingError, ValueError):  # its text quotes what it stumbles over: it may be of the password
        said, asked = _read(dsn)
        hosts = str(said.get("host", "")).count(",") + 1
        ours = {"application_name": name[:63], "connect_timeout": max(2, int(CONNECT_LIMIT / hosts)), **_KEPT_ALIVE}
        if hosts > 1:
            ours["target_session_attrs"] = "read-write"
        return {**ours, **said, "options": _options({**settings, **asked}, said.get("options", ""))}
    raise ConfigurationError(f"dsn: cannot be read; {DSN_HINT}, special characters as %xx")


def _read(dsn: str) -> tuple[dict[str, Any], dict[str, str]]:
    """What is said to libpq, and to the server."""
    from psycopg.conninfo import conninfo_to_dict
    from psycopg.pq import Conninfo

    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    parts = urlsplit(dsn)
    query = [tls(key, value) for key, value in parse_qsl(parts.query)]
    kept = urlencode([(key, value) for key, value in query if key in known], quote_via=quote)
    said = conninfo_to_dict(parts._replace(scheme="postgresql", query=kept).geturl())
    return said, {key: value for key, value in query if key not in known | SQLALCHEMY}


def _options(settings: Mapping[str, str], said: str) -> str:
    words = ["-c {}={}".format(key, re.sub(r"([ \\])", r"\\\1", value)) for key, value in settings.items()]
    return " ".join([*words, said]).strip()
