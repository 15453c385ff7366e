"""Of what there is news, and when each is to be looked at."""

from collections.abc import Collection, Iterable, Set
from uuid import UUID

AGAIN = 0.01
"""Seconds after which somebody else will have done with one."""
_PUT_OFF = 0.25
"""Seconds after which one that others have is looked at again, at the most."""
_KNOWN = 10_000
"""Of so many it is remembered when they are due next."""


class Due:
    """Bundles, or jobs. Times are those of a monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._at: dict[UUID, float] = {}
        self._next: dict[UUID, float] = {}
        """Of those that were looked at: not before."""
        self._waits: dict[UUID, float] = {}
        """Of those that are put off: for how many seconds last."""

    def __bool__(self) -> bool:
        return bool(self._at)

    def add(self, ids: Iterable[UUID], *, at_once: bool = False) -> None:
        """There is news of these."""
        for id in ids:
            if at_once:
                self._at[id] = 0.0
            else:
                self._at.setdefault(id, self._next.get(id, 0.0))

    @property
    def first(self) -> float:
        """When the first one is due."""
        return min(self._at.values(), default=float("inf"))

    @property
    def put_off(self) -> Set[UUID]:
        """Those that others have, or that cannot be done."""
        return self._waits.keys()

    def take(self, now: float, room: int) -> list[UUID]:
        """Some that are due; they are no more."""
        taken = [id for id, at in self._at.items() if at <= now][:room]
        for id in taken:
            del self._at[id]
        return taken

    def shown(self, ids: Collection[UUID]) -> None:
        """All of which there are facts: of the others nothing is left to wait for."""
        self._waits = {id: wait for id, wait in self._waits.items() if id in ids}

    def looked(self, id: UUID, not_before: float | None = None) -> None:
        """It was looked at; news that comes before that time waits until then."""
        self._waits.pop(id, None)
        if not_before is None:
            self._next.pop(id, None)
        else:
            self._remember(id, not_before)

    def refused(self, id: UUID, until: float, wait: float) -> None:
        """It cannot be done, for so long."""
        self._waits[id] = wait
        self._remember(id, until)

    def missed(self, ids: Collection[UUID], now: float) -> float | None:
        """Others have these, some for long, or they are gone; when to ask the facts, which tell."""
        first = None
        for id in ids:
            if self._next.get(id, 0.0) > now:
                continue  # refused: it has its time
            wait = self._waits[id] = min(_PUT_OFF, 2 * self._waits.get(id, AGAIN / 2))
            self._remember(id, now + wait)
            first = min(first or now + wait, now + wait)
        return first

    def _remember(self, id: UUID, not_before: float) -> None:
        if max(len(self._next), len(self._waits)) > _KNOWN:
            self._next.clear()
            self._waits.clear()
        self._next[id] = not_before
