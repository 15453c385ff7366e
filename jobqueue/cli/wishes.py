"""What is asked of a worker on the command line."""

from dataclasses import dataclass
from enum import StrEnum


class LogFormat(StrEnum):
    """How a record is written."""

    CONSOLE = "console"
    JSON = "json"


class LogLevel(StrEnum):
    """From which level on records are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """None where the App's settings decide. `drain_timeout` in seconds."""

    queues: str | None = None
    concurrency: int | None = None
    drain_timeout: float | None = None
    burst: bool = False
    log_format: LogFormat | None = None
    log_level: LogLevel | None = None

    @property
    def entries(self) -> list[str] | None:
        """The queues one by one."""
        return None if self.queues is None else [entry.strip() for entry in self.queues.split(",") if entry.strip()]
