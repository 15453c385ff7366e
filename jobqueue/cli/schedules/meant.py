"""What the schedules there answer, about all of them or about one, which is meant by its name."""

from collections.abc import Awaitable, Callable
from difflib import get_close_matches
from typing import TypeVar

from jobqueue.base.errors import InvalidOption, ScheduleNotFound
from jobqueue.cli.place import Place
from jobqueue.cli.terminal.failures import ExitCode, Refusal
from jobqueue.cron.schedules import Schedules

T = TypeVar("T")
_WORDS = {"name": "NAME", "since": "--since", "until": "--until"}
_LOOKED_AT = 1_000


async def ask(place: Place, question: Callable[[Schedules], Awaitable[T]]) -> T:
    """What they answer. Raises what `Place.ask` does."""
    return await place.ask(lambda there: Schedules(there, None), question)


async def ask_about(place: Place, name: str, question: Callable[[Schedules], Awaitable[T]]) -> T:
    """The same about one. Raises Refusal, also for what its row says that cannot be."""

    async def about(schedules: Schedules) -> T:
        try:
            return await question(schedules)
        except ScheduleNotFound:
            names = [each.name for each in await schedules.list(limit=_LOOKED_AT)]
            close = get_close_matches(name, names, 1)
            hint = f"did you mean {close[0]!r}?" if close else "`schedules list` has those there are"
            raise Refusal(f"no schedule {name!r}; {hint}") from None
        except InvalidOption as error:
            if (word := _WORDS.get(error.option)) is not None:
                raise Refusal(f"{word}: {str(error).partition(': ')[2]}", ExitCode.USAGE) from None
            raise Refusal(f"schedule {name!r} cannot be fired: {error}") from None

    return await ask(place, about)
