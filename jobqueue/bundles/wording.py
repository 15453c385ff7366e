"""Jobs of a graph in words: short, on one line, whatever plain SQL has written."""

from jobqueue.base.job import short_id
from jobqueue.bundles.grouping import Group

_ROOM = 24


def named(text: str) -> str:
    """A task, or a word of a handler's."""
    shown = (text if text.isprintable() else text.encode("unicode_escape").decode()) or "unknown"
    return shown if len(shown) <= _ROOM else f"{shown[: _ROOM - 1]}…"


def counted(jobs: int) -> str:
    """`1 job`, `12 jobs`."""
    return f"{jobs} {'job' if jobs == 1 else 'jobs'}"


def who(group: Group) -> str:
    """A single job by its id, others by their number."""
    return short_id(group.job.id) if group.job else counted(group.size)


def states_of(group: Group) -> list[tuple[str, str]]:
    """Each state with the words for it: `dead (OSError)` of one job, `3 dead` of several."""
    return [
        (state, told(state, note) if group.job else f"{jobs} {told(state, note)}")
        for state, note, jobs in group.worst_first
    ]


def told(state: str, note: str) -> str:
    """A state, and why."""
    return f"{state} ({named(note)})" if note else state
