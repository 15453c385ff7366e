"""A worker as it stands: the same facts for banner, dashboard, health check and tests."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Taken in one step, from any thread."""

    id: UUID
    running: int
    free: int
    """Slots in which a job would start at once."""
    ahead: int
    """Claimed jobs that wait for a slot."""
    unwritten: int
    draining: bool
    listening: bool
    refused: int
    """Outcomes that came too late: another worker had taken over."""
    rescued: int
    """Claims taken back from workers that had died."""
    recorded: int
    """Phases, sleeps and waits whose end it has recorded."""
    fired: int
    """Jobs that it has stored for planned times of schedules."""
    missed: int
    """Planned times that it has left out."""
    admitted: Mapping[str, int]
    """How often it has let a job pass a limit, by the limit's name, whoever runs the job."""
    stuck: int
    """Handlers that were asked to end and do not."""
    awaiting: int
    """Running jobs that wait for the end of other jobs, and hold their slots meanwhile."""
    lag: float
    """Seconds by which the event loop was last late."""
    blocked: float
    """Seconds for which the event loop has not turned now; 0 if it does."""
    heart_silent: float
    """Seconds since the heart last moved, whatever the database said."""
    unanswered: float
    """Seconds since the database last answered the heart, which asks once a beat; infinite if it never has."""
