"""Events in the words of the command line: one on a line, and what types are called."""

from collections.abc import Iterable
from datetime import UTC

from jobqueue.base.flows.event import Event
from jobqueue.base.job import PLANNED_BY


def line_of(event: Event, *, job: bool = False) -> str:
    """One event on one line; `job`: with its job and task."""
    kind = event.type.removeprefix("job.")
    tries = f"attempt {event.attempt}" if event.attempt > 1 or event.will_retry else ""
    error = (event.error or "").rpartition(".")[2]
    facts = [fact for fact in (event.task if job else "", _said(event), tries, error, event.reason) if fact]
    about = f"  {event.job_id}" if job else ""
    return f"{event.at.astimezone(UTC):%m-%d %H:%M:%S}  {kind:<9}{about}  {', '.join(facts)}".rstrip()


def _said(event: Event) -> str:
    """`charge completed`, of a phase; `3 times, 2026-03-01T12:00:00+00:00 to ...`, of planned ones."""
    data = event.data or {}
    if event.type == "schedule.missed" and data.keys() >= {"count", "first", "last"}:
        name = (event.origin or "").removeprefix(PLANNED_BY)
        times = f"{data['count']} planned {'time' if data['count'] == 1 else 'times'}"
        return f"{name}: {times}, {data['first']}" + ("" if data["first"] == data["last"] else f" to {data['last']}")
    return " ".join(str(word) for word in data.values())


def types_of(words: Iterable[str]) -> list[str]:
    """`dead` or `job.dead`, several with commas, as the log has them."""
    return [name if "." in name else f"job.{name}" for text in words for name in text.split(",")]
