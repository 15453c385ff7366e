"""A durable job queue for Python asyncio on PostgreSQL.

    from jobqueue import App

    app = App("postgresql://...")

    @app.task
    async def send_mail(to: str, text: str) -> None: ...

    await send_mail.defer("a@b.c", text="hello")

Then `python -m jobqueue worker shop:app` runs what was deferred.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobqueue.exports import *  # noqa: F403 - one list of what is public, and that is there
    from jobqueue.exports import __all__ as __all__
else:

    def __getattr__(name):
        """Load each at its first use: who defers needs no worker, and the command line first answers signals."""
        exports = import_module("jobqueue.exports")
        if name == "__all__":
            return exports.__all__
        if name not in exports.HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(exports.HOMES[name]), name)
        return found

    def __dir__():
        return sorted({*globals(), *__getattr__("__all__")})
