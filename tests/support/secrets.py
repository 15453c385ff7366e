"""Watches over every test that nothing of a payload is told: not in a line of the library, not in an error's text.

What goes through the library as arguments is remembered during a test, and so is what the library says: its log lines,
those at debug level too, wherever they would go; the texts of its own errors; the errors that it stores. What task code
itself logs and raises is its own affair.
"""

import logging
import re
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import UUID

import orjson
import psycopg

from jobqueue.base import errors
from jobqueue.base.job import AttemptError
from jobqueue.base.log import Log
from jobqueue.store import outcomes
from jobqueue.tasks.payload.signature import Signature
from jobqueue.tasks.run import attempt as running
from jobqueue.tasks.run import verdict
from jobqueue.tasks.run.attempt import Attempt
from tests.support.events import table
from tests.support.patience import PATIENCE
from tests.support.programs.processes import Process

MOST = 500
"""Payloads that are remembered of one test."""
SHORTEST = 8
"""Letters that a text needs to be told from ordinary words."""
IDENTITY = {"job_id", "task", "queue", "queues", "worker", "of_worker", "schema", "url"}
"""Fields that name things. A job's arguments may be such names."""
STORED = "a stored error"
LINE = re.compile(r"^\S+Z (?:debug|info|warning|error|critical) +([a-z]+\.[a-z_]+) ?(.*)$")
FACT = re.compile(r"(\w+)=(\"(?:[^\"\\]|\\.)*\"|\S+)")
PLACE = re.compile(r'^ +File ".*", line \d+, in ')


class Watch:
    """What was told since the last `begin`."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Forget everything."""
        self.payloads: set[str] = set()
        self.lines: list[tuple[str, str, str, dict[str, Any]]] = []
        self.foreign: list[str] = []
        self.texts: list[str] = []
        self.stored: list[AttemptError] = []
        self.own_words: list[str] = []
        self.processes: list[Path] = []

    def payload(self, text: str) -> None:
        """Remember a job's arguments."""
        if len(self.payloads) < MOST:
            self.payloads.add(text)

    def faults(self, dsn: str | None) -> list[str]:
        """What was told that should not have been, and events that are not what the table says."""
        return [*self._undocumented(), *self._leaks(dsn)]

    def _undocumented(self) -> Iterator[str]:
        for name, level, event, facts in self.lines:
            known = table().get(event)
            if name.startswith("jobqueue.") and (known is None or not known.fits(level, set(facts))):
                yield f"{name} logged {event} as {level} with {sorted(facts)}; the table in base/log.py has {known}"

    def _leaks(self, dsn: str | None) -> Iterator[str]:
        told = dict(self._told())
        beside = dict(self._told_beside())
        if beside and dsn is not None:
            self.payloads |= payloads_in(dsn)
            told |= beside
        secrets = {secret for payload in self.payloads for secret in secrets_of(payload)}
        text = "\n".join(told)
        for secret in secrets:
            if secret in text:
                its_own = any(secret in words for words in self.own_words)
                for line, whose in told.items():
                    if secret in line and not (its_own and whose is STORED):
                        yield f"{whose} tells {secret!r}: {line}"

    def _told(self) -> Iterator[tuple[str, str]]:
        for name, _, event, facts in self.lines:
            yield " ".join([event, *(str(value) for key, value in facts.items() if key not in IDENTITY)]), name
        yield from ((line, "a logger below us") for line in self.foreign)
        yield from ((text, "an error of ours") for text in self.texts)
        for error in self.stored:
            parts = [error.error_class, error.message, without_code(error.traceback or ""), str(error.data)]
            yield "\n".join(parts), STORED

    def _told_beside(self) -> Iterator[tuple[str, str]]:
        """What worker processes wrote: the lines of our own events."""
        for file in self.processes:
            for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if file.exists() else ():
                event, facts = read_line(line)
                if event in table():
                    words = [str(value) for name, value in facts.items() if name not in IDENTITY]
                    yield " ".join([event, *words]), "a worker process"


WATCH = Watch()


def secrets_of(payload: str) -> Iterator[str]:
    """The arguments as they are stored, as Python would show them, and each longer text in them."""
    try:
        value = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return
    if value:
        yield from (payload, repr(value), payload.replace(" ", ""))
        yield from (text for text in texts_in(value) if len(text) >= SHORTEST and not is_id(text))


def texts_in(value: object) -> Iterator[str]:
    """Every text inside a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from texts_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from texts_in(each)


def is_id(text: str) -> bool:
    """A job's id is no secret, and tests hand them to tasks."""
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def read_line(line: str) -> tuple[str, dict[str, Any]]:
    """Event and facts of a line that `worker` has written, in either format; an empty event if it is another's."""
    if line.startswith('{"timestamp"'):
        facts: dict[str, Any] = orjson.loads(line)
        return str(facts.pop("event", "")), facts
    found = LINE.match(line)
    if found is None:
        return "", {}
    return found[1], {name: value.replace('\\"', '"').replace("\\\\", "\\") for name, value in FACT.findall(found[2])}


def payloads_in(dsn: str) -> set[str]:
    """What the jobs of this database have as arguments, whoever deferred them."""
    query = "select args::text from jobqueue.job union all select args::text from jobqueue.job_archive limit %s"
    try:
        with psycopg.connect(dsn, connect_timeout=int(PATIENCE)) as connection:
            return {str(row[0]) for row in connection.execute(query, [MOST])}
    except psycopg.Error:  # the test has taken the database, or the schema, away
        return set()


def without_code(traceback: str) -> str:
    """A traceback without the lines of source, which may well have the test's own literals."""
    lines = traceback.splitlines()
    return "\n".join(line for before, line in zip(["", *lines], lines, strict=False) if not PLACE.match(before))


def own_words(error: BaseException | None) -> Iterator[str]:
    """What task code has said in this exception and those that led to it: not what we or pydantic did for us."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if not isinstance(error, errors.JobQueueError) and not raised_inside(error.__traceback__):
            yield from (safely(lambda it: str(it), error), safely(lambda it: str(it.data or ""), error))
            yield from getattr(error, "__notes__", ())
        if isinstance(error, BaseExceptionGroup):
            for each in error.exceptions:
                yield from own_words(each)
        error = error.__cause__ or error.__context__


def safely(read: Callable[[Any], str], error: BaseException) -> str:
    try:
        return read(error)
    except Exception:  # whatever a task's own class raises
        return ""


def raised_inside(trace: TracebackType | None) -> bool:
    """Whether the package itself, or what it calls, raised it: pydantic quotes values."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("jobqueue.tasks.a")


def install() -> None:
    """Listen from now on, for good."""
    for level in ("debug", "info", "warning", "error", "critical"):
        setattr(Log, level, hearing(level, getattr(Log, level)))
    Log.says = lambda self, level: True  # type: ignore[method-assign]
    noting(Signature, "encode_args", lambda given, result: WATCH.payload(result))
    noting(Attempt, "__init__", lambda given, result: WATCH.payload(given[2]))
    noting(outcomes, "error_json", lambda given, result: WATCH.stored.extend(error for error in given if error))
    for module in (running, verdict):
        noting(module, "describe", lambda given, result: WATCH.own_words.extend(own_words(given[0])))
    noting(Process, "__init__", lambda given, result: WATCH.processes.append(given[0]._err))
    setattr(errors.JobQueueError, "__init__", remembering_text)  # noqa: B010 - an assignment would not type-check
    hear_others()


def hear_others() -> None:
    """Listen at the root of all loggers: also after a framework has configured logging anew, without us."""
    root = logging.getLogger()
    if not any(isinstance(handler, Foreign) for handler in root.handlers):
        root.addHandler(Foreign())


def hearing(level: str, say: Callable[..., None]) -> Callable[..., None]:
    """A method of Log that is heard, whether or not its line goes anywhere."""

    @wraps(say)
    def heard(self: Log, event: str, **facts: Any) -> None:
        WATCH.lines.append((self._name, level, event, {**self._bound, **facts}))
        say(self, event, **facts)

    return heard


def noting(owner: Any, name: str, note: Callable[[tuple[Any, ...], Any], object]) -> None:
    """Call this with the arguments and the result of each call."""
    call = getattr(owner, name)

    @wraps(call)
    def noted(*given: Any, **named: Any) -> Any:
        result = call(*given, **named)
        note(given, result)
        return result

    setattr(owner, name, noted)


def remembering_text(self: errors.JobQueueError, *args: object) -> None:
    super(errors.JobQueueError, self).__init__(*args)
    if not isinstance(self, errors.JobFailed | errors.JobCancelled):  # these carry what the task has said
        WATCH.texts.append(" ".join(map(str, args)))


class Foreign(logging.Handler):
    """Hears what asyncio, the driver and others log of us."""

    def emit(self, record: logging.LogRecord) -> None:
        """Remember it."""
        if record.name.partition(".")[0] in ("asyncio", "asyncpg", "anyio", "uvicorn"):
            WATCH.foreign.append(record.getMessage())
