"""Connection strings as users have them: read, checked, and shown without their secrets.

What libpq knows and the driver does not is left out where this library does the same by itself, and named in one
sentence where it cannot. Only names of parameters are quoted: any other part may be one of the password.
"""

import os
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from jobqueue.base.errors import ConfigurationError, JobQueueError

DSN_HINT = "use the form postgresql://user:password@host:5432/database"

_QUERY_SECRET = re.compile(r"(?i)((?:password|passfile|sslkey|sslpassword)=)[^&\s]*")
_USER = re.compile(r"(?s)^([\w+]+://)([^:@/?#]*)(:.*)?@")  # to the last @: a password may have one that nobody quoted
_SCHEME = re.compile(r"^(postgres|postgresql)(\+\w+)?://")
_HOST = re.compile(r"(\[[^\]]*\]|[^:]*)(?::(\d+))?")

_DONE_BY_US = {
    "client_encoding", "connect_timeout", "fallback_application_name", "keepalives", "keepalives_count",
    "keepalives_idle", "keepalives_interval", "tcp_user_timeout",
}  # fmt: skip
SQLALCHEMY = {"async_fallback", "prepared_statement_cache_size", "prepared_statement_name_func"}
_NOTHING_LOST = {
    "channel_binding": {"disable", "prefer"},
    "gssdelegation": {"0"},
    "gssencmode": {"disable", "prefer"},
    "load_balance_hosts": {"disable"},
    "sslcertmode": {"allow", "disable"},
    "sslcompression": {"0"},
    "sslsni": {"1"},
}
"""With these values the parameter asks for no more than the driver does without it."""
_WAYS_OUT = {
    "channel_binding": "to know whom you talk to, use sslmode=verify-full",
    "gssencmode": "encrypt by sslmode=require",
    "hostaddr": "give the address as the host",
    "sslcrldir": "give one file, by sslcrl",
}
_REFUSED = {
    "root certificate": "sslmode: verify-ca and verify-full need sslrootcert=FILE, or sslrootcert=system",
    "direct TLS": "sslnegotiation: direct needs sslmode=require, verify-ca or verify-full",
    "sslnegotiation": "sslnegotiation: must be postgres or direct",
    "sslmode": "sslmode: must be disable, allow, prefer, require, verify-ca or verify-full",
    "target_session_attrs": "target_session_attrs: must be any, primary, standby, read-write and the like",
    "TLS version": "ssl_min_protocol_version, ssl_max_protocol_version: must be TLSv1, TLSv1.1, TLSv1.2 or TLSv1.3",
    "port numbers": "port: must be one, or one for each host",
}
"""What to say where the driver's own text, which may quote a password, has such words."""
_UNKNOWN_TO_THE_DRIVER = {*_NOTHING_LOST, *_WAYS_OUT, "replication", "require_auth", "requirepeer"}


class SqlalchemyUrl(Protocol):
    """SQLAlchemy's `URL`. Its text as such has asterisks in place of the password."""

    def render_as_string(self, hide_password: bool = True) -> str:
        """The whole text."""
        ...


class PydanticUrl(Protocol):
    """pydantic's `PostgresDsn`."""

    def unicode_string(self) -> str:
        """The whole text."""
        ...


AnyUrl: TypeAlias = str | SqlalchemyUrl | PydanticUrl


@dataclass(frozen=True, slots=True)
class Address:
    """What a connection string says."""

    dsn: str
    """For the driver."""
    hosts: tuple[tuple[str, int | None], ...] = ()
    """Each one with its port, if there are several."""
    limit: float | None = None
    """Seconds for each host to answer."""
    trusts_system: bool = False
    """Certificates are checked with those that the operating system has."""
    session: str | None = None
    """What kind of server is looked for."""


def missing_file(dsn: str) -> ConfigurationError | None:
    """What is raised for a file that the string, or the environment as for libpq, names and that is not there."""
    said = dict(parse_qsl(urlsplit(dsn).query))
    for name in ("sslrootcert", "sslcert", "sslkey", "sslcrl"):
        file = said.get(name) or os.environ.get(f"PG{name.upper()}")
        if file and file != "system" and not os.path.isfile(file):
            return ConfigurationError(f"dsn: {name}: there is no file {file}")
    return None


def text_of(given: AnyUrl) -> str:
    """The text of a connection string, whatever it was given as. Raises ConfigurationError."""
    if isinstance(given, str):
        return given
    for name, options in (("render_as_string", {"hide_password": False}), ("unicode_string", {})):
        render = getattr(given, name, None)
        if callable(render):
            return str(render(**options))
    raise ConfigurationError(f"dsn: must be a connection string, not {type(given).__name__}; {DSN_HINT}")


def address_of(dsn: str) -> Address:
    """What it says. Raises ConfigurationError if the driver could not do what is asked, ValueError if it is no URL."""
    scheme = _SCHEME.match(dsn)
    if scheme is None:
        raise ConfigurationError(f"dsn: cannot be read, it must begin with postgresql://; {DSN_HINT}")
    parts = urlsplit(dsn)
    query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    kept = list(_kept(query))
    said = dict(query)
    trusts_system = said.get("sslrootcert") == "system"
    if trusts_system:
        kept = [(name, value) for name, value in kept if name not in ("sslrootcert", "sslmode")]
    unchanged = kept == query and not scheme[2]
    clean = parts._replace(scheme=scheme[1], query=urlencode(kept, quote_via=quote))
    limit = said.get("connect_timeout", "0")
    return Address(
        dsn if unchanged else clean.geturl(),
        _several(parts, query),
        float(limit) if re.fullmatch(r"[1-9]\d*", limit) else None,
        trusts_system,
        said.get("target_session_attrs"),
    )


def _kept(query: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for name, value in query:
        if name in _DONE_BY_US or name in SQLALCHEMY or value in _NOTHING_LOST.get(name, ()):
            continue
        if name in _UNKNOWN_TO_THE_DRIVER:
            way_out = f"; {_WAYS_OUT[name]}" if name in _WAYS_OUT else ""
            raise ConfigurationError(f"dsn: the driver cannot do what {name}= asks for: leave it out{way_out}")
        yield tls(name, value)


def tls(name: str, value: str) -> tuple[str, str]:
    """`ssl`, SQLAlchemy's word, as libpq's; `ssl=true`, JDBC's, means what libpq takes it for."""
    return ("sslmode", "require" if value == "true" else value) if name == "ssl" else (name, value)


def _several(parts: SplitResult, query: list[tuple[str, str]]) -> tuple[tuple[str, int | None], ...]:
    spec = parts.netloc.rpartition("@")[2] or ",".join(value for name, value in query if name == "host")
    ports = [port for name, value in query if name == "port" for port in value.split(",")]
    hosts = []
    for place, one in enumerate(spec.split(",")):
        name, port = (one, None) if one.startswith("/") else _host(one)
        if port is None and ports:
            port = int(ports[min(place, len(ports) - 1)])
        hosts.append((name, port))
    return tuple(hosts) if len(hosts) > 1 else ()


def _host(spec: str) -> tuple[str, int | None]:
    found = _HOST.fullmatch(spec)
    if found is None:
        raise ValueError("a host that cannot be read")
    return unquote(found[1].strip("[]")), int(found[2]) if found[2] else None


def without_secrets(dsn: str) -> str:
    """The DSN as it may be shown or logged: user, host, port and database, never a password."""
    return _QUERY_SECRET.sub(r"\1***", _USER.sub(_shown_user, dsn))


def _shown_user(found: re.Match[str]) -> str:
    return f"{found[1]}{unquote(found[2])}{':***' if found[3] else ''}@"


def mistaken_parameter(error: BaseException) -> str | None:
    """Which parameter of a connection string the driver would not take, and what it must be, if it said so."""
    if type(error).__name__ != "ClientConfigurationError":
        return None
    return next((_REFUSED[words] for words in _REFUSED if words in str(error)), None)


def fault_of_dsn(error: BaseException, dsn: str | None) -> ConfigurationError | None:
    """What is raised instead if a connection failed because its DSN cannot be read; else the place is noted on `error`.

    The driver's own text quotes the part that it stumbles over, which may be one of the password.
    """
    if isinstance(error, ValueError | OverflowError) and not isinstance(error, JobQueueError | ssl.SSLError):
        if told := mistaken_parameter(error):
            return ConfigurationError(f"dsn: {told}")
        return ConfigurationError(
            f"dsn: cannot be read ({type(error).__name__}); {DSN_HINT}, special characters as %xx"
        )
    if isinstance(error, OSError) and dsn is not None:
        error.add_note(f"while connecting to {without_secrets(dsn)}")
    return None
