"""Where pages are served: how an address is written, and what keeps one from being had."""

import socket
from contextlib import closing

import pytest

from jobqueue.base.errors import ConfigurationError
from jobqueue.web.address import Address
from tests.support.patience import PATIENCE


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:9000", "127.0.0.1", 9000),
        ("127.0.0.2:0", "127.0.0.2", 0),
        ("[::1]:9000", "::1", 9000),
        ("[fe80::1%eth0]:65535", "fe80::1%eth0", 65535),
        ("metrics.internal:80", "metrics.internal", 80),
        (" localhost:9000 ", "localhost", 9000),
    ],
)
def test_an_address_is_read_and_shown(text: str, host: str, port: int) -> None:
    """IPv4, IPv6 in brackets, and names of hosts."""
    address = Address.parse(text)

    assert (host, port) == (address.host, address.port)
    assert text.strip() == str(address)


@pytest.mark.parametrize(
    "text",
    ["", "9000", ":9000", "127.0.0.1", "127.0.0.1:", "::1:9000", "[::1]", "http://127.0.0.1:9000", "a b:1", "host:-1",
     "host:http", "host:65536", "host:99999", "me:secret@host:9000", "host:9000/metrics"],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    """One sentence that names the option."""
    with pytest.raises(ConfigurationError, match=r"^http: ") as caught:
        Address.parse(text)

    assert 1 == len(str(caught.value).splitlines())


def test_each_process_has_the_next_port() -> None:
    """The first has the one that was named; any free port is any for each; the last must exist."""
    first = Address.parse("[::1]:9000", 3)

    assert ["[::1]:9000", "[::1]:9001", "[::1]:9002"] == [str(first.of_process(number)) for number in (1, 2, 3)]
    assert "host:0" == str(Address.parse("host:0", 3).of_process(3))
    assert 65_535 == Address.parse("host:65533", 3).of_process(3).port
    with pytest.raises(ConfigurationError, match=r"^http: the port of the last of 3 processes must be at most 65535$"):
        Address.parse("host:65534", 3)


def test_a_name_listens_on_all_its_addresses() -> None:
    """Whichever of them a client tries, it finds us."""
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
    found = {place[4][0] for place in socket.getaddrinfo("localhost", port, type=socket.SOCK_STREAM)}
    sockets = Address("localhost", port).bind()
    try:
        for host in {str(each.getsockname()[0]) for each in sockets}:
            socket.create_connection((host, port), timeout=PATIENCE).close()
        assert "127.0.0.1" in found & {each.getsockname()[0] for each in sockets}
        assert {port} == {each.getsockname()[1] for each in sockets}
    finally:
        for each in sockets:
            each.close()


@pytest.mark.parametrize("host", ["nowhere.invalid", "192.0.2.1", "x" * 70])
def test_a_host_that_is_not_here_is_refused(host: str) -> None:
    """A name that nobody knows, an address of another machine, a text that cannot be a name."""
    with pytest.raises(ConfigurationError, match=f"^http: cannot listen on {host}:9000: .*[a-z]$"):
        Address(host, 9000).bind()


def test_a_port_that_is_taken_is_refused() -> None:
    """It says which, and why."""
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        address = Address("127.0.0.1", other.getsockname()[1])
        with pytest.raises(ConfigurationError, match=f"^http: cannot listen on {address}: Address already in use$"):
            address.bind()
