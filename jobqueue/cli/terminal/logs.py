"""Logging of the worker process, set up only if the user has not done it: one record a line, to stderr."""

import logging
import os
import re
import sys
from collections.abc import Callable
from typing import Any

import orjson
import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from jobqueue.cli.terminal.log_choices import LogFormat, LogLevel
from jobqueue.cli.terminal.safe_text import escaped, masked

_PLAIN = re.compile(r"[\w.,:/@+*-]+")
_OTHER_BREAKS = re.compile("[\x7f-\x9f\u2028\u2029]")
_COLOURS = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "1;31"}


def configure(format: LogFormat, level: LogLevel) -> None:
    """Set up structlog and logging alike, so that the user's own records look the same."""
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    terminal = sys.stderr.isatty()
    render = (
        json_line if format is LogFormat.JSON else console_line(terminal, terminal and not os.environ.get("NO_COLOR"))
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render]
        )
    )
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(number)


def json_line(logger: WrappedLogger, method: str, event: EventDict) -> str:
    """One JSON object. The line breaks that JSON leaves alone are escaped as well."""
    if "exception" in event:
        event["exception"] = masked(event["exception"])
    first = {name: event.pop(name) for name in ("timestamp", "level", "event") if name in event}
    text = orjson.dumps({**first, **event}, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
    return _OTHER_BREAKS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def console_line(terminal: bool, colours: bool) -> Callable[[WrappedLogger, str, EventDict], str]:
    """Time, level, event, `name=value`. In a terminal a traceback follows, each line marked; else it is a value."""

    def render(logger: WrappedLogger, method: str, event: EventDict) -> str:
        level = str(event.pop("level", method))
        time, what, trace = str(event.pop("timestamp", "")), str(event.pop("event", "")), event.pop("exception", None)
        code = _COLOURS.get(level) if colours else None
        shown_level = f"\x1b[{code}m{level:<8}\x1b[0m" if code else f"{level:<8}"
        words = [escaped(time[:23] + time[-1:]), shown_level, escaped(what)]
        words += [f"{escaped(str(name))}={_value(value)}" for name, value in event.items()]
        if trace is None:
            return " ".join(words)
        if not terminal:
            return " ".join([*words, f"exception={_value(masked(trace))}"])
        return "\n".join([" ".join(words), *(f"  | {escaped(line)}" for line in masked(trace).splitlines())])

    return render


def _value(value: Any) -> str:
    if not isinstance(value, str):
        return escaped(repr(value))
    if _PLAIN.fullmatch(value):
        return value
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped(quoted)}"'
