"""The rule for a dashboard that nobody has told whom to let in: only somebody who sits at this machine."""

from ipaddress import ip_address

from starlette.requests import Request

_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via")
_WAY_OUT = "give create_app(app, authorize=...) a function that says who may look"


def why_not_local(request: Request) -> str | None:
    """Why this request is not from this machine itself; None if it is.

    The peer alone does not say so: a proxy on this machine looks like that, and so does a page of a foreign site whose
    name was made to lead here (DNS rebinding).
    """
    peer = request.client.host if request.client else ""
    host = request.headers.get("host", "")
    if not _is_loopback(peer):
        return f"this dashboard answers only on the machine that it runs on; {_WAY_OUT}"
    if any(name in request.headers for name in _FORWARDED):
        return f"this request came through a proxy; {_WAY_OUT}"
    if _without_port(host) not in _NAMES:
        return f"open this dashboard as localhost or 127.0.0.1; for another name {_WAY_OUT}"
    return None


def _is_loopback(peer: str) -> bool:
    try:
        return ip_address(peer.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _without_port(host: str) -> str:
    name, _, port = host.rpartition(":")
    return name.lower() if port.isdigit() and name else host.lower()
