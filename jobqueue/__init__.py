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
        """Load at the first use: the command line must answer signals before it has loaded what takes a second."""
        exports = import_module("jobqueue.exports")
        if name not in ("__all__", *exports.__all__):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals().update({each: getattr(exports, each) for each in ("__all__", *exports.__all__)})
        return globals()[name]

    def __dir__():
        return sorted({*globals(), *__getattr__("__all__")})
