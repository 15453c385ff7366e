"""The rule for a dashboard that nobody has told whom to let in: only somebody who sits at this machine."""

from ipaddress import IPv6Address, ip_address

from starlette.requests import Request

_FORWARDED = frozenset(
    {"cf-connecting-ip", "client-ip", "forwarded", "true-client-ip", "via", "x-client-ip", "x-cluster-client-ip",
     "x-real-ip"}
)  # fmt: skip
_WAY_OUT = "give create_app(app, authorize=...) a function that says who may look, or the command `web` --token-file"


def why_not_local(request: Request) -> str | None:
    """Why this request is not from this machine itself; None if it is.

    The peer alone does not say so: a proxy on this machine looks like that, and so does a page of a foreign site whose
    name was made to lead here (DNS rebinding). A proxy may send no header of its own and put its own address into
    Host, as nginx does: by default it speaks HTTP/1.0, which no browser does.
    """
    peer = request.client.host if request.client else ""
    if not is_loopback(peer):
        return f"this dashboard answers only on the machine that it runs on; {_WAY_OUT}"
    proxied = any(name in _FORWARDED or name.startswith("x-forwarded") for name in request.headers)
    if proxied or request.scope.get("http_version") == "1.0":
        return f"this request came through a proxy; {_WAY_OUT}"
    hosts = request.headers.getlist("host")
    if len(hosts) != 1 or not is_local_name(hosts[0]):
        return f"open this dashboard as localhost or 127.0.0.1; for another name {_WAY_OUT}"
    return None


def is_loopback(peer: str) -> bool:
    """Whether this address is of this machine itself."""
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def is_local_name(host: str) -> bool:
    """Whether a browser that says so in `Host`, with a port or without, was told to go to its own machine."""
    name, colon, port = host.rpartition(":")
    if not colon or not port.isdecimal():
        name = host
    if name.startswith("[") and name.endswith("]"):
        return is_loopback(name[1:-1])
    return name.lower() == "localhost" or (":" not in name and is_loopback(name))
