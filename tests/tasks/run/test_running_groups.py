"""What a run means by an exception group: a task group wraps whatever its tasks raise, and nothing of it is lost."""

import asyncio
from typing import Any

import anyio
import pytest

from jobqueue.base.job import Job
from jobqueue.base.outcome import Cancel, Cancelled, Dead, Fatal, Outcome, Retried, Retry, Snooze, Snoozed
from tests.tasks.run.attempts import error_of, run


def group(*errors: Exception) -> ExceptionGroup[Exception]:
    return ExceptionGroup("several", errors)


def raising(error: BaseException) -> Any:
    async def fail() -> None:
        raise error

    return fail


def short(outcome: Outcome) -> tuple[object, ...]:
    """The outcome in a few words."""
    match outcome:
        case Snoozed(delay):
            return "snoozed", delay
        case Cancelled(reason):
            return "cancelled", reason
        case Dead(reason, error):
            return "dead", reason, error and error.message, error and error.data
        case Retried(_, delay, _, queue):
            return "retried", delay, queue
    raise AssertionError(outcome)


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (Snooze(5), ("snoozed", 5.0)),
        (Cancel("unwanted"), ("cancelled", "unwanted")),
        (Fatal("bad card", {"a": 1}), ("dead", "fatal", "bad card", {"a": 1})),
        (Retry(7, queue="slow"), ("retried", 7.0, "slow")),
    ],
    ids=lambda given: type(given).__name__,
)
async def test_a_task_group_hands_on_what_its_tasks_say(raised: Exception, expected: tuple[object, ...]) -> None:
    """What a task of asyncio's or anyio's group raises to choose the outcome counts as if the handler had raised it."""

    async def in_asyncio() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(raising(raised)())

    async def in_anyio_twice() -> None:
        async with anyio.create_task_group() as outer, anyio.create_task_group() as inner:
            outer.start_soon(anyio.sleep_forever)
            inner.start_soon(raising(raised))

    assert [expected, expected] == [short(await run(in_asyncio)), short(await run(in_anyio_twice))]


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ((Snooze(5), Retry(7), Cancel("no"), Fatal("bad"), OSError()), ("dead", "fatal", "bad", None)),
        ((Snooze(5), OSError(), Retry(7), Cancel("no")), ("cancelled", "no")),
        ((OSError(), Snooze(5), Retry(7), Retry(8)), ("retried", 7.0, None)),
        ((Snooze(5), OSError()), ("retried", 3, None)),
        ((Snooze(5), Snooze(9)), ("snoozed", 5.0)),
        ((OSError(), group(KeyError(), group(Fatal("deep")))), ("dead", "fatal", "deep", None)),
    ],
)
async def test_one_of_several_decides(errors: tuple[Exception, ...], expected: tuple[object, ...]) -> None:
    """Fatal before Cancel before Retry before any other error before Snooze, in whatever order and depth they come."""
    outcome = await run(raising(group(*errors)), retry=lambda job, error: 3)

    assert expected == short(outcome)


async def test_the_story_of_a_group_shows_its_leaves() -> None:
    """The stored error names every leaf, in the message and with its place in the traceback."""
    error = await error_of(raising(group(OSError("no route"), group(KeyError("lost")))))

    assert "ExceptionGroup" == error.error_class
    assert "several (2 sub-exceptions): OSError: no route; KeyError: 'lost'" == error.message
    assert "OSError: no route" in error.traceback
    assert "KeyError: 'lost'" in error.traceback


async def test_a_group_of_many_is_told_in_short() -> None:
    """A thousand leaves do not make a thousand lines of the message."""
    error = await error_of(raising(group(*(OSError(number) for number in range(1000)))))

    assert error.message.endswith("OSError: 9; 990 more")


async def test_a_leaf_that_is_alone_speaks_for_its_group() -> None:
    """Its class and message are stored, the retry policy is called with it, and the traceback shows the way."""
    asked: list[BaseException] = []

    def policy(job: Job, error: BaseException) -> float:
        asked.append(error)
        return 1

    lost = KeyError("lost")
    error = await error_of(raising(group(group(lost))), retry=policy)

    assert [lost] == asked
    assert ("KeyError", "'lost'") == (error.error_class, error.message)
    assert "several (1 sub-exception)" in error.traceback


async def test_several_leaves_reach_the_policy_as_the_group() -> None:
    """A policy decides about all of them."""
    asked: list[BaseException] = []

    def policy(job: Job, error: BaseException) -> float:
        asked.append(error)
        return 1

    both = group(KeyError(), OSError())
    await run(raising(both), retry=policy)

    assert [both] == asked


async def test_a_subclass_that_forgets_its_base_has_the_defaults() -> None:
    """Own classes of these exceptions work without calling `super().__init__`."""

    class Later(Snooze):
        def __init__(self) -> None:
            pass

    class Never(Cancel):
        def __init__(self) -> None:
            pass

    assert ("snoozed", 60.0) == short(await run(raising(Later())))
    assert ("cancelled", None) == short(await run(raising(Never())))
