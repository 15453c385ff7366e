"""The gates of a job, by the limits that its task and its queue have now."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from jobqueue.base.errors import InvalidOption
from jobqueue.base.flows.limit import Key, Limit, Turn, check_limit_name, fair_gate
from jobqueue.tasks.gates.keys import Arguments, KeyReader, key_reader
from jobqueue.tasks.options import TaskOptions, queue_named
from jobqueue.tasks.payload.signature import Signature


@dataclass(frozen=True, slots=True)
class NamedLimit:
    """A limit under the name that it has in an app, and `of`, which uses it: `task send_mail`."""

    name: str
    limit: Limit
    of: str

    @property
    def place(self) -> tuple[Turn, str]:
        """Where its gate stands among the others of a job: the same in all tasks."""
        return self.limit.turn, self.name


class TaskGates:
    """The gates of one task's jobs. Keys are checked at once if the annotations are known, else by `resolve`."""

    def __init__(
        self, task: str, limits: Iterable[Limit], fair: str | Callable[..., Key] | None, signature: Signature
    ) -> None:
        """Raises InvalidOption."""
        self.limits = _named(task, limits)
        self._fair = fair
        self._signature = signature
        self._readers: list[tuple[NamedLimit, KeyReader | None]] | None = None
        self._fair_reader: KeyReader | None = None
        self._fixed: tuple[str, ...] | None = None
        if signature.is_known:
            self.resolve()

    @classmethod
    def of_options(cls, task: str, options: TaskOptions, signature: Signature) -> "TaskGates | None":
        """None for a task without limits. Raises InvalidOption."""
        if not options.limit and options.fair is None:
            return None
        return cls(task, options.limit or (), options.fair, signature)

    def resolve(self) -> None:
        """Make sure that the keys are where they are said to be. Raises InvalidOption, InvalidSignature."""
        if self._readers is not None:
            return
        signature = self._signature
        readers = [
            (each, None if each.limit.key is None else key_reader("limit", each.limit.key, signature))
            for each in self.limits
        ]
        self._fair_reader = None if self._fair is None else key_reader("fair", self._fair, signature)
        if self._fair_reader is None and all(reader is None for _, reader in readers):
            self._fixed = tuple(each.limit.gate(each.name) for each in self.limits)
        self._readers = readers

    @property
    def is_fair(self) -> bool:
        """Whether its jobs get their places in a queue by turns of their keys."""
        return self._fair is not None

    def of(self, queue: str, args: str, of_queue: NamedLimit | None) -> tuple[str, ...]:
        """In the order in which a job with these arguments passes them; `of_queue` is its queue's limit.

        Raises InvalidPayload if a key cannot be one, and whatever a function raises that gives it.
        """
        self.resolve()
        if of_queue is None and self._fixed is not None:
            return self._fixed
        arguments = Arguments(args)
        gates = self._passed(arguments, of_queue)
        key = None if self._fair_reader is None else self._fair_reader.of(arguments)
        return gates if key is None else (*gates, fair_gate(queue, key))

    def _passed(self, arguments: Arguments, of_queue: NamedLimit | None) -> tuple[str, ...]:
        listed = list(self._readers or ())
        if of_queue is not None and of_queue.name not in {each.name for each, _ in listed}:
            refuse_two_rates(of_queue, (each for each, _ in listed))
            listed = sorted([*listed, (of_queue, None)], key=lambda each: each[0].place)
        gates = []
        for each, reader in listed:
            if reader is None:
                gates.append(each.limit.gate(each.name))
            elif (key := reader.of(arguments)) is not None:
                gates.append(each.limit.gate(each.name, key))
        return tuple(gates)


def gates_of(gates: TaskGates | None, of_queues: Mapping[str, NamedLimit], queue: str, args: str) -> tuple[str, ...]:
    """Of a job: by its task's gates, if it has any, and by the limits that queues have. Raises as `TaskGates.of`."""
    of_queue = of_queues.get(queue)
    if gates is not None:
        return gates.of(queue, args, of_queue)
    return () if of_queue is None else (of_queue.limit.gate(of_queue.name),)


def limit_of_queue(queue: str, limit: Limit) -> NamedLimit:
    """A limit of a whole queue, by default called after it. Raises InvalidOption."""
    given: object = limit
    queue_named("queue", queue)
    if not isinstance(given, Limit):
        raise InvalidOption("limit", f"must be Limit(...), not {type(given).__name__}")
    if limit.key is not None:
        raise InvalidOption("key", "the tasks of a queue have different arguments; give each task its limit with a key")
    return NamedLimit(check_limit_name("name", limit.name or f"queue/{queue}"), limit, f"queue {queue!r}")


def refuse_two_rates(of_queue: NamedLimit, limits: Iterable[NamedLimit]) -> None:
    """A job is told its moment by one rate. Raises InvalidOption."""
    for each in limits:
        if of_queue.limit.rate is not None and each.limit.rate is not None and each.name != of_queue.name:
            raise InvalidOption("limit", f"{each.of} and {of_queue.of} both have a rate, and a job can have one only")


def _named(task: str, limits: Iterable[Limit]) -> tuple[NamedLimit, ...]:
    named: dict[str, NamedLimit] = {}
    for limit in limits:
        name = check_limit_name("limit", limit.name or task)
        if name in named:
            raise InvalidOption("limit", f"two limits of one task are called {name!r}; give one another name=...")
        named[name] = NamedLimit(name, limit, f"task {task!r}")
    return tuple(sorted(named.values(), key=lambda each: each.place))
