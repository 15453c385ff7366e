"""Who acts, and a row of the audit, which says who did what. Never a payload: see `store/acting/audit.py`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

from jobqueue.base.errors import InvalidOption

_LENGTH = 200


@dataclass(frozen=True, slots=True)
class By:
    """Who acts, and by what means: `By("ada", via="web")`. `str()` of it is `web:ada`. Raises InvalidOption."""

    who: str
    """A person or a program, in 1 to 200 printable characters."""
    via: str | None = None
    """A dashboard, a command line, a script: 1 to 200 printable characters without a colon."""

    def __post_init__(self) -> None:
        _check(self.who)
        if self.via is not None:
            _check(self.via)
            if ":" in self.via:
                raise InvalidOption("by", "what comes by `via` must have no colon")

    @classmethod
    def of(cls, given: "Doer | None") -> "By | None":
        """A plain text is the `who`. Raises InvalidOption."""
        return given if given is None or isinstance(given, By) else cls(given)

    def __str__(self) -> str:
        return self.who if self.via is None else f"{self.via}:{self.who}"


Doer: TypeAlias = By | str
"""What `by=` takes: `by="ada"` is `by=By("ada")`."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One call that changed something, or was to."""

    id: int
    at: datetime
    """When it began, by the database's clock."""
    who: str
    via: str | None
    action: str
    """`job.cancel`, `queue.pause`, `schedule.put`, `limit.set`, `bundle.retry`, `webhook.rotate` and so on."""
    what: Mapping[str, Any]
    """What was meant: `ids`, at most 100 of them, or a `filter`, or the name of the queue and the like; and the target:
    `to`, `priority`, `at`, `until`."""
    matched: int
    """How many jobs were meant and looked at, or 1 if it was about something else."""
    changed: int
    """To how many of them it happened."""
    refused: Mapping[str, int] = field(default_factory=dict)
    """How many were refused, by the reason: see `Change`."""


class AuditPage(list[AuditEntry]):
    """Some rows, the newest first. `next` goes on: `list(before=page.next)`; None once there are no more."""

    next: int | None = None


def _check(given: object) -> None:
    if not isinstance(given, str):
        raise InvalidOption("by", f"must be text, or By(who, via), not {type(given).__name__}")
    if not 1 <= len(given) <= _LENGTH:
        raise InvalidOption("by", f"must have 1 to {_LENGTH} characters, not {len(given)}")
    if not given.isprintable():
        raise InvalidOption("by", "must have printable characters only: no NUL, line break or the like")
