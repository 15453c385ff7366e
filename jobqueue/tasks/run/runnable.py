"""What can be run."""

from collections.abc import Callable
from typing import Any, Protocol

from jobqueue.base.retry import RetryPolicy
from jobqueue.tasks.payload.signature import Signature


class Runnable(Protocol):
    """What running needs of a task."""

    @property
    def name(self) -> str:
        """The registered name."""
        ...

    @property
    def function(self) -> Callable[..., Any]:
        """The function as written."""
        ...

    @property
    def signature(self) -> Signature:
        """Codec of its arguments and result."""
        ...

    @property
    def retry(self) -> RetryPolicy | None:
        """When it runs again after a failure; None for the default."""
        ...
