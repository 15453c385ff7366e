"""`queues`: list them, pause and resume them, limit what stays of them."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from difflib import get_close_matches

from jobqueue.base.job import UNFINISHED, JobState
from jobqueue.cli.place import Place
from jobqueue.cli.queues.stuck import write_stuck
from jobqueue.cli.terminal.asking import agreed, somebody_to_ask
from jobqueue.cli.terminal.failures import ExitCode, Refusal, as_usage, tell
from jobqueue.cli.terminal.output import write, write_json, write_table
from jobqueue.cli.terminal.user import this_user
from jobqueue.store.looking.overview import NO_LIMITS, Kept, QueueStats, StuckJob, queue_stats, stuck_now
from jobqueue.tasks.options import queue_named
from jobqueue.tasks.queues import Queues, check_limits
from jobqueue.telling.spans import duration, moment, number


def show_queues(place: Place, as_json: bool) -> ExitCode:
    """The queues that have unfinished jobs, or were paused or told what to keep; and handlers that are stuck."""
    queues, stuck = asyncio.run(_found(place))
    if as_json:
        write_json([queue_document(queue) for queue in queues])
        return ExitCode.OK
    if queues:
        states = states_shown(queues)
        numbers = (*states, "oldest ready")
        rows = [queue_row(queue, states) for queue in queues]
        write_table(("queue", *numbers, "notes"), rows, right=numbers, apart=("queue", "notes"))
    else:
        tell("no queue has unfinished jobs, none is paused")
    write_stuck(stuck)
    return ExitCode.OK


def pause_queue(place: Place, name: str, length: float | None, until: datetime | None, as_json: bool) -> ExitCode:
    """Start none of its jobs until it is resumed, for so many seconds, or until then."""
    name = _checked(name)
    if until is not None and until <= datetime.now(UTC):
        raise Refusal("--until: this time is over", ExitCode.USAGE)

    async def pause(queues: Queues) -> tuple[list[QueueStats], datetime | None]:
        return await queues.stats(), await queues.pause(name, until, seconds=length, by=this_user())

    found, end = asyncio.run(place.ask(Queues, pause))
    others = _names(place, found)
    known = name in others or any(queue.estimated for queue in found)
    if as_json:
        write_json({"queue": name, "paused": True, "until": end, "known": known})
    else:
        write(f"queue {name} is paused until {moment(end) if end else 'it is resumed'}; what runs goes on")
    if not known:
        _tell_unknown(name, others)
    return ExitCode.OK


def resume_queue(place: Place, name: str, as_json: bool) -> ExitCode:
    """Start its jobs again."""
    name = _checked(name)
    was_paused = asyncio.run(place.ask(Queues, lambda queues: queues.resume(name, by=this_user())))
    if as_json:
        write_json({"queue": name, "paused": False, "was_paused": was_paused})
    else:
        write(f"queue {name} is resumed" if was_paused else f"queue {name} was not paused")
    return ExitCode.OK


def show_kept(place: Place, name: str, as_json: bool) -> ExitCode:
    """What the queue keeps of its finished jobs."""
    name = _checked(name)
    queues = asyncio.run(place.ask(Queues, Queues.stats))
    _tell_kept(name, next((queue.keep for queue in queues if queue.queue == name), NO_LIMITS), as_json)
    return ExitCode.OK


def keep_finished(place: Place, name: str, keep: Kept, *, yes: bool, as_json: bool) -> ExitCode:
    """From the next sweep on its finished jobs are kept within these limits, and no others. Asks if there are any."""
    name = _checked(name)
    limits = {limit: value for limit, value in asdict(keep).items() if value is not None}
    with as_usage():
        check_limits(**asdict(keep))
    for limit, longest in (("completed", place.settings.keep_completed), ("other", place.settings.keep_other)):
        if limits.get(limit, 0.0) > longest:
            after = f"keep_{limit} is {duration(longest)}: workers with this setting drop whole days after that"
            tell(f"--{limit}: has no effect, as {after}")
    if limits and not yes:
        if not somebody_to_ask():
            raise Refusal("queues keep has workers remove jobs for good: give --yes", ExitCode.USAGE)
        if not agreed(f"queue {name} will keep {_limits(keep)}: have workers remove other finished jobs for good?"):
            tell("nothing was changed")
            return ExitCode.ERROR

    async def change(queues: Queues) -> list[QueueStats]:
        found = await queues.stats()
        await queues.keep(name, **limits, by=this_user())
        return found

    found = asyncio.run(place.ask(Queues, change))
    _tell_kept(name, keep, as_json)
    others = _names(place, found)
    if name not in others and (close := get_close_matches(name, others, 1)):  # one that is empty now is no slip
        _tell_unknown(name, close)
    return ExitCode.OK


def queue_document(queue: QueueStats) -> dict[str, object]:
    """A queue as JSON values."""
    document: dict[str, object] = {field.name: getattr(queue, field.name) for field in fields(QueueStats)}
    return document | {"estimated": sorted(queue.estimated)}


def states_shown(queues: Sequence[QueueStats]) -> tuple[JobState, ...]:
    """The states that have a column: `blocked` only where some job is, for most never have one."""
    return tuple(state for state in UNFINISHED if state is not JobState.BLOCKED or any(each.blocked for each in queues))


def queue_row(
    queue: QueueStats, states: Sequence[JobState], number: Callable[[int, bool], str] = number
) -> tuple[str | None, ...]:
    """A queue as the cells of a table: name, a number for each of these states, oldest ready, notes."""
    return (
        queue.queue,
        *(number(getattr(queue, state), state in queue.estimated) for state in states),
        None if queue.oldest_due is None else duration(max(queue.oldest_due, 0.0)),
        ", ".join(_notes(queue)),
    )


def _names(place: Place, found: Sequence[QueueStats]) -> set[str]:
    """The queues that there are: those with jobs or settings, and those of the app's tasks."""
    return {queue.queue for queue in found} | ({task.queue for task in place.app.registry} if place.app else set())


def _tell_unknown(name: str, others: Iterable[str]) -> None:
    close = get_close_matches(name, others, 1)
    tell(f"no job waits in queue {name} now: {f'did you mean {close[0]}?' if close else 'is that its name?'}")


async def _found(place: Place) -> tuple[list[QueueStats], list[StuckJob]]:
    async with place.database() as (_, database):
        await database.check()
        return await queue_stats(database), await stuck_now(database)


def _tell_kept(name: str, keep: Kept, as_json: bool) -> None:
    if as_json:
        write_json({"queue": name, **asdict(keep)})
    elif keep == NO_LIMITS:
        write(f"finished jobs of queue {name} stay as long as the workers' settings say")
    else:
        write(f"finished jobs of queue {name} stay: {_limits(keep)}; workers remove the others hourly")


def _limits(keep: Kept) -> str:
    said = {limit: value for limit, value in asdict(keep).items() if value is not None}
    amounts = {limit: str(value) if limit.startswith("most") else duration(value) for limit, value in said.items()}
    return ", ".join(f"{limit.replace('_', ' ')} {amount}" for limit, amount in amounts.items())


def _checked(name: str) -> str:
    with as_usage(name="NAME"):
        return queue_named("name", name)


def _notes(queue: QueueStats) -> Iterator[str]:
    if queue.suspects:
        yield f"{queue.suspects} suspect{'' if queue.suspects == 1 else 's'}"
    if queue.paused:
        yield _pause(queue)
    elif queue.ready and not queue.served:
        yield "no worker serves it"


def _pause(queue: QueueStats) -> str:
    if queue.paused_for is None:
        return "paused"
    resumes = "" if queue.resumes_in is None else f", resumes in {duration(max(queue.resumes_in, 0.0))}"
    return f"paused for {duration(max(queue.paused_for, 0.0))}{resumes}"
