"""What somebody may see and do."""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import TypeAlias

from jobqueue.base.errors import ConfigurationError, InvalidOption, JobQueueError

try:
    from starlette.requests import Request
    from starlette.responses import Response
except ModuleNotFoundError as missing:
    raise ConfigurationError(f'web: {missing.name} is not installed; pip install "jobqueue[web]"') from None

_NAME_LIMIT = 200


class NotAllowed(JobQueueError):
    """Raised when somebody may not see or do this; the text says what would be needed."""


@dataclass(frozen=True, slots=True)
class Access:
    """What a user may see and do: given by `authorize`.

    `user` is the name in the audit. `operate`: may retry, cancel, pause, defer and so on. `payloads`: may see
    arguments, results, progress and the messages of errors; each look is in the audit. `queues`: only these, and what
    is in them; None is all.
    """

    user: str
    operate: bool = False
    payloads: bool = False
    queues: Collection[str] | None = None

    def __post_init__(self) -> None:
        if not 0 < len(self.user) <= _NAME_LIMIT or not self.user.isprintable():
            raise InvalidOption("user", f"must be a name of 1 to {_NAME_LIMIT} characters that can be shown")
        if self.queues is not None:
            object.__setattr__(self, "queues", frozenset(self.queues))

    def sees(self, queue: str | None) -> bool:
        """Whether what is in this queue may be shown; None: what belongs to no queue."""
        return self.queues is None or queue in self.queues


Authorize: TypeAlias = Callable[[Request], Awaitable[Access | Response | None] | Access | Response | None]
"""Says what the sender of a request may do. A Response is sent instead, such as a redirect to a login; None is 403."""
