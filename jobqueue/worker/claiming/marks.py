"""How far this worker has worked off each queue and priority, so that a claim does not walk over all that has gone.

While somebody on the server holds an old snapshot, the index keeps an entry for every job that has gone, and a claim
from the beginning steps over them all. Here stands from which seq on a claim looks: `mark` of a priority, `floor` of
those that were never met. Jobs below them are rare: they committed long after they got their seq, or came back with an
old one. The patrol finds them and opens a stretch for them. It is memory of one worker only, and may be lost.
"""

from collections.abc import Iterable, Mapping

from jobqueue.store.claims import EVERYTHING, Arm, Ready
from jobqueue.worker.keeping.windows import BOTTOM, TOP

_GRACE = 0.25
"""Seconds in which whoever got a seq has committed, or its job waits for the patrol."""
_LOWEST, _HIGHEST = EVERYTHING[:2]
_MOST_PRIORITIES = 16
_MOST_STRETCHES = 16


class _Queue:
    """The stretches of seqs in which jobs may be ready, by priority: (after, upto), in order, the last one open."""

    def __init__(self, floor: int) -> None:
        self._floor = floor
        self._steps = list[tuple[int, int]]()
        """The floor of what lies above a priority, the lowest first: the higher the priority, the higher its floor."""
        self._stretches: dict[int, list[tuple[int, int]]] = {0: [(floor, TOP)]}

    def arms(self) -> list[Arm]:
        """What a claim looks at, best first: the priorities that were met, and what lies between them."""
        arms, high = list[Arm](), _HIGHEST
        for priority in sorted(self._stretches, reverse=True):
            if priority < high:
                arms.append((priority + 1, high, self._floor_of(priority + 1), TOP))
            arms += [(priority, priority, *stretch) for stretch in self._stretches[priority]]
            high = priority - 1
        if high >= _LOWEST:
            arms.append((_LOWEST, high, self._floor_of(_LOWEST), TOP))
        return arms

    def work_off(self, priority: int, seq: int) -> None:
        """All that was ready up to this seq is taken."""
        left = [(max(after, seq), upto) for after, upto in self._of(priority) if upto > seq]
        self._stretches[priority] = left

    def empty(self, seq: int) -> None:
        """The same for every priority."""
        self._floor = max(self._floor, seq)
        self._steps = [step for step in self._steps if step[1] > self._floor]
        for priority in self._stretches:
            self.work_off(priority, seq)

    def work_off_above(self, priority: int, seq: int) -> None:
        """The same for every higher priority."""
        self._steps = [step for step in self._steps if step[0] < priority][-_MOST_PRIORITIES:]
        if seq > self._floor_of(priority + 1):
            self._steps.append((priority, seq))
        for higher in self._stretches:
            if higher > priority:
                self.work_off(higher, seq)

    def _floor_of(self, priority: int) -> int:
        """From here on are the jobs of a priority that was never met."""
        return max([self._floor, *(seq for above, seq in self._steps if above < priority)])

    def open(self, priority: int, seq: int, upto: int) -> bool:
        """A job is ready here, perhaps others up to there; False if a claim looks there anyway."""
        stretches = self._of(priority)
        if any(after < seq <= end for after, end in stretches):
            return False
        upto = min(upto, *(after for after, _ in stretches if after >= seq))
        stretches = sorted([*stretches, (seq - 1, upto)])
        if len(stretches) > _MOST_STRETCHES:
            stretches[:2] = [(stretches[0][0], stretches[1][1])]
        self._stretches[priority] = stretches
        return True

    def _of(self, priority: int) -> list[tuple[int, int]]:
        if priority not in self._stretches and len(self._stretches) >= _MOST_PRIORITIES:
            del self._stretches[next(met for met in self._stretches if met)]
        return self._stretches.setdefault(priority, [(self._floor_of(priority), TOP)])


class Marks:
    """The marks of one worker. They follow the last seq at a distance: who got one commits a little later."""

    def __init__(self) -> None:
        self._queues: dict[str, _Queue] = {}
        self._floor = self._settled = BOTTOM
        self._told = (0.0, BOTTOM)

    def forget(self) -> None:
        """Look at everything again."""
        self._queues.clear()
        self._floor = self._settled = BOTTOM
        self._told = (0.0, BOTTOM)

    def drop(self, queue: str) -> None:
        """Nobody looks into this queue for now."""
        self._queues.pop(queue, None)

    def tell(self, newest: int, now: float) -> bool:
        """The last seq given out; True, and all is forgotten, if it is lower than it was, as after a failover."""
        if went_back := newest < self._told[1]:
            self.forget()
        if self._settle(now):
            self._told = now, newest
        return went_back

    def skip(self) -> None:
        """To walk over all that has gone takes too long: leave what there is to the patrol."""
        self._queues.clear()
        self._floor = self._settled = self._told[1]

    def begin(self, after: int) -> None:
        """To walk over all that has gone below takes too long: leave what is ready there to the patrol."""
        self._queues.clear()
        self._floor = max(self._floor, after)

    @property
    def settled(self) -> int:
        """Up to here all seqs were given out a while ago."""
        return self._settled

    def patrolled(self, seq: int) -> None:
        """Up to here the patrol has looked into every queue, whether it was known or not."""
        self._floor = max(self._floor, seq)

    def arms(self, queue: str) -> list[Arm]:
        """Where a claim looks for jobs of this queue."""
        return self._known(queue).arms()

    def learn(self, tops: Mapping[tuple[str, int], int], emptied: Iterable[str], sent: float) -> None:
        """A claim sent then took up to these seqs by queue and priority, and from the emptied queues all there was."""
        self._settle(sent)
        lowest = dict[str, int]()
        for (queue, priority), seq in tops.items():
            self._known(queue).work_off(priority, min(seq, self._settled))
            lowest[queue] = min(priority, lowest.get(queue, priority))
        for queue, priority in lowest.items():  # it looked so low because there was no more that comes first
            self._known(queue).work_off_above(priority, self._settled)
        for queue in emptied:
            self._known(queue).empty(self._settled)

    def late(self, job: Ready, upto: int) -> bool:
        """The patrol has found a job, perhaps the first of several up to this seq; True if no claim would see it."""
        return job.priority is not None and self._known(job.queue).open(job.priority, job.seq, upto)

    def _settle(self, now: float) -> bool:
        told, newest = self._told
        ripe = now - told >= _GRACE
        if ripe:
            self._settled = max(self._settled, newest)
        return ripe

    def _known(self, queue: str) -> _Queue:
        return self._queues.setdefault(queue, _Queue(self._floor))
