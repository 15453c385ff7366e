"""The files that pages need: read once, named by what is in them, so that browsers keep them for ever."""

import hashlib
from functools import cache
from mimetypes import guess_type
from pathlib import Path

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

_FILES = Path(__file__).parents[1] / "static"
_FOR_EVER = "public, max-age=31536000, immutable"


@cache
def _read(name: str) -> tuple[str, bytes]:
    """A file's mark and what is in it. Raises FileNotFoundError."""
    path = (_FILES / name).resolve()
    if not path.is_relative_to(_FILES) or not path.is_file():
        raise FileNotFoundError(name)
    content = path.read_bytes()
    return hashlib.sha256(content).hexdigest()[:16], content


def static_path(name: str) -> str:
    """Where a page finds this file, below the dashboard's own root."""
    return f"/static/{_read(name)[0]}/{name}"


async def static_file(request: Request) -> Response:
    """Serve one of them; 404 for one that is not there, or was another."""
    name = request.path_params["name"]
    known = {path.relative_to(_FILES).as_posix() for path in _known()}
    if name not in known or _read(name)[0] != request.path_params["mark"]:
        return PlainTextResponse("not here\n", 404)
    kind = guess_type(name)[0] or "application/octet-stream"
    return Response(_read(name)[1], 200, {"cache-control": _FOR_EVER}, media_type=kind)


@cache
def _known() -> tuple[Path, ...]:
    return tuple(path for path in _FILES.rglob("*") if path.is_file())
