"""Whose command line this is, as the audit has it: `cli:ada@host`."""

import getpass
import socket

from jobqueue.base.acting.audit import By

_LONGEST = 99


def this_user() -> By:
    """The user of this system, whatever it calls him, and this host. No proof of who it is: whoever runs it may lie."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number that has no name
        user = ""
    return By(f"{_clean(user)}@{_clean(socket.gethostname())}", via="cli")


def _clean(name: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in name)[:_LONGEST] or "?"
