"""Where a site has put the dashboard, and which of its own paths is asked for."""

import re
from urllib.parse import quote, unquote

from starlette.types import Scope

_LOOK = re.compile("(?:/api/v1)?/jobs/[^/]+/payload|/schedules/.+")


def placed(scope: Scope) -> Scope:
    """The same request with `root_path` and `path` as ASGI wants them: `path` begins with all of `root_path`.

    Starlette does so. FastAPI(root_path=...) leaves what a proxy took away out of `path`, Litestar leaves out the place
    of the mount from both, and puts a slash at the end.
    """
    path, root = scope["path"], scope.get("root_path", "").rstrip("/")
    full = unquote(scope["raw_path"].decode("latin-1")) if scope.get("raw_path") else path
    if full != path and (kept := _before(full, path.rstrip("/"))) is not None:
        root, below = kept, path if full.endswith("/") else path.rstrip("/")
    elif (found := _behind(path, root)) is not None:
        below = found
    else:
        below = _behind(path, root.removeprefix(scope.get("app_root_path", ""))) or path
    root = re.sub("/+", "/", root).rstrip("/")  # two in front would be the name of another host
    return {**scope, "root_path": root, "path": root + (below or "/")}


def below(scope: Scope) -> str:
    """The path below the dashboard's own root, of a request that is `placed`."""
    path: str = scope["path"]
    return path[len(scope.get("root_path", "")) :]


def base(scope: Scope) -> str:
    """What all links begin with; empty if the dashboard is the whole site."""
    return quote(scope.get("root_path", ""))


def own_path(scope: Scope, wanted: str | None) -> str:
    """This path if it is one of the dashboard's own, else its first page: what a request asks for leads nowhere else.

    It may begin with `base` or not.
    """
    root = base(scope)
    path = wanted or "/"
    if not path.startswith("/") or path.startswith("//") or not path.isprintable() or "\\" in path:
        path = "/"
    plain = path.partition("?")[0].partition("#")[0]
    if any(part == ".." for part in unquote(plain).split("/")):
        path = "/"
    if root and (path == root or path.startswith((f"{root}/", f"{root}?"))):
        return path
    return root + path


def is_api(scope: Scope) -> bool:
    """Whether a program asks."""
    return below(scope).startswith("/api/")


def is_look(scope: Scope) -> bool:
    """Whether this is a POST that only shows what is in a job or a schedule: its every look is in the audit."""
    return _LOOK.fullmatch(below(scope)) is not None


def _behind(path: str, root: str) -> str | None:
    if path == root or path.startswith(f"{root}/"):
        return path[len(root) :]
    return None


def _before(full: str, rest: str) -> str | None:
    full = full.rstrip("/")
    return full[: len(full) - len(rest)] if full.endswith(rest) else None
