"""What a job waits for that stands in the line of a limit, in words."""

from collections.abc import Iterator

from jobqueue.base.flows.limit import FAIR, SCHEDULE, parts_of, say_gate
from jobqueue.base.job import Job
from jobqueue.store.looking.overview import InLine
from jobqueue.telling.spans import duration, number

MOST = 10_000
"""Of those before a job so many are counted."""


def waits_at(job: Job) -> str:
    """`waits for limit smtp of acme`; empty if it waits at no gate."""
    return "" if job.waits_for is None else f"waits for {_called(job.waits_for)}"


def said_of_line(line: InLine) -> Iterator[str]:
    """Where it stands, and what keeps the line from moving."""
    about = line.before >= MOST
    yield f"waits for {_called(line.gate)}, {number(line.before, about) if line.before else 'nobody'} before it"
    if parts_of(line.gate)[0].startswith(FAIR):
        return
    if line.declared is None:
        yield "no worker has declared this limit since it was deferred: start one with the code that has it"
    elif line.concurrency == 0:
        yield f"this limit is 0 now, so nothing begins: `limits set {line.declared} --concurrency N` or `limits reset`"
    elif line.concurrency is not None and line.held is not None:
        yield f"{line.held} of {line.concurrency} places held"
    if line.next_in is not None and line.next_in > 0:
        yield f"the rate lets the next one start in {duration(line.next_in)}"


def _called(gate: str) -> str:
    name, key = parts_of(gate)
    if name.startswith(FAIR):
        turn = f"its turn in queue {name.removeprefix(FAIR)}"
        return turn if key is None else f"{turn}, as one of {key}"
    if name == SCHEDULE:
        return f"its turn in schedule {key}"
    return f"limit {say_gate(gate)}"
