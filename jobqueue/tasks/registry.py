"""Which task runs the jobs of which name.

Tasks may be added, replaced and removed while workers run: each job looks its task up when it is about to start, and
nothing remembers the answer. A job that comes before its task is put aside and found again later.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from jobqueue.base.codec import loads
from jobqueue.base.errors import DuplicateTask, InvalidOption, InvalidPayload, LimitConflict
from jobqueue.base.flows.schedule import Timing
from jobqueue.tasks.gates.gates import NamedLimit, gates_of, refuse_two_rates
from jobqueue.tasks.handle import JobHandle
from jobqueue.tasks.payload.parameters import full_name
from jobqueue.tasks.task import Task

AnyTask: TypeAlias = Task[Any, Any]


@dataclass(frozen=True, slots=True)
class Declared:
    """A schedule that the code declares: which task at which times."""

    name: str
    task: AnyTask
    timing: Timing


class Registry:
    """Tasks by name and alias. Iterating yields each task once, as they stood at that moment."""

    def __init__(self) -> None:
        self._by_name: dict[str, AnyTask] = {}
        self._built_in: dict[str, AnyTask] = {}
        self._schedules: dict[str, Declared] = {}
        self.of_queues: dict[str, NamedLimit] = {}
        """The limits of whole queues."""

    def build_in(self, task: AnyTask) -> None:
        """Add a task of the library's own: its jobs find it, but nobody sees, counts or removes it."""
        self._built_in[task.name] = task

    def check(self, task: AnyTask) -> None:
        """Raise DuplicateTask if another function has the task's name or one of its aliases.

        And LimitConflict if one of its limits is declared elsewhere, in another way.
        """
        for name in (task.name, *task.aliases):
            holder = self.find(name)
            if holder is not None and not _is_same_function(holder, task):
                raise DuplicateTask(name, full_name(holder.function), full_name(task.function))
        for limit in _limits_of(task):
            self._refuse_conflict(limit, task)
        if (of_queue := self.of_queues.get(task.queue)) is not None:
            refuse_two_rates(of_queue, _limits_of(task))

    def add(self, task: AnyTask) -> None:
        """Add a task; the same function, defined anew as in a notebook, takes its own place. Raises DuplicateTask."""
        self.check(task)
        names = (task.name, *task.aliases)
        before = {holder for name in names if (holder := self._by_name.get(name)) is not None}
        for name in names:
            self._by_name[name] = task
        for holder in before - {task}:
            self._forget(holder)

    def declare(self, declared: Declared) -> None:
        """Add a schedule. Raises InvalidOption if there is another one of this name."""
        before = self._schedules.get(declared.name)
        # Defined anew, as in a notebook, a task is another object.
        twice = before is not None and before.task is declared.task and before.timing != declared.timing
        if before is not None and (twice or not _is_same_function(before.task, declared.task)):
            rule = f"task {before.task.name!r} has a schedule of this name; give this one a name of its own"
            raise InvalidOption("name", rule)
        self._schedules[declared.name] = declared

    @property
    def schedules(self) -> Sequence[Declared]:
        """What the code declares, of tasks that are there."""
        return [each for each in self._schedules.values() if self.find(each.task.name) is not None]

    def limit_queue(self, queue: str, limit: NamedLimit) -> None:
        """Have all jobs of a queue pass a gate, in place of one said before. Raises LimitConflict, InvalidOption."""
        before = self.of_queues.pop(queue, None)
        try:
            self._refuse_conflict(limit, None)
            for task in self:
                if task.queue == queue:
                    refuse_two_rates(limit, _limits_of(task))
        except BaseException:
            if before is not None:
                self.of_queues[queue] = before
            raise
        self.of_queues[queue] = limit

    @property
    def limits(self) -> dict[str, NamedLimit]:
        """All limits by name, as they are declared now."""
        return {each.name: each for each in self._all_limits(None)}

    def gates_now(self, name: str, queue: str, args: str) -> tuple[str, ...] | None:
        """The gates that a job has by the limits of now; None if its task is unknown.

        Raises InvalidPayload if a key cannot be one, and whatever the function raises that gives it.
        """
        task = self.find(name)
        return None if task is None else gates_of(task.gates, self.of_queues, queue, args)

    @property
    def has_limits(self) -> bool:
        """Whether any task or queue has one, or a fair order."""
        return bool(self.of_queues) or any(task.gates is not None for task in self)

    def remove(self, name: str) -> None:
        """Remove the task that has this name or alias, with all its names; nothing if there is none."""
        task = self._by_name.get(name)
        if task is not None:
            self._forget(task)

    def clear(self) -> None:
        """Remove all tasks, and their schedules."""
        self._by_name.clear()
        self._schedules.clear()

    def find(self, name: str) -> AnyTask | None:
        """The task for jobs of this name."""
        return self._by_name.get(name) or self._built_in.get(name)

    @property
    def names(self) -> frozenset[str]:
        """All names that `find` knows, aliases included."""
        return frozenset((*self._by_name, *self._built_in))

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __iter__(self) -> Iterator[AnyTask]:
        return iter(dict.fromkeys(self._by_name.values()))

    def __len__(self) -> int:
        return len(set(self._by_name.values()))

    def _refuse_conflict(self, limit: NamedLimit, of_task: AnyTask | None) -> None:
        for other in self._all_limits(of_task):
            if other.name == limit.name and other.limit.rule != limit.limit.rule:
                raise LimitConflict(limit.name, other.of, limit.of)

    def _all_limits(self, but_of: AnyTask | None) -> Iterator[NamedLimit]:
        yield from self.of_queues.values()
        for task in self:
            if but_of is None or not _is_same_function(task, but_of):
                yield from _limits_of(task)

    def _forget(self, task: AnyTask) -> None:
        for name in (task.name, *task.aliases):
            if self._by_name.get(name) is task:
                del self._by_name[name]


def call_of(task: AnyTask, text: str) -> Callable[[], Awaitable[JobHandle[Any]]]:
    """The defer of a task with arguments that are JSON text: what a person writes, or another program.

    They are read by the signature, and written again by the defer as any others are. Raises InvalidPayload.
    """
    if not isinstance(loads(text, "JSON"), dict):
        raise InvalidPayload("JSON", "", "object", 'must be an object, keyed by parameter name: \'{"name": "value"}\'')
    args, kwargs = task.signature.decode_args(text)
    return partial(task.defer, *args, **kwargs)


def _limits_of(task: AnyTask) -> tuple[NamedLimit, ...]:
    return () if task.gates is None else task.gates.limits


def _is_same_function(one: AnyTask, other: AnyTask) -> bool:
    return full_name(one.function) == full_name(other.function)
