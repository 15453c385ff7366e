"""One open connection, below its statements: is it there, does the network carry it, and how it is ended."""

import asyncio
import contextlib
import socket
from asyncio.trsock import TransportSocket
from typing import Any

import anyio
import asyncpg

from jobqueue.store.dialing.silence import COUNT, IDLE, INTERVAL, SILENCE_MS

_OPTIONS = {"TCP_KEEPIDLE": IDLE, "TCP_KEEPINTVL": INTERVAL, "TCP_KEEPCNT": COUNT, "TCP_USER_TIMEOUT": SILENCE_MS}
_CANCEL_REQUEST_LIMIT = 0.25


def keep_alive(connection: Any) -> None:
    """Notice a cut network after about 11 s of silence (measured), instead of 15 minutes. asyncpg leaves that to us."""
    transport = getattr(connection, "_transport", None)  # private in asyncpg, so its absence is tolerated
    plug = transport.get_extra_info("socket") if transport is not None else None
    if plug is None or plug.family not in (socket.AF_INET, socket.AF_INET6):
        return
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _OPTIONS.items():
        if hasattr(socket, option):
            plug.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def is_lost(connection: Any) -> bool:
    """True once the connection is closed. asyncpg takes a broken one from its holder, who cannot even ask then."""
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:
        return True


async def stop_and_cut(connection: Any) -> None:
    """End a connection whose statement was cut off, but let the server know first.

    It would not notice by itself: a statement that waits for a lock would go on waiting, and commit in the end.
    """
    inner = getattr(connection, "_con", connection)
    with anyio.move_on_after(_CANCEL_REQUEST_LIMIT, shield=True):
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # by now asyncpg has sent its request on the way, in a task
        requests = getattr(inner, "_cancellations", None)  # private in asyncpg, so its absence is tolerated
        if requests:
            await asyncio.wait(set(requests))
    cut(connection)


def cut(connection: Any) -> None:
    """End a connection at once, in whatever state it is."""
    with contextlib.suppress(asyncpg.InterfaceError):
        connection.terminate()


def hang_up(connection: Any) -> None:
    """End a connection as a cut network would, so that whoever waits for its answer gets an error that all survive.

    asyncpg's `terminate` is for who holds it: below a statement of somebody else's it ends in an AttributeError there.
    """
    transport = getattr(getattr(connection, "_con", connection), "_transport", None)  # private in asyncpg: as above
    if transport is not None:
        transport.abort()


def unplug(connection: Any) -> None:
    """End a connection whose event loop is closed: all that asyncpg has for this needs the loop.

    Only of asyncio's own transports; other loops end theirs when they are closed, and the descriptor may be another's.
    """
    transport = getattr(connection, "_transport", None)
    plug = transport.get_extra_info("socket") if isinstance(transport, asyncio.Transport) else None
    if isinstance(plug, TransportSocket):
        with contextlib.suppress(OSError):
            plug.shutdown(socket.SHUT_RDWR)
