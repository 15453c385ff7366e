"""Which queues a worker serves, and how the free slots are shared among them.

`mail:5` limits a queue to five slots here, `-bulk` leaves one out, `*` (the default) serves all: new ones are found
when a notification names them, and by a look every second while the worker is busy, every poll while it sleeps.
"""

import time
from collections import Counter
from collections.abc import Iterable, Sequence

from jobqueue.base.errors import ConfigurationError
from jobqueue.store import claims
from jobqueue.store.connection.pool import Session

ALL = "*"
_LOOK_INTERVAL = 1.0


class Queues:
    """The queues of one worker, served in turn."""

    def __init__(self, wanted: Iterable[str] | None) -> None:
        """Raises ConfigurationError if an entry cannot be read. None and `*` mean all; a text has them with commas."""
        self.limits: dict[str, int] = {}
        self._left_out: set[str] = set()
        self.stale = True
        """True when queues may have come up that no notification named: at the start, after a gap, every poll."""
        self._all = False
        self._names: list[str] = []
        self._turn = 0
        self._looked_at = 0.0
        for entry in (wanted.split(",") if isinstance(wanted, str) else wanted) or (ALL,):
            self._add(entry.strip())
        if not self._all and not self._names:
            self._all = True  # only exclusions: all but those

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
        return [name for name in self._names if name not in self._left_out]

    def serves(self, queue: str) -> bool:
        """True if jobs of this queue may run here; a queue seen for the first time is remembered."""
        if queue in self._left_out:
            return False
        if self._all and queue not in self._names:
            self._names.append(queue)
        return queue in self._names

    def rooms(self, room: int, held: Counter[str]) -> dict[str, int]:
        """How many jobs each queue may have now: an even share, within its limit. Another comes first each time."""
        open_queues = {name: self._open(name, room, held) for name in self._in_turn()}
        open_queues = {name: free for name, free in open_queues.items() if free > 0}
        share = -(-room // max(1, len(open_queues)))
        return {name: min(share, free) for name, free in open_queues.items()}

    def worth_another(self, rows: Sequence[claims.Claim], room: int, held: Counter[str]) -> bool:
        """True if some queue used up its share while room is left, so that it may have more."""
        if len(rows) >= room or len(self._names) < 2:
            return False
        taken = Counter(row["queue"] for row in rows)
        share = -(-room // len(self._names))
        return any(count >= share and self._open(name, room, held) > 0 for name, count in taken.items())

    async def refresh(self, session: Session) -> None:
        """Learn of queues that have ready jobs, if all are served and that may have changed.

        Nobody notifies a worker that does not sleep: one that is busy all the time looks by itself.
        """
        now = time.monotonic()
        if self._all and (self.stale or now - self._looked_at >= _LOOK_INTERVAL):
            self._looked_at = now
            for name in await claims.ready_queues(session):
                self.serves(name)
        self.stale = False

    def _open(self, name: str, room: int, held: Counter[str]) -> int:
        limit = self.limits.get(name)
        return room if limit is None else min(room, limit - held[name])

    def _in_turn(self) -> list[str]:
        names = self.served
        self._turn = (self._turn + 1) % max(1, len(names))
        return names[self._turn :] + names[: self._turn]
