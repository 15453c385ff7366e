"""Which task runs the jobs of which name.

Tasks may be added, replaced and removed while workers run: each job looks its task up when it is about to start, and
nothing remembers the answer. A job that comes before its task is put aside and found again later.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from jobqueue.base.errors import DuplicateTask, InvalidOption
from jobqueue.base.flows.schedule import Timing
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

    def build_in(self, task: AnyTask) -> None:
        """Add a task of the library's own: its jobs find it, but nobody sees, counts or removes it."""
        self._built_in[task.name] = task

    def check(self, task: AnyTask) -> None:
        """Raise DuplicateTask if another function has the task's name or one of its aliases."""
        for name in (task.name, *task.aliases):
            holder = self.find(name)
            if holder is not None and not _is_same_function(holder, task):
                raise DuplicateTask(name, full_name(holder.function), full_name(task.function))

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

    def _forget(self, task: AnyTask) -> None:
        for name in (task.name, *task.aliases):
            if self._by_name.get(name) is task:
                del self._by_name[name]


def _is_same_function(one: AnyTask, other: AnyTask) -> bool:
    return full_name(one.function) == full_name(other.function)
