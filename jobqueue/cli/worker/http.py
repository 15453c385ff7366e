"""`worker --http`: where it listens, and serving there while a worker runs."""

import contextlib
import socket
from collections.abc import Callable, Iterator

from jobqueue.base.errors import ConfigurationError
from jobqueue.base.log import get_logger
from jobqueue.cli.terminal.failures import ExitCode, Refusal
from jobqueue.web.address import Address
from jobqueue.worker.work import Work


def address_of(text: str, processes: int = 1) -> Address:
    """What the option says, with room for a port for each process. Raises Refusal."""
    try:
        return Address.parse(text, processes)
    except ConfigurationError as error:
        raise Refusal(f"--{error}", ExitCode.USAGE) from None


def listen(address: Address) -> list[socket.socket]:
    """Sockets that listen there. Raises Refusal, as if the port is taken."""
    try:
        return address.bind()
    except ConfigurationError as error:
        raise Refusal(f"--{error}") from None


@contextlib.contextmanager
def serving(address: Address | None, find: Callable[[], Work | None]) -> Iterator[None]:
    """Serve the pages of the worker that `find` finds during the block; nothing without an address.

    Raises Refusal, and ConfigurationError if the extra is not installed.
    """
    if address is None:
        yield
        return
    from jobqueue.web.health import health_app
    from jobqueue.web.serving import Serving

    sockets = listen(address)
    serving = Serving(health_app(find), sockets)
    there = Address(address.host, sockets[0].getsockname()[1])
    serving.start()
    get_logger(__name__).info("http.listening", url=f"http://{there}")
    try:
        yield
    finally:
        serving.stop()
