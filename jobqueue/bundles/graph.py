"""The graph of a bundle, drawn: which jobs come after which, and what has become of them. No database in here."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from textwrap import wrap
from uuid import UUID

from jobqueue.base.flows.bundle import Bundle
from jobqueue.base.flows.graph import GraphJob, Unlinked
from jobqueue.base.job import JobState, short_id
from jobqueue.bundles.grouping import GONE, Group, followers, groups_of, note_of, steps_of, unlinked_groups
from jobqueue.bundles.mermaid import flowchart
from jobqueue.bundles.table import Paint, table
from jobqueue.bundles.wording import counted, named, told

_SINGLE, _SINGLE_NODES = 30, 50
"""Up to so many jobs each has a line, a node of its own."""
_LINKS = 400
"""Mermaid refuses a chart of more than 500."""
_CAUSES = 5


class BundleGraph:
    """The jobs of a bundle and what they come after, as they stood when it was read. `str()` gives `text`."""

    def __init__(self, bundle: Bundle, jobs: Iterable[GraphJob], unlinked: Iterable[Unlinked]) -> None:
        given = list(jobs)
        self._steps = steps_of(given)
        self.bundle = bundle
        self.jobs: Sequence[GraphJob] = tuple(sorted(given, key=lambda job: (self._steps[job.id], job.id)))
        """Those that come after others or that others come after; none stands before what it comes after."""
        self.unlinked: Sequence[Unlinked] = tuple(unlinked)
        """All others and the callbacks: how many of each task and state."""

    def __str__(self) -> str:
        return self.text

    @cached_property
    def text(self) -> str:
        """In 80 columns: what has failed, and what that cancelled; then a line a job or, of many, for those alike."""
        return self.draw()

    @cached_property
    def mermaid(self) -> str:
        """A Mermaid flowchart: a node a job up to 50; of more, one for those alike: a task after the same tasks."""
        return flowchart(self.groups)

    @cached_property
    def groups(self) -> Sequence[Group]:
        """What a chart has as its nodes: single jobs, or those alike where there are more than 50."""
        groups = groups_of(self.jobs, self._steps, _SINGLE_NODES, _LINKS)
        return [*groups, *unlinked_groups(self.unlinked)]

    def draw(self, width: int = 80, paint: Paint = lambda state, text: text) -> str:
        """The text for another width, and in colours: `paint("dead", "3 dead")` gives that text back in its colour."""
        groups = [*groups_of(self.jobs, self._steps, _SINGLE), *unlinked_groups(self.unlinked)]
        if not groups:
            return "no jobs"
        causes = [paint(JobState.DEAD, line) for cause in self._causes() for line in wrap(cause, width)]
        return "\n".join([*causes, *([""] if causes else []), *table(groups, width, paint)])

    def _causes(self) -> list[str]:
        """What failed, and how many jobs were cancelled because of it; first those that cancelled any."""
        after = followers(self.jobs)
        failed = [job for job in self.jobs if job.state in (JobState.DEAD, JobState.CANCELLED, None) and not job.doomed]
        culprits = [job for job in failed if any(next.doomed for next in after.get(job.id, ()))]
        known = {job.id for job in culprits}
        culprits += [job for job in failed if job.state is JobState.DEAD and job.id not in known]
        lines = [_sentence(job, _doomed_by(job, after)) for job in culprits[:_CAUSES]]
        left = len(culprits) - len(lines)
        return [*lines, f"and {left} more"] if left else lines


def _sentence(job: GraphJob, doomed: int) -> str:
    said = f"{short_id(job.id)} {named(job.task)} is {told(job.state or GONE, note_of(job))}"
    return f"{said}: {counted(doomed)} after it {'is' if doomed == 1 else 'are'} cancelled" if doomed else said


def _doomed_by(job: GraphJob, after: Mapping[UUID, Sequence[GraphJob]]) -> int:
    """How many were cancelled because of it, be it because of others too."""
    found: set[UUID] = set()
    waiting = [job.id]
    while waiting:
        new = {next.id for next in after.get(waiting.pop(), ()) if next.doomed} - found
        found |= new
        waiting += new
    return len(found)
