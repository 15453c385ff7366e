"""Which task runs the jobs of which name."""

import threading
from typing import Any

import pytest

from jobqueue.base.errors import DuplicateTask
from jobqueue.tasks.registry import Registry
from jobqueue.tasks.router import TaskHome
from jobqueue.tasks.task import Task


def send(to: str) -> None: ...
def resend(to: str) -> None: ...


def task(function: Any = send, name: str | None = None, aliases: tuple[str, ...] = ()) -> Task[Any, Any]:
    made: Task[Any, Any] = TaskHome().task(name=name, aliases=aliases)(function)
    return made


def test_tasks_are_found_by_name_and_alias() -> None:
    """A renamed task still runs the jobs stored under its former name. (S4-06)"""
    registry, renamed = Registry(), task(name="mail.send", aliases=("send_mail", "old.send"))
    registry.add(renamed)

    assert [renamed, renamed, None] == [registry.find(name) for name in ("mail.send", "old.send", "send")]
    assert {"mail.send", "send_mail", "old.send"} == registry.names


def test_listing_matches_what_was_added() -> None:
    """Each task is listed once, whatever its aliases; `in` and `len` agree. (S4-22)"""
    registry, one, two = Registry(), task(send, aliases=("a", "b")), task(resend)
    registry.add(one)
    registry.add(two)

    assert [one, two] == list(registry)
    assert (2, True, True, False) == (len(registry), "send" in registry, "b" in registry, "c" in registry)


@pytest.mark.parametrize(
    ("first", "second"),
    [(("x", ()), ("x", ())), (("x", ("y",)), ("y", ())), (("x", ()), ("y", ("x",))), (("x", ("z",)), ("y", ("z",)))],
)
def test_a_second_function_of_a_name_is_refused(
    first: tuple[str, tuple[str, ...]], second: tuple[str, tuple[str, ...]]
) -> None:
    """A name or alias that is taken is refused by an error that names both functions; the first keeps it. (S4-22)"""
    registry, holder = Registry(), task(send, *first)
    registry.add(holder)

    with pytest.raises(DuplicateTask) as caught:
        registry.add(task(resend, *second))

    assert "test_registry.send" in str(caught.value)
    assert "test_registry.resend" in str(caught.value)
    assert [holder] == list(registry)


def test_the_same_function_replaces_itself() -> None:
    """A notebook cell that runs twice defines its task anew; what only the old one had is forgotten. (S4-22)"""
    registry, before, after = Registry(), task(send, aliases=("old",)), task(send, aliases=("new",))
    registry.add(before)
    registry.add(after)

    assert (after, after, None) == (registry.find("send"), registry.find("new"), registry.find("old"))
    assert [after] == list(registry)


def test_tasks_can_be_removed() -> None:
    """One task with all its names, or all; an unknown name changes nothing. (S4-22)"""
    registry, one, two = Registry(), task(send, aliases=("a",)), task(resend)
    registry.add(one)
    registry.add(two)

    registry.remove("nobody")
    registry.remove("a")
    assert [two] == list(registry)
    assert None is registry.find("send")

    registry.clear()
    assert [] == list(registry)
    assert frozenset() == registry.names


def test_tasks_may_come_while_others_look() -> None:
    """Adding and removing while another thread looks tasks up and lists them is safe, and is seen at once. (S4-23)"""
    registry, added, done, trouble = Registry(), task(resend), threading.Event(), list[BaseException]()
    registry.add(task(send))

    def look() -> None:
        try:
            while not done.is_set():
                assert registry.find("send") is not None
                assert len(list(registry)) in {1, 2}
        except BaseException as error:
            trouble.append(error)

    thread = threading.Thread(target=look)
    thread.start()
    for _ in range(2_000):
        registry.add(added)
        assert added is registry.find("resend")
        registry.remove("resend")
        assert None is registry.find("resend")
    done.set()
    thread.join()

    assert [] == trouble
