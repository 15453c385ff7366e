"""A secret that lets people in: compared in constant time, guessed at slowly, and kept out of cookies."""

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

SHORTEST = 16
LIFE = 12 * 3600
"""Seconds after which whoever has logged in does so again."""
_SESSIONS = 1_000
WRONG = 10
"""Wrong ones of one peer in a minute, then none of its is looked at. Others are not held up: whoever guesses from
many addresses must not keep them out, and of 16 random characters finds none in a lifetime anyway."""
_PEERS = 10_000
MINUTE = 60.0
Clock = Callable[[], float]


class Token:
    """Compares what is said with the secret. Who has been wrong too often waits; bounded: the oldest is forgotten."""

    def __init__(self, secret: str, clock: Clock = time.monotonic) -> None:
        self._secret = _digest(secret)
        self._clock = clock
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()
        """By network, whoever was wrong last stands last: when that was."""

    def wait(self, peer: str) -> float:
        """Seconds until this peer may try; 0 is now."""
        times = self._wrong.get(_network(peer))
        return 0.0 if times is None or len(times) < WRONG else max(times[0] + MINUTE - self._clock(), 0.0)

    def is_right(self, said: str, peer: str) -> bool:
        """Whether it is the secret; counts a wrong one. Call it only when there is nothing to wait for."""
        right = hmac.compare_digest(_digest(said), self._secret)
        if not right:
            place = _network(peer)
            self._wrong.setdefault(place, deque(maxlen=WRONG)).append(self._clock())
            self._wrong.move_to_end(place)
            if len(self._wrong) > _PEERS:
                self._wrong.popitem(last=False)
        return right


class Sessions:
    """Who has logged in. A cookie has a random number, in which nothing of the secret is; a restart forgets them all,
    and to log out ends one for good. Bounded: the oldest makes room."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._ends: OrderedDict[bytes, float] = OrderedDict()

    def begin(self) -> str:
        """Let somebody in; gives what the cookie says."""
        name = secrets.token_urlsafe(32)
        while len(self._ends) >= _SESSIONS:
            self._ends.popitem(last=False)
        self._ends[_digest(name)] = self._clock() + LIFE
        return name

    def has(self, name: str | None) -> bool:
        """Whether this one is in."""
        return name is not None and self._ends.get(_digest(name), 0.0) > self._clock()

    def end(self, name: str | None) -> None:
        """Let nobody in with it any more."""
        if name is not None:
            self._ends.pop(_digest(name), None)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _network(peer: str) -> str:
    """Whoever has one address of IPv6 has 2 to the 64th."""
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return peer
    return address.exploded[:19] if isinstance(address, IPv6Address) and not address.ipv4_mapped else str(address)
