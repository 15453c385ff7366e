"""`queues`: list them, pause and resume them, limit what stays of them."""

import asyncio
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from jobqueue.base.errors import InvalidOption
from jobqueue.base.job import JobState
from jobqueue.cli.failures import ExitCode, Refusal, tell
from jobqueue.cli.output import ago, duration, moment, number, write, write_json, write_table
from jobqueue.cli.place import Place
from jobqueue.store.overview import QueueStats
from jobqueue.tasks.options import check_queue
from jobqueue.tasks.queues import Queues

_NUMBERS = ("scheduled", "ready", "running", "oldest ready")


def show_queues(place: Place, as_json: bool) -> ExitCode:
    """The queues that have unfinished jobs or were paused."""
    queues = asyncio.run(place.ask(Queues, Queues.stats))
    if as_json:
        write_json([queue_document(queue) for queue in queues])
        return ExitCode.OK
    rows = [queue_row(queue) for queue in queues]
    if rows:
        write_table(("queue", *_NUMBERS, "paused"), rows, right=_NUMBERS)
    else:
        tell("no queue has unfinished jobs, none is paused")
    return ExitCode.OK


def pause_queue(place: Place, name: str, length: float | None, until: datetime | None, as_json: bool) -> ExitCode:
    """Start none of its jobs until it is resumed, for so many seconds, or until then."""
    name = _checked(name)
    if length is not None and until is not None:
        raise Refusal("give either --for or --until, not both", ExitCode.USAGE)
    if until is not None and until <= datetime.now(UTC):
        raise Refusal("--until: this time is over", ExitCode.USAGE)

    async def pause(queues: Queues) -> tuple[bool, datetime | None]:
        found = await queues.stats()
        surely_unknown = all(queue.queue != name and not queue.estimated for queue in found)
        return surely_unknown, await queues.pause(name, until, seconds=length)

    unknown, end = asyncio.run(place.ask(Queues, pause))
    if as_json:
        write_json({"queue": name, "paused": True, "until": end})
        return ExitCode.OK
    write(f"queue {name} is paused until {moment(end) if end else 'it is resumed'}; what runs goes on")
    if unknown:
        tell(f"no job waits in queue {name} now: is that its name?")
    return ExitCode.OK


def resume_queue(place: Place, name: str, as_json: bool) -> ExitCode:
    """Start its jobs again."""
    name = _checked(name)
    was_paused = asyncio.run(place.ask(Queues, lambda queues: queues.resume(name)))
    if as_json:
        write_json({"queue": name, "paused": False, "was_paused": was_paused})
    else:
        write(f"queue {name} is resumed" if was_paused else f"queue {name} was not paused")
    return ExitCode.OK


def keep_finished(place: Place, name: str, limits: dict[str, Any], as_json: bool) -> ExitCode:
    """From the next sweep on its finished jobs are kept within these limits, and no others."""
    name = _checked(name)
    for limit, value in limits.items():
        if value is not None and value <= 0:
            raise Refusal(f"--{limit.replace('_', '-')}: must be above 0", ExitCode.USAGE)
    asyncio.run(place.ask(Queues, lambda queues: queues.keep(name, **limits)))
    said = {limit: value for limit, value in limits.items() if value is not None}
    if as_json:
        write_json({"queue": name, **limits})
    elif said:
        kept = (f"{limit.replace('_', ' ')} {_amount(limit, value)}" for limit, value in said.items())
        write(f"finished jobs of queue {name} stay: {', '.join(kept)}; workers remove the others hourly")
    else:
        write(f"finished jobs of queue {name} stay as long as the workers' settings say")
    return ExitCode.OK


def queue_and_app(first: str, second: str | None) -> tuple[str, str | None]:
    """The name, and perhaps an App: after it, or before it if it is written with its colon."""
    if second is not None and ":" in first and ":" not in second:
        return second, first
    return first, second


def queue_document(queue: QueueStats) -> dict[str, object]:
    """A queue as JSON values."""
    document: dict[str, object] = {field.name: getattr(queue, field.name) for field in fields(QueueStats)}
    return document | {"estimated": sorted(queue.estimated)}


def queue_row(queue: QueueStats) -> tuple[str | None, ...]:
    """A queue as the cells of a table: name, scheduled, ready, running, oldest ready, paused."""
    return (
        queue.queue,
        number(queue.scheduled, JobState.SCHEDULED in queue.estimated),
        number(queue.ready, JobState.READY in queue.estimated),
        number(queue.running, JobState.RUNNING in queue.estimated),
        None if queue.oldest_due is None else duration(max(queue.oldest_due, 0.0)),
        _pause(queue),
    )


def _amount(limit: str, value: Any) -> str:
    return str(value) if limit.startswith("most") else duration(value)


def _checked(name: str) -> str:
    try:
        return check_queue(name) or name
    except InvalidOption as error:
        raise Refusal(str(error), ExitCode.USAGE) from None


def _pause(queue: QueueStats) -> str:
    if not queue.paused or queue.paused_at is None:
        return ""
    now = datetime.now(UTC)
    since = max((now - queue.paused_at).total_seconds(), 0.0)
    resumes = "" if queue.resume_at is None else f", resumes {ago(queue.resume_at, now)}"
    return f"for {duration(since)}{resumes}"
