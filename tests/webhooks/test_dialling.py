"""Where a delivery may go, decided where it is dialled."""

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

import pytest

from jobqueue.base.errors import InvalidOption
from jobqueue.base.job import JobState
from jobqueue.webhooks import dialling
from jobqueue.webhooks.dialling import Dialler, Forbidden, is_public, post, resolve
from jobqueue.webhooks.hooks import check_url
from tests.support.jobs.working import asked
from tests.support.receiver import HERE, defer, delivered, hooked_app, receiving

REFUSED = (
    "0.0.0.0",  # noqa: S104 - nobody binds to it
    "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.8.8.8", "169.254.169.254", "172.16.0.1", "192.0.0.1",
    "192.168.1.1", "198.18.0.1", "203.0.113.5", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1",
    "::127.0.0.1", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1",
    "64:ff9b:1::a00:1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "fc00::1", "fd12:3456::1", "fe80::1",
    "fec0::1", "ff02::1",
)  # fmt: skip
PUBLIC = ("1.1.1.1", "8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "::ffff:8.8.8.8")


class Names:
    """A resolver of the test's own: what a name leads to at each question."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked += 1
        return self.answers[min(self.asked, len(self.answers)) - 1]


@pytest.mark.parametrize("address", REFUSED)
async def test_no_name_leads_inside(address: str) -> None:
    """An address that not everybody could call is refused when it is dialled, whatever name led there."""
    with pytest.raises(Forbidden):
        await Dialler((), secure=True, resolve=Names([address])).connect_tcp("receiver.example", 443)
    with pytest.raises(Forbidden):  # one good address among them does not help
        await Dialler((), secure=True, resolve=Names(["8.8.8.8", address])).connect_tcp("receiver.example", 443)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_called(address: str) -> None:
    """What everybody could call is allowed."""
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.1", "0x7f.0.0.1", "2130706433", "0", "[::1]", "[::ffff:127.0.0.1]"]
)
async def test_however_it_is_written(host: str) -> None:
    """Loopback by name, in short, as one number, in hexadecimal, inside IPv6: the system's own resolver decides."""
    async with receiving() as receiver:
        with pytest.raises((Forbidden, OSError)):
            await post(f"https://{host}:{receiver.port}/", {}, b"{}", ())

    assert [] == receiver.posts


async def test_a_name_that_changes_is_asked_once() -> None:
    """Rebinding: what is dialled is what was checked, and a later answer is checked again."""
    names = Names(["127.0.0.1"], ["169.254.169.254"])
    async with receiving() as receiver:
        url = f"http://rebinding.example:{receiver.port}/"
        first = await post(url, {"webhook-id": "1"}, b"{}", HERE, names)
        with pytest.raises(Forbidden):
            await post(url, {"webhook-id": "2"}, b"{}", HERE, names)

    assert (200, 1, 2) == (first.status, len(receiver.posts), names.asked)


async def test_http_goes_only_where_it_is_allowed() -> None:
    """A public address gets https alone; a network that is named gets http too."""
    with pytest.raises(Forbidden):
        await Dialler(HERE, secure=False, resolve=Names(["8.8.8.8"])).connect_tcp("receiver.example", 80)
    async with receiving() as receiver:
        answer = await post(receiver.url, {"webhook-id": "1"}, b"{}", HERE)

    assert 200 == answer.status


async def test_the_next_address_is_tried() -> None:
    """Of several addresses the first that answers is taken."""
    async with receiving() as receiver:
        names = Names(["127.0.0.2", "127.0.0.1"])
        answer = await post(f"http://two.example:{receiver.port}/", {"webhook-id": "1"}, b"{}", ("127.0.0.0/8",), names)

    assert 200 == answer.status


async def test_no_proxy_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's proxies have no say: they would dial in our place."""
    async with receiving() as receiver, receiving() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        await post(receiver.url, {"webhook-id": "1"}, b"{}", HERE)

    assert (1, 0) == (len(receiver.posts), len(proxy.posts))


async def test_a_delivery_inside_is_dead_at_once(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that leads inside costs one try, and its error tells no address."""
    app = hooked_app(database, webhook_networks=())
    monkeypatch.setattr(dialling.post, "__defaults__", (Names(["169.254.169.254"]),))
    async with app, app.worker():
        hook = await app.webhooks.create("https://metadata.example/latest", "job.completed")
        await defer(app, "note")
        (delivery,) = await delivered(app, hook, state=JobState.DEAD)

    assert 1 == delivery.tries
    assert delivery.error is not None
    assert "webhook_networks" in delivery.error
    assert "169.254" not in delivery.error


@pytest.mark.parametrize(
    "url",
    [
        f"https://{'a' * 64}.example/SECRETMARKER",
        "https://receiver..example/SECRETMARKER",
        "https://[::1/SECRETMARKER",
        "https://receiver.example:SECRETMARKER/",
        "ftp://receiver.example/SECRETMARKER",
    ],
)
async def test_what_is_no_url_is_dead_at_once(database: str, url: str) -> None:
    """A URL that nobody can call costs one try, counts as a failure, and is not in the error."""
    app = hooked_app(database)
    async with app, app.worker():
        hook = await app.webhooks.create("https://receiver.example/", "job.completed")
        await asked(database, "update jobqueue.webhook set url = $1", url)
        await defer(app, "note")
        (delivery,) = await delivered(app, hook, state=JobState.DEAD)
        after = await app.webhooks.get(hook.id)

    assert (1, "its URL cannot be called") == (delivery.tries, delivery.error)
    assert 1 == after.failures


@pytest.mark.parametrize(
    ("url", "networks", "told"),
    [
        ("http://receiver.example/", (), "must be https"),
        ("HTTPS://receiver.example/", (), "must be https"),
        ("ftp://receiver.example/", HERE, "must be https"),
        ("https:///path", (), "needs a host"),
        ("https://user:pass@receiver.example/", (), "has no user"),
        ("https://receiver.example/#part", (), "no fragment"),
        ("https://receiver.example:99999/", (), "cannot be read"),
        ("https://[::1/", (), "cannot be read"),
        ("https://receiver.example/\nhost: other", (), "plain letters"),
        ("https://bücher.example/", (), "plain letters"),
        ("https://127.0.0.1/", (), "public address"),
        ("https://[::1]/", (), "public address"),
        ("https://receiver.example/" + "x" * 2000, (), "at most 2000"),
        (None, (), "must be a URL"),
    ],
)
def test_a_url_that_cannot_be_called(url: Any, networks: tuple[str, ...], told: str) -> None:
    """What could never be called is refused when it is given, in words without the URL."""
    with pytest.raises(InvalidOption, match=told) as refused:
        check_url(url, networks)

    assert "receiver.example" not in str(refused.value)


async def test_the_resolver_is_the_system_s() -> None:
    """A name is looked up as everything else on the machine does it."""
    assert "127.0.0.1" in await resolve("localhost", 80)
