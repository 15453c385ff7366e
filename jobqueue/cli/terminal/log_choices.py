"""How the command line may write its log."""

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
