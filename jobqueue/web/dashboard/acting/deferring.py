"""What somebody has put into the form of a task: as arguments and options of a defer, or what is wrong with it.

Nothing is stored here: `send` does that, in the transaction of the action that is told to the audit.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from jobqueue.base.errors import InvalidOption, InvalidPayload, JobQueueError
from jobqueue.base.moments import read_length, read_moment
from jobqueue.tasks.handle import JobHandle
from jobqueue.tasks.registry import AnyTask, call_of
from jobqueue.web.dashboard.access.access import Access
from jobqueue.web.dashboard.acting.telling import tell
from jobqueue.web.dashboard.reading.view import View
from jobqueue.web.dashboard.showing.fields import Field, fields_of, taken, unknown

OPTIONS = ("delay", "at", "queue", "priority")
WHOLE = "args"
"""Field of a form that has all arguments as one JSON object, in place of those of each."""
_PRIORITY = re.compile(r"[+-]?\d{1,9}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Entry:
    """What stands in the form: with errors, or ready to be sent."""

    task: AnyTask
    fields: tuple[Field, ...]
    whole: str | None = None
    """All arguments as one text of JSON; None if each has a field."""
    options: Mapping[str, str] = field(default_factory=dict)
    """As they were written."""
    args: str | None = None
    """The arguments as JSON text, if that could be made."""
    said: Mapping[str, Any] = field(default_factory=dict)
    """The options, read."""
    errors: Mapping[str, str] = field(default_factory=dict)
    """By option; of all arguments together under `args`."""

    @property
    def ready(self) -> bool:
        """Whether nothing is wrong with it, as far as is known before it is stored."""
        return self.args is not None and not self.errors and not any(each.error for each in self.fields)

    def refused(self, error: JobQueueError) -> "Entry":
        """The same with what an error says beside the field that it is about."""
        if not isinstance(error, InvalidPayload | InvalidOption):
            return replace(self, errors={**self.errors, WHOLE: str(error)})
        if isinstance(error, InvalidOption):
            place = error.option if error.option in OPTIONS else WHOLE
            return replace(self, errors={**self.errors, place: str(error).partition(": ")[2]})
        name = re.split(r"[.\[]", error.path)[0]
        if self.whole is None and any(each.name == name for each in self.fields):
            deeper = error.path[len(name) :].lstrip(".")
            rule = f"{deeper}: {error.rule}" if deeper else error.rule
            fields = (replace(each, error=rule) if each.name == name else each for each in self.fields)
            return replace(self, fields=tuple(fields))
        return replace(self, errors={**self.errors, WHOLE: f"{error.path}: {error.rule}" if error.path else error.rule})


def empty_entry(task: AnyTask) -> Entry:
    """A form into which nobody has put anything. Raises InvalidSignature."""
    return Entry(task, fields_of(task.signature.json_schema, task.signature.defaults))


def read_entry(task: AnyTask, data: Mapping[str, str], access: Access) -> Entry:
    """What the fields of a form say: `arg.NAME`, `json.NAME`, or `args`; and the options. Raises InvalidSignature."""
    said, errors = _options(task, data, access)
    entry = replace(
        empty_entry(task), options={name: data.get(name, "") for name in OPTIONS}, said=said, errors=errors,
    )  # fmt: skip
    entry = _whole(entry, data[WHOLE]) if WHOLE in data else _each(entry, data)
    if not entry.ready or entry.args is None:
        return entry
    try:
        call_of(task.options(**said), entry.args)
    except (InvalidPayload, InvalidOption) as error:
        return entry.refused(error)
    return entry


async def send(view: View, entry: Entry) -> JobHandle[Any]:
    """Store the job, and in the same transaction who did it.

    Raises what a defer does: InvalidPayload, InvalidOption, DuplicateJob and KeyLocked are for `entry.refused`.
    """
    assert entry.args is not None  # noqa: S101 - whoever sends has asked whether it is ready
    async with view.site.app.audit.beside(view.by, "task.defer", task=entry.task.name) as (connection, row):
        handle = await call_of(entry.task.options(**entry.said, connection=connection), entry.args)()
        row.jobs, row.changed = [handle.id], 0 if handle.duplicate else 1
        row.what["job"] = str(handle.id)
    tell(view, "tasks/defer")
    return handle


def _whole(entry: Entry, text: str) -> Entry:
    given = replace(entry, whole=text)
    try:
        call_of(entry.task, text or "{}")
    except InvalidPayload as error:
        return given.refused(error)
    return replace(given, args=text or "{}")


def _each(entry: Entry, data: Mapping[str, str]) -> Entry:
    read = [taken(each, data) for each in entry.fields]
    fields = tuple(each for each, _ in read)
    errors = dict(entry.errors)
    if strangers := unknown(fields, data):
        errors[WHOLE] = f"the task has no argument {strangers[0]!r} any more; load this page anew"
    texts = [f"{orjson.dumps(each.name).decode()}:{text}" for each, text in read if text is not None]
    wrong = errors.get(WHOLE) or any(each.error for each in fields)
    return replace(entry, fields=fields, errors=errors, args=None if wrong else "{" + ",".join(texts) + "}")


def _options(task: AnyTask, data: Mapping[str, str], access: Access) -> tuple[dict[str, Any], dict[str, str]]:
    said: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for name in OPTIONS:
        text = data.get(name, "").strip()
        try:
            value: Any = _option(name, text) if text else None
            if value is not None:
                task.options(**{name: value})
                said[name] = value
        except InvalidOption as error:
            errors[name] = str(error).partition(": ")[2]
    if "delay" in said and "at" in said:
        errors["at"] = "give either a delay or a time"
    if not access.sees(said.get("queue") or task.queue):
        errors["queue"] = "is none of your queues"
    return said, errors


def _option(name: str, text: str) -> object:
    match name:
        case "delay":
            return read_length(name, text)
        case "at":
            return read_moment(name, text)
        case "priority":
            if not _PRIORITY.fullmatch(text):
                raise InvalidOption(name, "must be a whole number")
            return int(text)
        case _:
            return text
