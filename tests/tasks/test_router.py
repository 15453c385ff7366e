"""Declaring tasks: the decorator, prefixes, routers and the apps that include them."""

from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from jobqueue.base.errors import ConfigurationError, DuplicateTask, InvalidSignature, RouterNotIncluded
from jobqueue.tasks.router import Router, TaskHome
from jobqueue.tasks.task import Task
from tests.tasks.recording import Recorder, open_home


def send(to: str) -> None: ...
def resend(to: str) -> None: ...


def test_the_decorator_comes_with_and_without_options() -> None:
    """`@task`, `@task()` and `@task(name=...)` all make a task. (S4-20)"""
    home = TaskHome()
    made = [home.task(send), home.task()(send), home.task(name="post")(send)]

    assert [Task, Task, Task] == [type(task) for task in made]
    assert ["send", "send", "post"] == [task.name for task in made]


@pytest.mark.parametrize(
    ("prefix", "name", "expected"), [("", None, "send"), ("mail.", None, "mail.send"), ("mail.", "post", "post")]
)
def test_names(prefix: str, name: str | None, expected: str) -> None:
    """The default is the function's name after the router's prefix; a name that is given stays as it is. (S4-06)"""
    assert expected == Router(prefix).task(name=name)(send).name


def test_a_bad_function_is_refused_at_the_decorator() -> None:
    """A function that cannot be a task is refused at import and registered nowhere. (S4-21)"""
    router = Router()

    with pytest.raises(InvalidSignature, match="lambda"):
        router.task(lambda x: x)
    assert [] == list(router.registry)


def test_local_types_are_found_in_text_annotations() -> None:
    """In a function, where a test defines its models, text annotations are read too, with options or without."""

    class Local(BaseModel):
        x: int

    def first(local: "Local") -> None: ...
    def second(local: "Local") -> None: ...

    home = open_home(Recorder())

    assert '{"local":{"x":1}}' == home.task(first).job(Local(x=1)).args
    assert '{"local":{"x":1}}' == home.task(queue="slow")(second).job(Local(x=1)).args


async def test_a_router_without_an_app_says_exactly_that() -> None:
    """Deferring before any app includes the router raises RouterNotIncluded with the way out. (S4-10)"""
    task = Router().task(send)

    for use in (lambda: task.job("a"), lambda: task.handle(UUID(int=1)), lambda: task.defer_sync("a")):
        with pytest.raises(RouterNotIncluded, match=r"'send'.*app\.include\(router\)"):
            use()
    with pytest.raises(RouterNotIncluded):
        await task.defer("a")
    with pytest.raises(RouterNotIncluded):
        await task.defer_many(["a"])


async def test_an_app_that_includes_the_router_gets_its_tasks_and_jobs() -> None:
    """Tasks declared before and after, and copies with options, all lead to the app. (S4-23)"""
    router, app = Router(queue="mail"), Recorder()
    before = router.task(send)
    optioned = before.options(priority=1)
    router.join(app)
    after = router.task(resend)

    for task in (before, optioned, after):
        await task.defer("a")

    assert [before, after] == list(app.registry)
    assert [("send", "mail", 0), ("send", "mail", 1), ("resend", "mail", 0)] == [
        (job.task, job.queue, job.priority) for job in app.sent
    ]


def test_a_router_serves_one_open_app_at_a_time() -> None:
    """A second app may include it once the first is closed; until then the error names both."""
    router, first, second = Router(), Recorder("first"), Recorder("second")
    task = router.task(send)
    router.join(first)
    router.join(first)

    with pytest.raises(ConfigurationError, match=r"'first'.*'second'"):
        router.join(second)
    first.is_open = False
    router.join(second)

    assert [task] == list(second.registry)
    assert "second" == task.job("a").origin
    first.is_open = True
    with pytest.raises(ConfigurationError, match=r"'second'.*'first'"):
        router.join(first)


def test_names_are_unique_across_routers_of_an_app() -> None:
    """A router with a name that the app has is refused as a whole, whenever the second task is declared. (S4-22)"""
    app, one, two = Recorder(), Router(), Router()
    first = one.task(name="send")(send)
    one.join(app)
    two.task(name="other")(send)
    two.task(name="send")(resend)

    with pytest.raises(DuplicateTask, match="'send'"):
        two.join(app)
    assert [first] == list(app.registry)

    late = Router()
    late.join(app)
    with pytest.raises(DuplicateTask, match="'send'"):
        late.task(name="send")(resend)
    assert ([first], []) == (list(app.registry), list(late.registry))


def test_one_function_may_be_several_tasks() -> None:
    """The same function under two names is two tasks."""
    home = TaskHome()
    one: Task[Any, Any] = home.task(name="fast", queue="fast")(send)
    two: Task[Any, Any] = home.task(name="slow", queue="slow")(send)

    assert [("fast", "fast"), ("slow", "slow")] == [(task.name, task.queue) for task in (one, two)]
    assert [one, two] == list(home.registry)
