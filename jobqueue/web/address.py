"""Where to listen: `127.0.0.1:9000`, `[::1]:9000`, `localhost:9000`."""

import errno
import os
import re
import socket
from dataclasses import dataclass, replace
from typing import Any

from jobqueue.base.errors import ConfigurationError

_WRITTEN = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+(?:%\w+)?)\]|(?P<host>[^\s:/@\[\]]+)):(?P<port>[0-9]{1,5})")
_LAST_PORT = 65_535
_BACKLOG = 64
_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""This machine, or this container, has no addresses of that family."""


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a port; port 0 is any that is free."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, count: int = 1) -> "Address":
        """The address that is written there, with room for `count` ports from it on. Raises ConfigurationError."""
        found = _WRITTEN.fullmatch(text.strip())
        if found is None:
            raise ConfigurationError(f"http: {text!r} is no address; write 127.0.0.1:9000, [::1]:9000 or name:9000")
        address = cls(found["six"] or found["host"], int(found["port"]))
        if address.of_process(count).port > _LAST_PORT:
            whose = "the port" if count == 1 else f"the port of the last of {count} processes"
            raise ConfigurationError(f"http: {whose} must be at most {_LAST_PORT}")
        return address

    def of_process(self, number: int) -> "Address":
        """Each of several processes has the next port; the first (1) this very one."""
        return replace(self, port=self.port + number - 1) if self.port else self

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def bind(self) -> list[socket.socket]:
        """A listening socket for each address of the host. Raises ConfigurationError if there is none to be had."""
        sockets: list[socket.socket] = []
        missing = None
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            for family, _, _, _, place in dict.fromkeys(found if self.port else found[:1]):
                try:
                    sockets.append(_listen(family, place))
                except OSError as error:
                    if error.errno not in _NOT_HERE:
                        raise
                    missing = error
            if missing is not None and not sockets:
                raise missing
        except (OSError, UnicodeError) as error:
            for each in sockets:
                each.close()
            raise ConfigurationError(f"http: cannot listen on {self}: {_reason(error)}") from None
        return sockets


def _listen(family: int, place: Any) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(place)
        listening.listen(_BACKLOG)
    except BaseException:
        listening.close()
        raise
    listening.setblocking(False)
    return listening


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "this is no name of a host"
