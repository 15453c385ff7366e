"""Jobs of a graph in so few groups that a reader can take them in."""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from jobqueue.base.flows.graph import GraphJob, Unlinked
from jobqueue.base.job import JobState

GONE = "gone"
_WORST_FIRST = (
    JobState.DEAD, JobState.CANCELLED, GONE, JobState.RUNNING, JobState.READY, JobState.SCHEDULED, JobState.BLOCKED,
    JobState.COMPLETED,
)  # fmt: skip


@dataclass(slots=True)
class Group:
    """Jobs of one task that have the same place in the graph, or one job."""

    task: str
    first: int = 0
    last: int = 0
    """Steps: the longest way to these jobs, counted from 1. 0 for what has no place in it."""
    job: GraphJob | None = None
    """The only one, if it is."""
    outside: bool = False
    callback: bool = False
    states: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How many there are of each state; with a note for those that are cancelled because of others."""
    before: dict[int, None] = field(default_factory=dict)
    """The places, in the list of groups, of those that these come after."""

    @property
    def size(self) -> int:
        """How many jobs it has."""
        return self.states.total()

    @property
    def worst_first(self) -> list[tuple[str, str, int]]:
        """State, note and number, beginning with what somebody may have to look at."""
        if self.job is not None:
            return [(self.job.state or GONE, note_of(self.job), 1)]
        ordered = sorted(self.states, key=lambda found: (_WORST_FIRST.index(found[0]), found[1]))
        return [(state, note, self.states[state, note]) for state, note in ordered]


def note_of(job: GraphJob) -> str:
    """Why it is not well, in a word."""
    match job.state:
        case JobState.DEAD:
            return job.error or job.reason or ""
        case JobState.CANCELLED:
            return job.reason or ""
        case JobState.SCHEDULED:
            return job.error or ""
        case _:
            return ""


def steps_of(jobs: Sequence[GraphJob]) -> dict[UUID, int]:
    """For each job the longest way to it, counted from 1; what plain SQL has made a circle of comes last."""
    left = {job.id: len(job.after) for job in jobs}
    after = followers(jobs)
    steps = {job.id: 1 for job in jobs}
    settled = deque(job.id for job in jobs if not job.after)
    while settled:
        id = settled.popleft()
        for job in after.get(id, ()):
            steps[job.id] = max(steps[job.id], steps[id] + 1)
            left[job.id] -= 1
            if not left[job.id]:
                settled.append(job.id)
    end = max((step for id, step in steps.items() if not left[id]), default=0) + 1
    return {id: end if left[id] else step for id, step in steps.items()}


def followers(jobs: Iterable[GraphJob]) -> Mapping[UUID, Sequence[GraphJob]]:
    """For each job those that come directly after it, if any do."""
    found: defaultdict[UUID, list[GraphJob]] = defaultdict(list)
    for job in jobs:
        for before in job.after:
            found[before].append(job)
    return found


def groups_of(
    jobs: Sequence[GraphJob], steps: Mapping[UUID, int], most: int, most_links: float = float("inf")
) -> list[Group]:
    """Single jobs if they are few; else those alike at each step; if these are too many, at whatever step."""
    tasks = {job.id: job.task for job in jobs}
    alike = {job.id: (job.outside, job.task, frozenset(tasks[before] for before in job.after)) for job in jobs}
    ways: list[Callable[[UUID], Hashable]] = [lambda id: id, lambda id: (steps[id], alike[id]), alike.__getitem__]
    for way in ways[:-1]:
        groups = _grouped(jobs, steps, way)
        if len(groups) <= most and sum(len(group.before) for group in groups) <= most_links:
            return groups
    return _grouped(jobs, steps, ways[-1])


def unlinked_groups(unlinked: Iterable[Unlinked]) -> list[Group]:
    """One for each task; callbacks apart."""
    found: dict[tuple[bool, str], Group] = {}
    for some in sorted(unlinked, key=lambda some: (some.callback, some.task)):
        group = found.setdefault((some.callback, some.task), Group(some.task, callback=some.callback))
        group.states[some.state, ""] += some.jobs
    return list(found.values())


def _grouped(jobs: Sequence[GraphJob], steps: Mapping[UUID, int], way: Callable[[UUID], Hashable]) -> list[Group]:
    places: dict[Hashable, int] = {}
    place = {job.id: places.setdefault(way(job.id), len(places)) for job in jobs}
    groups: list[Group] = []
    for job in jobs:
        step = steps[job.id]
        if place[job.id] == len(groups):
            groups.append(Group(job.task, step, step, job, job.outside))
        else:
            groups[place[job.id]].job = None
        group = groups[place[job.id]]
        group.first, group.last = min(group.first, step), max(group.last, step)
        group.states[job.state or GONE, "dependency" if job.doomed else ""] += 1
        group.before |= dict.fromkeys(place[before] for before in job.after)
    return groups
