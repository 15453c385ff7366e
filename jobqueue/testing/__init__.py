"""Tests of applications: `async with app.testing() as t:`; see docs/testing.md.

`kit.py` is what the block gives, `asserting.py` its assertions. An App stands on its database (`jobqueue/ground.py`),
or here on jobs in `memory/`, one connection of a test's own (`lent.py`), or nothing (`ignoring.py`, as `App.null()`).
`plugin.py` has the fixtures of pytest: the only file that loads it.

Public is `Kit`, for annotations; all else may change.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobqueue.testing.kit import Kit as Kit
else:

    def __getattr__(name):
        """Load at the first use: pytest loads this room wherever it is installed."""
        if name != "Kit":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return import_module("jobqueue.testing.kit").Kit
