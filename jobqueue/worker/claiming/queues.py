"""Which queues a worker serves, and how the free slots are shared among them.

`mail:5` limits a queue to five slots here, `-bulk` leaves one out, `*` (the default) serves all: new ones are found
when a notification names them, and by the patrol every second while the worker is busy, every poll while it sleeps.

A queue is busy if the last look into it left jobs there, and idle if it took all. Only busy ones share the room; an
idle one is looked into before them. With `*` idle ones are forgotten, but for the latest few.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from jobqueue.base.errors import ConfigurationError
from jobqueue.store.claims import Claim

ALL = "*"
_MOST_LOOKED_AT = 200
"""Queues in one claim; the others have their turn in the next."""
_IDLE_LOOKED_AT = 50
"""As many idle ones are looked into by one claim, and with `*` remembered."""


class Haul:
    """What a claim has brought, by queue."""

    def __init__(self, rows: Sequence[Claim], rooms: Mapping[str, int], room: int) -> None:
        """`rows` best first; `rooms` and `room` are what was asked for, in the order of the claim."""
        self.taken = Counter[str]()
        self.tops: dict[tuple[str, int], int] = {}
        """Up to which seq each queue and priority was taken; suspects do not count, they are looked for apart."""
        for row in rows:
            queue = row["queue"]
            self.taken[queue] += 1
            if not row["crashes"]:
                self.tops[queue, row["priority"]] = row["seq"]
        self.looked = list(rooms)
        """The queues that were looked into: a claim that is full has stopped at its last one."""
        full = len(rows) >= room
        if full:
            last = {queue for queue, _ in self.tops}
            while self.looked and self.looked[-1] not in last:
                self.looked.pop()
        whole = self.looked[:-1] if full else self.looked
        self.emptied = [queue for queue in whole if self.taken[queue] < rooms[queue]]
        """Those of which every job was taken that was ready."""
        self.wanting = [] if full else [queue for queue in rooms if self.taken[queue] >= rooms[queue]]
        """Those that have used up their share while room is left."""


class Queues:
    """The queues of one worker, served in turn."""

    def __init__(self, wanted: Iterable[str] | None) -> None:
        """Raises ConfigurationError if an entry cannot be read. None and `*` mean all; a text has them with commas."""
        self.limits: dict[str, int] = {}
        self.named = False
        """True once a notification has named a queue, until a look has found jobs."""
        self._left_out: set[str] = set()
        self._all = False
        self._names: list[str] = []
        for entry in (wanted.split(",") if isinstance(wanted, str) else wanted) or (ALL,):
            self._add(entry.strip())
        if not self._all and not self._names:
            self._all = True  # only exclusions: all but those
        self._busy: dict[str, None] = {}
        """Least recently served first."""
        self._idle = dict.fromkeys(name for name in self._names if name not in self._left_out)
        """Least recently looked into first."""

    def _add(self, entry: str) -> None:
        name, colon, limit = entry.rpartition(":") if ":" in entry else (entry, "", "")
        if entry.startswith("-") and len(entry) > 1:
            self._left_out.add(entry[1:])
            return
        if not 1 <= len(name) <= 100:
            raise ConfigurationError(f"queues: {entry!r} is not a queue; write name, name:limit, -name or *")
        if colon:
            if not limit.isdigit() or int(limit) < 1:
                raise ConfigurationError(f"queues: the limit in {entry!r} must be a whole number of at least 1")
            self.limits[name] = int(limit)
        if name == ALL:
            self._all = True
        elif name not in self._names:
            self._names.append(name)

    @property
    def described(self) -> list[str]:
        """The queues as the user wrote them."""
        shown = [f"{name}:{self.limits[name]}" if name in self.limits else name for name in self._names]
        return ([ALL] if self._all else shown) + [f"-{name}" for name in sorted(self._left_out)]

    @property
    def flags(self) -> list[str]:
        """Under which names this worker sleeps."""
        return [ALL] if self._all else list(self._names)

    @property
    def served(self) -> list[str]:
        """The queues that are served, as far as their names are known."""
        return [*self._busy, *self._idle]

    def shared_with(self, other: "Queues") -> list[str]:
        """The queues that both serve, `*` for all."""
        mine = other._names if self._all else self._names
        names = [ALL] if self._all and other._all else mine if other._all else [n for n in mine if n in other._names]
        return [name for name in names if name not in self._left_out | other._left_out]

    def serves(self, queue: str) -> bool:
        """True if jobs of this queue may run here; called when it has some."""
        self.named = True
        return self.found(queue) is not None

    def found(self, queue: str) -> bool | None:
        """A queue has jobs. True if that is news, None if they are not for this worker."""
        if queue in self._busy:
            return False
        if queue in self._left_out or (not self._all and queue not in self._idle):
            return None
        self._idle.pop(queue, None)
        self._busy[queue] = None
        return True

    def rooms(self, room: int, held: Counter[str]) -> dict[str, int]:
        """How many jobs each queue may have now, within its limit, in the order of the claim.

        An even share for all that are busy. Idle ones come first, or nobody would know that they have jobs again.
        """
        idle = self._open([*self._idle][:_IDLE_LOOKED_AT], room, held)
        busy = self._open([*self._busy][: min(room, _MOST_LOOKED_AT)], room, held)
        share = -(-room // max(1, len(busy)))
        rest = -(-room // (len(busy) + 1 if busy else max(1, len(idle))))
        shares = {name: min(rest, free) for name, free in idle.items()}
        return shares | {name: min(share, free) for name, free in busy.items()}

    def learn(self, haul: Haul) -> list[str]:
        """What was looked into has its turn last from now on; the queues that are forgotten."""
        emptied = set(haul.emptied)
        for name in haul.looked:
            self._busy.pop(name, None)
            self._idle.pop(name, None)
            (self._idle if name in emptied else self._busy)[name] = None
        if not self._all:
            return []
        forgotten = [*self._idle][: max(0, len(self._idle) - _IDLE_LOOKED_AT)]
        for name in forgotten:
            del self._idle[name]
        return forgotten

    def worth_another(self, haul: Haul, held: Counter[str]) -> bool:
        """True if some queue used up its share while room is left, so that it may have more."""
        return bool(self._open(haul.wanting, 1, held))

    def _open(self, names: Iterable[str], room: int, held: Counter[str]) -> dict[str, int]:
        free = {name: min(room, self.limits.get(name, room + held[name]) - held[name]) for name in names}
        return {name: left for name, left in free.items() if left > 0}
