"""Secrets and signatures, as https://www.standardwebhooks.com says.

The secret of a webhook is an HMAC of its id and its number by a key that only the processes have: nothing is stored.
"""

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Iterable
from uuid import UUID

from jobqueue.base.errors import ConfigurationError

KEY = "JOBQUEUE_WEBHOOK_KEY"
_PREFIX = "whsec_"
_SHORTEST = 32


def secret_of(webhook: UUID, version: int) -> bytes:
    """The secret of this webhook with this number. Raises ConfigurationError unless the key is set."""
    text = os.environ.get(KEY, "")
    if len(text) < _SHORTEST:
        raise ConfigurationError(
            f"{KEY}: must be set to a random text of at least {_SHORTEST} characters, the same in all processes; the "
            "secrets of webhooks are made of it"
        )
    return hmac.digest(text.encode(), f"{webhook}.{version}".encode(), hashlib.sha256)


def secret_in(variable: str) -> bytes:
    """The secret that an environment variable has, as receivers write it. Raises ConfigurationError."""
    text = os.environ.get(variable, "").removeprefix(_PREFIX)
    try:
        secret = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if not secret:
        raise ConfigurationError(f"{variable}: must be set to the secret of a webhook, {_PREFIX} and then base64")
    return secret


def written(secret: bytes) -> str:
    """A secret as receivers take it."""
    return _PREFIX + base64.b64encode(secret).decode()


def sign(secrets: Iterable[bytes], id: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`: one signature for each secret."""
    signed = b"%s.%d.%s" % (id.encode(), timestamp, body)
    return " ".join(f"v1,{base64.b64encode(hmac.digest(each, signed, hashlib.sha256)).decode()}" for each in secrets)
