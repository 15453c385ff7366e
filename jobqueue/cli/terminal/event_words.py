"""Events in the words of the command line: one on a line, and what types are called."""

from collections.abc import Iterable
from datetime import UTC

from jobqueue.base.flows.event import Event


def line_of(event: Event, *, job: bool = False) -> str:
    """One event on one line; `job`: with its job and task."""
    kind = event.type.removeprefix("job.")
    tries = f"attempt {event.attempt}" if event.attempt > 1 or event.will_retry else ""
    error = (event.error or "").rpartition(".")[2]
    phase = "" if event.data is None else " ".join(str(word) for word in event.data.values())
    facts = [fact for fact in (event.task if job else "", phase, tries, error, event.reason) if fact]
    about = f"  {event.job_id}" if job else ""
    return f"{event.at.astimezone(UTC):%m-%d %H:%M:%S}  {kind:<9}{about}  {', '.join(facts)}".rstrip()


def types_of(words: Iterable[str]) -> list[str]:
    """`dead` or `job.dead`, several with commas, as the log has them."""
    return [name if "." in name else f"job.{name}" for text in words for name in text.split(",")]
