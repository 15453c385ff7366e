"""A name with several addresses: each gets its share of the time. The driver lets the first one that hangs have it all.

The driver asks its event loop for a connection to a name, and the certificate must be of that name. So it is the loop
that is another one while it dials.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any


class Addresses:
    """The event loop as the driver sees it: it dials one address of a name, the next one at each turn."""

    def __init__(self, answered: dict[tuple[str, int], Any]) -> None:
        """`answered`: which address of a name answered last, kept here. It is tried first."""
        self._loop = asyncio.get_running_loop()
        self._answered = answered
        self._name: tuple[str, int] | None = None
        self._found: list[tuple[Any, ...]] = []
        self._turn = -1
        self._deadline: asyncio.Timeout | None = None

    def __getattr__(self, name: str) -> Any:
        """As the loop's own, found once: the driver asks for it with every statement."""
        found = self.__dict__[name] = getattr(self._loop, name)
        return found

    @property
    def are_more(self) -> bool:
        """True if there is an address that was not tried."""
        return self._turn + 1 < len(self._found)

    def next(self, deadline: asyncio.Timeout) -> None:
        """From here on it is the next address; `deadline` is when all of them must have been tried."""
        self._turn += 1
        self._deadline = deadline
        self._share()

    def answers(self, connection: Any) -> None:
        """This address it is. The connection goes on with the event loop itself."""
        if self._name is not None:
            self._answered[self._name] = self._found[self._turn][4]
        connection._loop = self._loop  # private in asyncpg; it asks which task of its loop runs

    async def create_connection(
        self, protocol: Callable[[], Any], host: str | None = None, port: int | None = None, **how: Any
    ) -> tuple[asyncio.Transport, Any]:
        """As the event loop's own."""
        if host is None or port is None or _is_address(host):  # then there is one, and no thread need ask for it
            how |= {"host": host, "port": port}
        else:
            how["sock"] = await self._dial(host, port)
            if how.get("ssl"):
                how.setdefault("server_hostname", host)
        made: list[Any] = []

        def make() -> Any:
            made.append(protocol())
            return made[0]

        try:
            connected: tuple[asyncio.Transport, Any] = await self._loop.create_connection(make, **how)
        except BaseException:
            for each in made:  # given up before the driver could wait for it: nobody would ask for its failure
                if (answer := getattr(each, "on_data", None)) is not None:
                    answer.cancel()
            if (plug := how.get("sock")) is not None:
                plug.close()
            raise
        return connected

    async def _dial(self, host: str, port: int) -> socket.socket:
        if not 0 < port < 1 << 16:
            raise OverflowError("port")  # the resolver would take what is left of it
        if self._name is None:
            self._found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            self._name = host, port
            self._found.sort(key=lambda found: found[4] != self._answered.get((host, port)))
            self._share()
        family, kind, protocol, _, address = self._found[self._turn]
        plug = socket.socket(family, kind, protocol)
        try:
            plug.setblocking(False)
            await self._loop.sock_connect(plug, address)
        except BaseException:
            plug.close()
            raise
        return plug

    def _share(self) -> None:
        """As much of the time that is left for this address as for each one after it."""
        left = len(self._found) - self._turn
        end = None if self._deadline is None else self._deadline.when()
        if left > 1 and end is not None and self._deadline is not None:
            now = self._loop.time()
            self._deadline.reschedule(now + (end - now) / left)


def _is_address(host: str) -> bool:
    with contextlib.suppress(ValueError):
        ip_address(host)
        return True
    return False
