"""What a worker says when it starts: what it serves, where, and how much at once."""

import sys
import textwrap
from collections import defaultdict
from collections.abc import Iterable

from jobqueue.app import App
from jobqueue.base.log import get_logger
from jobqueue.base.settings import Settings
from jobqueue.base.version import VERSION
from jobqueue.cli.terminal.safe_text import escaped
from jobqueue.worker.claiming.queues import Queues

_WIDTH = 98
_LABEL = 14


def announce(
    app: App, settings: Settings, queues: Queues, *, database: str, migration: str, processes: int, as_record: bool
) -> None:
    """Say it on stderr; `as_record` where a log of JSON is written there, which must have nothing else in it."""
    if not as_record:
        sys.stderr.write(banner(app, settings, queues, database=database, migration=migration, processes=processes))
        sys.stderr.flush()
        return
    get_logger(__name__).info(
        "worker.serving", app=app.name, database=database, schema=app.schema, migration=migration,
        tasks=_tasks_by_queue(app), processes=processes, drain_timeout=settings.drain_timeout,
    )  # fmt: skip


def banner(app: App, settings: Settings, queues: Queues, *, database: str, migration: str, processes: int = 1) -> str:
    """The lines, ready to be written. `database` is shown as it is, so it must have no password."""
    lines = [f"jobqueue {VERSION}, worker of {app.name}"]
    lines += _entry("database", database)
    lines += _entry("schema", f"{app.schema}, {migration}")
    lines += _entry("queues", ", ".join(queues.described))
    for label, (queue, tasks) in zip(_labels("tasks"), sorted(_tasks_by_queue(app).items()), strict=False):
        unserved = "" if queues.serves(queue) else " (not served here)"
        lines += _entry(label, f"{queue}{unserved}: {', '.join(sorted(tasks))}")
    each = f" in each of {processes} processes" if processes > 1 else ""
    lines += _entry("concurrency", f"{settings.concurrency}{each}")
    lines += _entry("drain limit", f"{settings.drain_timeout:g} s")
    lines += _entry(
        "wake-ups", "listening" if settings.listens else f"polling every {settings.poll:g} s (transaction pooler)"
    )
    return "".join(f"{escaped(line)}\n" for line in lines)


def _tasks_by_queue(app: App) -> dict[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for task in app.registry:
        found[task.queue].append(task.name)
    return found


def _labels(first: str) -> Iterable[str]:
    yield first
    while True:
        yield ""


def _entry(label: str, text: str) -> list[str]:
    indent = " " * (_LABEL + 2)
    return textwrap.wrap(
        text, _WIDTH, initial_indent=f"  {label:<{_LABEL}}", subsequent_indent=indent,
        break_long_words=False, break_on_hyphens=False,
    ) or [f"  {label}"]  # fmt: skip
