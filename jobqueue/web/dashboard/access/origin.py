"""Whether what changes something was sent by a page of ours: the protection against forged requests."""

from urllib.parse import urlsplit

from starlette.requests import Request

_PORTS = {"http": 80, "https": 443}


def from_our_page(request: Request) -> bool:
    """Browsers say where a request comes from; a program, which nobody can make send what it does not want, says who
    it is.

    There is no secret in pages that could leak. An old browser sends only `Origin`: its host and port must be ours.
    Its scheme need not: behind a proxy that ends TLS ours looks like http.
    """
    headers = request.headers
    if (site := headers.get("sec-fetch-site")) is not None:
        return site == "same-origin"
    if (origin := headers.get("origin")) is not None:
        return _is_ours(origin, request)
    return "authorization" in headers


def _is_ours(origin: str, request: Request) -> bool:
    try:
        theirs = urlsplit(origin)
        ours = urlsplit(f"{theirs.scheme}://{request.headers.get('host', '')}")
        if theirs.scheme not in _PORTS or not theirs.hostname:  # `null`, or no page of the web
            return False
        default = _PORTS[theirs.scheme]
        same = (theirs.hostname, theirs.port or default) == (ours.hostname, ours.port or default)
    except ValueError:
        return False
    return same and not (request.url.scheme == "https" and theirs.scheme == "http")
