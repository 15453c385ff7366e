"""`queues`: list them, pause and resume them."""

import asyncio
from dataclasses import fields
from datetime import UTC, datetime, timedelta

from jobqueue.base.errors import InvalidOption
from jobqueue.cli.failures import ExitCode, Refusal, tell
from jobqueue.cli.output import ago, duration, moment, write, write_json, write_table
from jobqueue.cli.place import Place
from jobqueue.store.steering import QueueStatus
from jobqueue.tasks.queues import Queues
from jobqueue.tasks.options import check_queue

_NUMBERS = ("scheduled", "ready", "running", "oldest ready")


def show_queues(place: Place, as_json: bool) -> ExitCode:
    """The queues that have unfinished jobs or were paused."""
    now = datetime.now(UTC)
    queues = asyncio.run(place.ask(Queues, Queues.list))
    if as_json:
        write_json([_document(queue, now) for queue in queues])
        return ExitCode.OK
    rows = [
        (
            queue.name,
            queue.scheduled,
            queue.ready,
            queue.running,
            None if queue.oldest is None else duration(max(queue.oldest, 0.0)),
            _pause(queue, now),
        )
        for queue in queues
    ]
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
    now = datetime.now(UTC)
    if length is not None:
        until = now + timedelta(seconds=length)
    if until is not None and until <= now:
        raise Refusal("--until: this time is over", ExitCode.USAGE)

    async def pause(queues: Queues) -> bool:
        known = name in {queue.name for queue in await queues.list()}
        await queues.pause(name, until)
        return known

    known = asyncio.run(place.ask(Queues, pause))
    if as_json:
        write_json({"queue": name, "paused": True, "until": until})
        return ExitCode.OK
    write(f"queue {name} is paused until {moment(until) if until else 'it is resumed'}; what runs goes on")
    if not known:
        tell(f"no job waits in queue {name} now: is that its name?")
    return ExitCode.OK


def resume_queue(place: Place, name: str, as_json: bool) -> ExitCode:
    """Start its jobs again."""
    name = _checked(name)

    async def resume(queues: Queues) -> bool:
        now = datetime.now(UTC)
        paused = any(queue.name == name and is_paused(queue, now) for queue in await queues.list())
        await queues.resume(name)
        return paused

    was_paused = asyncio.run(place.ask(Queues, resume))
    if as_json:
        write_json({"queue": name, "paused": False, "was_paused": was_paused})
    else:
        write(f"queue {name} is resumed" if was_paused else f"queue {name} was not paused")
    return ExitCode.OK


def is_paused(queue: QueueStatus, now: datetime) -> bool:
    """The mark of a pause that is over stays until a worker clears it away."""
    return queue.paused and (queue.resume_at is None or queue.resume_at > now)


def queue_and_app(first: str, second: str | None) -> tuple[str, str | None]:
    """The name, and perhaps an App: after it, or before it if it is written with its colon."""
    if second is not None and ":" in first and ":" not in second:
        return second, first
    return first, second


def _checked(name: str) -> str:
    try:
        return check_queue(name) or name
    except InvalidOption as error:
        raise Refusal(str(error), ExitCode.USAGE) from None


def _document(queue: QueueStatus, now: datetime) -> dict[str, object]:
    document: dict[str, object] = {field.name: getattr(queue, field.name) for field in fields(QueueStatus)}
    return document | {"paused": is_paused(queue, now)}


def _pause(queue: QueueStatus, now: datetime) -> str:
    if not is_paused(queue, now):
        return ""
    since = 0.0 if queue.paused_at is None else max((now - queue.paused_at).total_seconds(), 0.0)
    resumes = "" if queue.resume_at is None else f", resumes {ago(queue.resume_at, now)}"
    return f"for {duration(since)}{resumes}"
