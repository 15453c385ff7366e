"""What may be said about a job: limits, precedence, unique keys."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from jobqueue.base.errors import InvalidOption
from jobqueue.base.job import NewJob
from jobqueue.base.retry import steps
from jobqueue.base.settings import Settings
from jobqueue.tasks.options import Unique
from tests.tasks.recording import Recorder, open_home

AT = datetime(2030, 1, 1, tzinfo=UTC)
TEXTS = ["", "x" * 101, "a\0b", "a\nb", "\ud800"]
NUMBERS = [0, -1, math.nan, math.inf, True, "5", timedelta(0), timedelta(days=4_000)]


def job(home_queue: str | None = None, task: dict[str, Any] | None = None, **said: Any) -> NewJob[Any]:
    """The new job of a task that is declared and deferred with these options."""
    recorder = Recorder(settings=Settings(max_attempts=7))

    @open_home(recorder, queue=home_queue).task(**task or {})
    def resize(path: str, width: int = 800) -> None: ...

    return resize.options(**said).job("a.png")


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("queue", [*TEXTS, "*", 5]),
        ("priority", [-32_769, 32_768, 1.5, True, "1"]),
        ("max_attempts", [0, 32_768, -1, 2.0, True]),
        ("timeout", NUMBERS),
        ("budget", NUMBERS),
        ("expires", NUMBERS),
        ("unique", ["", "x" * 101, "a\0b", 5, True]),
        ("delay", [-1, math.nan, math.inf, "5", True, timedelta(seconds=-1)]),
        ("at", [datetime(2030, 1, 1), "2030-01-01", 5]),
        ("origin", [*TEXTS, 5]),
        ("meta", [[], "x", {"a": math.nan}, {1: 2}, {"a": "\0"}, {"a": {1, 2}}, {"a": "x" * 70_000}]),
        ("id", ["x", 5, b"x", ""]),
        ("follow", ["yes", 1, 0]),
    ],
)
def test_each_option_is_checked_where_it_is_said(option: str, values: list[Any]) -> None:
    """A value out of its limits is refused at `options(...)`, before any defer, by the option's name. (S4-03)"""
    for value in values:
        with pytest.raises(InvalidOption, match=f"^{option}: ") as caught:
            job(**{option: value})
        assert option == caught.value.option


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("queue", [*TEXTS, "*"]),
        ("priority", [-32_769, 32_768, 1.5]),
        ("max_attempts", [0, 32_768]),
        ("timeout", NUMBERS),
        ("budget", NUMBERS),
        ("expires", NUMBERS),
        ("unique", ["", 5]),
        ("retry", [5, "exponential"]),
        ("follow", ["yes", 1]),
        ("name", TEXTS),
        ("aliases", ["former", *([text] for text in TEXTS)]),
    ],
)
def test_each_option_is_checked_at_the_decorator(option: str, values: list[Any]) -> None:
    """The same limits hold for what the decorator takes, at import. (S4-03)"""
    for value in values:
        with pytest.raises(InvalidOption, match=f"^{option}: "):
            job(task={option: value})


def test_limits_are_inclusive() -> None:
    """Names of 1 and 100 characters and the largest numbers pass. (S4-03)"""
    for name in ("x", "x" * 100, "mit Umlauten äöü", "日本"):
        found = job(queue=name, origin=name)
        assert (name, name) == (found.queue, found.origin)
    for priority in (-32_768, 32_767):
        assert priority == job(priority=priority).priority
    for attempts in (1, 32_767):
        assert attempts == job(max_attempts=attempts).max_attempts


def test_a_moment_is_given_once() -> None:
    """`delay` and `at` exclude each other in one call."""
    with pytest.raises(InvalidOption, match="either delay= or at="):
        job(delay=1, at=AT)


def test_times_may_be_timedeltas() -> None:
    """Seconds and timedeltas mean the same."""
    minute = timedelta(minutes=1)
    found = job(delay=minute, timeout=minute, budget=minute, expires=minute)
    declared = job(task={"timeout": minute, "budget": minute, "expires": minute})

    assert (60, 60, 60, 60) == (found.delay, found.timeout, found.budget, found.expires)
    assert (60, 60, 60) == (declared.timeout, declared.budget, declared.expires)


def test_everything_said_arrives() -> None:
    """All options stand in the new job as they were said. (S4-02)"""
    id = UUID(int=9)
    found = job(
        at=AT,
        queue="slow",
        priority=5,
        max_attempts=3,
        timeout=1,
        budget=2,
        expires=3,
        origin="import",
        meta={"trace": ["ä", 1]},
        id=str(id),
    )

    assert (AT, None, "slow", 5, 3, 1, 2, 3) == (
        found.at,
        found.delay,
        found.queue,
        found.priority,
        found.max_attempts,
        found.timeout,
        found.budget,
        found.expires,
    )
    assert ("import", '{"trace":["ä",1]}', id, True) == (found.origin, found.meta, found.id, found.resent)


def test_what_nobody_says_is_the_default() -> None:
    """Without options the settings and the app decide."""
    found = job()

    assert ("default", 0, 7, "shop") == (found.queue, found.priority, found.max_attempts, found.origin)
    assert (None, None, None, None, None) == (found.delay, found.at, found.timeout, found.budget, found.expires)
    assert (None, None, False) == (found.meta, found.key, found.resent)


def test_call_beats_task_beats_router_beats_settings() -> None:
    """An option said at several levels takes the value nearest to the call. (S1-03)"""
    task = {"queue": "of task", "priority": 3, "max_attempts": 5, "timeout": 50, "budget": 60, "expires": 70}
    declared = job("of router", task)
    called = job("of router", task, queue="of call", priority=0, max_attempts=1, timeout=1, budget=2, expires=3)

    assert "of router" == job("of router").queue
    assert ("of task", 3, 5, 50, 60, 70) == (
        declared.queue,
        declared.priority,
        declared.max_attempts,
        declared.timeout,
        declared.budget,
        declared.expires,
    )
    assert ("of call", 0, 1, 1, 2, 3) == (
        called.queue,
        called.priority,
        called.max_attempts,
        called.timeout,
        called.budget,
        called.expires,
    )


def test_options_add_up_and_the_later_wins() -> None:
    """`options` on a task with options keeps them, replaces what is said again, changes no other task. (S1-03)"""
    recorder = Recorder()

    @open_home(recorder).task
    def resize(path: str) -> None: ...

    slow = resize.options(queue="slow", priority=1, delay=5)
    urgent = slow.options(priority=9, at=AT)
    late = urgent.options(delay=7)

    assert [("default", 0, None, None), ("slow", 1, 5, None), ("slow", 9, None, AT), ("slow", 9, 7, None)] == [
        (found.queue, found.priority, found.delay, found.at)
        for found in (task.job("a") for task in (resize, slow, urgent, late))
    ]


def test_a_refused_meta_says_where() -> None:
    """The error of `meta` has the path and the rule, never the value."""
    with pytest.raises(InvalidOption, match=r"meta: a\.b\[1\]: is NaN") as caught:
        job(meta={"a": {"b": ["hunter2", math.nan]}})

    assert "hunter2" not in str(caught.value)


def test_the_retry_policy_stays_with_the_task() -> None:
    """A task's policy is found on the task."""
    policy = steps(1, 2)

    @open_home(Recorder()).task(retry=policy, timeout=5)
    def resize(path: str) -> None: ...

    assert (policy, 5) == (resize.retry, resize.timeout)


# Unique keys.


def test_a_key_belongs_to_its_task() -> None:
    """The same key of two tasks is two keys; a text is short for Unique(text)."""
    home = open_home(Recorder())

    @home.task
    def a(n: int) -> None: ...

    @home.task(unique="order-5")
    def b(n: int) -> None: ...

    keys = [a.options(unique="order-5").job(1).key, a.options(unique=Unique("order-5")).job(2).key, b.job(1).key]

    assert keys[0] == keys[1] != keys[2]
    assert all(key is not None and key.endswith("order-5") for key in keys)


def test_no_task_and_key_can_look_like_another_pair() -> None:
    """Names and keys with the same separators inside never meet."""
    home = open_home(Recorder())

    def f(n: int) -> None: ...

    pairs = [("a", "b:c"), ("a:b", "c"), ("a b", "c"), ("a", "b c")]
    keys = {home.task(name=name)(f).options(unique=key).job(1).key for name, key in pairs}

    assert len(pairs) == len(keys)


def test_without_a_key_the_arguments_are_the_key() -> None:
    """Equal arguments have the same key whatever way they are given, others another one."""
    home = open_home(Recorder())

    @home.task(unique=Unique())
    def resize(path: str, options: dict[str, int]) -> None: ...

    @home.task(unique=Unique())
    def rotate(path: str, options: dict[str, int]) -> None: ...

    same = {
        resize.job("a", {"x": 1, "y": 2}).key,
        resize.job("a", {"y": 2, "x": 1}).key,
        resize.job(options={"x": 1, "y": 2}, path="a").key,
    }

    assert 1 == len(same)
    assert same.isdisjoint({resize.job("b", {"x": 1, "y": 2}).key, rotate.job("a", {"x": 1, "y": 2}).key})


def test_the_longest_key_fits() -> None:
    """A task's name and a key of 100 characters each, or a hash, stay below the column's 250."""
    long = {"name": "n" * 100}

    for unique in (Unique("k" * 100), Unique()):
        key = job(task=long, unique=unique).key
        assert key is not None
        assert len(key) <= 220


def test_scope_and_period_arrive() -> None:
    """The scope and the period in seconds stand in the new job; a call's Unique replaces the task's as a whole."""
    task = {"unique": Unique("a", "period", timedelta(minutes=1))}
    declared, called = job(task=task), job(task=task, unique=Unique("b", "waiting"))

    assert ("period", 60) == (declared.key_scope, declared.key_period)
    assert ("waiting", None) == (called.key_scope, called.key_period)


@pytest.mark.parametrize("conflict", ["skip", "raise", "replace", "move", "replace+move"])
def test_what_happens_on_a_conflict_arrives(conflict: Any) -> None:
    """A10: what a Unique says about a taken key stands in the new job; without a word it is `skip`."""
    assert conflict == job(task={"unique": Unique("a", on_conflict=conflict)}).on_conflict
    assert conflict == job(task={"unique": "a"}, unique=Unique("b", on_conflict=conflict)).on_conflict
    assert "skip" == job(task={"unique": "a"}).on_conflict == job().on_conflict


@pytest.mark.parametrize("wrong", ["override", "", None, 5, ("replace", "move"), "move+replace"])
def test_an_unknown_conflict_is_refused_by_name(wrong: Any) -> None:
    """A10: a bad `on_conflict` is refused where it is said, with the value and those that there are."""
    with pytest.raises(InvalidOption, match=r"^unique: on_conflict must be one of skip, raise, replace, ") as told:
        Unique("a", on_conflict=wrong)

    assert repr(wrong) in str(told.value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"scope": "for ever"},
        {"scope": "period"},
        {"period": 5},
        {"scope": "waiting", "period": 5},
        {"scope": "period", "period": 0},
        {"scope": "period", "period": math.nan},
        {"key": ""},
        {"key": "k" * 101},
    ],
)
def test_a_unique_without_sense_is_refused(arguments: dict[str, Any]) -> None:
    """Unknown scopes, and a period that is missing, surplus or not above zero, are refused when it is made."""
    with pytest.raises(InvalidOption, match=r"^unique: "):
        Unique(**arguments)
