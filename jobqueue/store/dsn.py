"""Connection strings: shown without their secrets."""

import re
from urllib.parse import unquote, urlsplit

_QUERY_SECRET = re.compile(r"(?i)((?:password|passfile|sslkey|sslpassword)=)[^&\s]*")


def without_secrets(dsn: str) -> str:
    """The DSN as it may be shown or logged: user, host, port and database, never a password."""
    masked = _QUERY_SECRET.sub(r"\1***", dsn)
    parts = urlsplit(masked)
    if not parts.scheme or "@" not in parts.netloc:
        return masked
    user, host = parts.netloc.rsplit("@", 1)
    name = user.split(":", 1)[0]
    return masked.replace(f"{user}@{host}", f"{unquote(name)}{':***' if ':' in user else ''}@{host}", 1)
