"""Text made fit to be shown: no passwords, no control characters, no line that pretends to be two."""

import re
from urllib.parse import urlsplit

from jobqueue.store.dialing.strings import DSN_HINT, without_secrets

_HINT = re.escape(DSN_HINT.partition(":password")[2])
_URL_PASSWORD = re.compile(rf"([\w+]+://[^\s:/@'\"]*):(?!password{_HINT})[^\s'\"]*@")
_NAMED_PASSWORD = re.compile(r"(?i)(password|passfile|pgpass|sslkey)(\s*=\s*)(\"[^\"]*\"|'[^']*'|[^\s&'\",)]+)")
_HOST = r"(?:\[[0-9a-fA-F:.]+\]|[^:,/@\[\]]*)(?::\d*)?"
_HOSTS = re.compile(f"{_HOST}(?:,{_HOST})*")
_SOCKET = re.compile(r"(?:^|&)host=([^&]*)")


def masked(text: str) -> str:
    """The text without what looks like a password, in a connection string or as `password=...`."""
    return _NAMED_PASSWORD.sub(r"\1\2***", _URL_PASSWORD.sub(r"\1:***@", text))


def escaped(text: str) -> str:
    """The text on one line: control characters, line breaks and invisible characters are written as escapes."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def shown_dsn(dsn: str) -> str:
    """User, hosts, port and database of a connection string.

    A special character that its writer forgot to quote may move half a password into another part: such a string is
    not shown at all. Neither is the query, for a misspelt `password=` in it; only the folder of a socket is.
    """
    try:
        parts = urlsplit(dsn)
    except ValueError:
        return "the given connection string"
    hosts = parts.netloc.rpartition("@")[2]
    rest = parts.path + parts.query + parts.fragment
    if parts.scheme.partition("+")[0] not in {"postgresql", "postgres"} or "@" in rest or not _HOSTS.fullmatch(hosts):
        return "the given connection string"
    folder = _SOCKET.search(parts.query)
    socket = f"?host={folder[1]}" if folder and not hosts else ""
    return escaped(without_secrets(f"{parts.scheme}://{parts.netloc}{parts.path}") + socket)


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode() if ord(char) < 0xD800 or ord(char) > 0xDFFF else f"\\u{ord(char):04x}"
