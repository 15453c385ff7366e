"""How the command line may write its log."""

import logging
import sys
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


def configured_by_user() -> bool:
    """True if the user's own code has set up structlog or logging; then it is left as it is."""
    structlog = sys.modules.get("structlog")  # who has set it up has loaded it
    return bool(logging.getLogger().handlers) or (structlog is not None and structlog.is_configured())
