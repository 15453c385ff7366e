"""Handlers that are stuck, in a line for each worker. Their stacks are in the dashboard, and in the workers' logs."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from shutil import get_terminal_size
from uuid import UUID

from jobqueue.base.looking.stuck import ASKED, BLOCKS, WAITS
from jobqueue.cli.terminal.output import write
from jobqueue.cli.terminal.safe_text import escaped
from jobqueue.store.looking.overview import StuckJob
from jobqueue.telling.spans import duration

_COLUMNS = 80
_LINES = 5
_LEAST = 10
"""Characters that are left of a name, however few columns there are."""
_NO_JOB = "no job"
_WORDS = {
    BLOCKS: "blocks the loop for {time}",
    ASKED: "goes on, was asked to end {time} ago",
    WAITS: "and all other slots wait for jobs, for {time}",
}
_OTHER = "does not come back for {time}"
"""Of a way to be stuck that only a newer worker knows."""


def stuck_lines(stuck: Sequence[StuckJob], width: int = _COLUMNS) -> list[str]:
    """One for each of the first workers, in so many columns, and how many more workers there are."""
    by_worker: dict[UUID, list[StuckJob]] = {}
    for one in stuck:
        by_worker.setdefault(one.worker_id, []).append(one)
    lines = [_line(some[0], len(some) - 1, width) for some in list(by_worker.values())[:_LINES]]
    more = len(by_worker) - len(lines)
    return [*lines, f"stuck: {more} more {'worker' if more == 1 else 'workers'}"] if more else lines


def write_stuck(stuck: Sequence[StuckJob]) -> None:
    """The same, on stdout."""
    for line in stuck_lines(stuck, get_terminal_size().columns if sys.stdout.isatty() else _COLUMNS):
        write(line)


def stuck_document(one: StuckJob) -> dict[str, object]:
    """One as JSON values, without its stack."""
    document = asdict(one)
    del document["stack"]
    return document


def _line(one: StuckJob, more: int, width: int) -> str:
    words = _WORDS.get(one.how, _OTHER).format(time=duration(max(one.seconds, 0.0)))
    rest = f" {words}" + (f" (+{more})" if more else "")
    worker, task = _fitting((one.worker, one.task or _NO_JOB), width - len(f"stuck: {': '}{rest}"))
    return f"stuck: {worker}: {task}{rest}"


def _fitting(names: tuple[str, str], room: int) -> Iterator[str]:
    """Of names that are too long their end: what tells them apart from others is there."""
    first, second = (escaped(name) for name in names)
    half = max(room // 2, _LEAST)
    yield _end(first, max(half, room - len(second)))
    yield _end(second, max(room - half, room - len(first), _LEAST))


def _end(name: str, length: int) -> str:
    return name if len(name) <= length else f"…{name[len(name) - length + 1 :]}"
