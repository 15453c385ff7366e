"""Where a delivery may go: addresses are checked in the moment that they are dialled.

Whoever may set a webhook chooses a name, and what it resolves to later. So nothing but the place that opens the
connection can decide: it resolves, refuses, and dials what it has checked. No redirect is followed, no proxy asked,
nothing unpacked.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, TypeAlias

import anyio
import httpcore

from jobqueue.base.settings import Networks

Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]

_BODY = 20 << 10
_COURTESY = 2.0
"""Seconds that a receiver gets to end its answer, which nobody reads, once its status is known."""
_DIAL = 5.0
"""Seconds for each of several addresses."""
_NESTED = tuple(map(IPv6Network, ("::/96", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16", "fec0::/10")))
"""Networks whose addresses hold others inside, or are of a site: no public receiver lives there."""


class Forbidden(Exception):
    """Raised when a name leads where no delivery may go. Tells no address: whoever set the URL may read it."""

    def __init__(self) -> None:
        super().__init__("the address is not a public one, or not https; webhook_networks allows more")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver answered."""

    status: int
    retry_after: str | None


async def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of a name, in the order to try them."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class Dialler(httpcore.AsyncNetworkBackend):
    """Opens connections to addresses that are allowed, and to no others."""

    def __init__(self, networks: Networks, *, secure: bool, resolve: Resolve = resolve) -> None:
        """`secure`: the connection will be encrypted, so that public addresses are allowed."""
        self._networks = [ip_network(network) for network in networks]
        self._secure = secure
        self._resolve = resolve
        self._under = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first of its addresses that answers. Raises Forbidden unless all may be called."""
        addresses = list(dict.fromkeys(await self._resolve(host, port)))
        if not addresses or not all(self._allows(address) for address in addresses):
            raise Forbidden
        failure: Exception | None = None
        for address in addresses:
            try:
                return await self._under.connect_tcp(address, port, _DIAL, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        assert failure is not None  # noqa: S101 - there was an address
        raise failure

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Never."""
        raise Forbidden

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        await anyio.sleep(seconds)

    def _allows(self, text: str) -> bool:
        try:
            address = _innermost(ip_address(text.partition("%")[0]))
        except ValueError:
            return False
        named = any(address in network for network in self._networks if network.version == address.version)
        return named or (self._secure and is_public(address))


def _innermost(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether everybody can call it: not private, shared, loopback, link-local, multicast, reserved or unspecified."""
    address = _innermost(address)
    if isinstance(address, IPv6Address) and any(address in network for network in _NESTED):
        return False
    return address.is_global and not (
        address.is_multicast or address.is_reserved or address.is_unspecified or address.is_loopback
        or address.is_link_local or address.is_private
    )  # fmt: skip


async def post(
    url: str, headers: Mapping[str, str], body: bytes, networks: Networks, resolve: Resolve = resolve
) -> Answer:
    """Post once, on a connection of its own, and give the status. The caller limits the time.

    Raises Forbidden, and what the connection raises: OSError, and the errors of httpcore.
    """
    dialler = Dialler(networks, secure=url.startswith("https:"), resolve=resolve)
    async with (
        httpcore.AsyncConnectionPool(ssl_context=_trusted(), network_backend=dialler) as pool,
        pool.stream("POST", url, headers=list(headers.items()), content=body) as response,
    ):
        with anyio.move_on_after(_COURTESY), contextlib.suppress(httpcore.NetworkError, httpcore.ProtocolError):
            await _read_some(response)
        told = next((value for name, value in response.headers if name.lower() == b"retry-after"), None)
        return Answer(response.status, None if told is None else told.decode("latin-1"))


async def _read_some(response: httpcore.Response) -> None:
    size = 0
    async for piece in response.aiter_stream():
        size += len(piece)
        if size >= _BODY:
            return


@cache
def _trusted() -> ssl.SSLContext:
    """The system's authorities; making it takes 20 ms."""
    return ssl.create_default_context()


CONNECTION_ERRORS = (OSError, TimeoutError, httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError)
"""All that a receiver, or the way to it, can do to a delivery."""
NO_URL = (ValueError, httpcore.UnsupportedProtocol)
"""What it is that cannot be called: no URL at all, or a host that can be no name, such as one with 64 letters."""
