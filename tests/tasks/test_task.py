"""A task defers, and is still its function."""

import copy
import inspect
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from jobqueue.base.errors import (
    ConfigurationError,
    InvalidOption,
    InvalidPayload,
    InvalidSignature,
)
from jobqueue.base.settings import Settings
from jobqueue.tasks.context import JobContext
from jobqueue.tasks.task import Task
from tests.tasks.recording import Recorder, open_home

ID = UUID(int=9)


class Mail(BaseModel):
    to: str


class Report(BaseModel):
    lines: list[str] = []


async def send(mail: Mail, /, copies: int = 1) -> str:
    """Send a mail."""
    return f"{mail.to} x{copies}"


async def resize(ctx: JobContext, path: str, *, width: int = 800) -> Report:
    return Report(lines=[path, str(width), ctx.job.task, str(ctx.attempt)])


def count(ctx: JobContext, words: list[str]) -> dict[str, int]:
    return {word: len(word) for word in words}


def touch(path: str) -> None: ...


async def test_a_task_is_still_its_function() -> None:
    """Called, it runs the function; it has its name, docstring and signature."""
    task = open_home(Recorder()).task(send)

    assert "a x2" == await task(Mail(to="a"), copies=2)
    assert ("send", "Send a mail.", send) == (vars(task)["__name__"], task.__doc__, task.function)
    assert inspect.signature(send) == inspect.signature(task)
    assert "<Task send>" == repr(task)


async def test_defer_stores_a_job_and_gives_its_handle() -> None:
    """The job carries the arguments as JSON by name; its id, made here, is the handle's. (S0-01)"""
    app = Recorder()
    task = open_home(app).task(resize)

    handle = await task.defer("a.png", width=200)

    assert ['{"path":"a.png","width":200}'] == [job.args for job in app.sent]
    assert (app.sent[0].id, "resize", False) == (handle.id, handle.task, handle.duplicate)
    assert 7 == handle.id.version
    assert [None] == app.connections


async def test_defer_is_a_coroutine_function() -> None:
    """Python itself reports a forgotten `await`; nothing is sent before it."""
    app = Recorder()
    task = open_home(app).task(touch)

    assert inspect.iscoroutinefunction(task.defer)
    with pytest.warns(RuntimeWarning, match="never awaited"):
        task.defer("a")  # type: ignore[unused-coroutine]
    assert [] == app.sent


@pytest.mark.parametrize("wrong", [5, {"to": 5}, Mail.model_construct(to=5), None, "a@b.c"])
async def test_a_wrong_payload_fails_at_the_defer(wrong: Any) -> None:
    """What does not fit the annotation is refused before anything is sent, by every way to defer. (S0-01)"""
    app = Recorder()
    task: Task[..., Any] = open_home(app).task(send)

    for call in (task.defer(wrong), task.defer_many([Mail(to="a"), wrong]), task.run(wrong)):
        with pytest.raises(InvalidPayload, match="send arguments: mail"):
            await call
    with pytest.raises(InvalidPayload):
        task.job(wrong)
    assert [] == app.sent


@pytest.mark.parametrize("option", ["delay", "at", "queue", "priority", "id", "connection", "unique"])
async def test_an_option_given_like_an_argument_points_the_way(option: str) -> None:
    """Whoever writes `defer(1, delay=5)` is told where options are given; a parameter of that name is one."""
    home = open_home(Recorder())
    wanted: Any = home.task(touch)

    for call in (wanted.defer, wanted.run, wanted.job):
        with pytest.raises(InvalidPayload, match=rf"before the call: task\.options\({option}=\.\.\.\)$") as told:
            answer = call("a", **{option: 5})
            await answer
        assert (option, "unexpected") == (told.value.path, told.value.kind)

    @home.task
    async def later(delay: int) -> None: ...

    await later.defer(delay=5)


async def test_an_id_of_ones_own_marks_a_resend() -> None:
    """With id= the job has that id and is checked against the archive; the holder's answer is a duplicate. (S4-02)"""
    app = Recorder(holder=ID)
    task = open_home(app).task(touch).options(id=ID)

    handle = await task.defer("a")

    assert [(ID, True)] == [(job.id, job.resent) for job in app.sent]
    assert (ID, True) == (handle.id, handle.duplicate)
    assert not open_home(app).task(touch).job("a").resent


async def test_a_duplicate_leads_to_the_job_that_holds_the_place() -> None:
    """The handle of a duplicate has the holder's id, not that of the job that was refused."""
    app = Recorder(holder=ID)

    handle = await open_home(app).task(touch).options(unique="a").defer("a")

    assert ID != app.sent[0].id
    assert (ID, True) == (handle.id, handle.duplicate)
    assert "duplicate" in repr(handle)


async def test_the_connection_is_passed_on() -> None:
    """`options(connection=...)` reaches the sender for one job and for many."""
    app, connection = Recorder(), object()
    task = open_home(app).task(touch).options(connection=connection)

    await task.defer("a")
    await task.defer_many(["b", "c"])

    assert [connection] * 3 == app.connections


async def test_defer_many_makes_one_job_of_each_payload() -> None:
    """Payloads go to the first parameter, in order, each with an id of its own; an empty list sends nothing."""
    app = Recorder()
    task = open_home(app).task(count)

    handles = await task.options(queue="slow").defer_many([["a"], ["b", "c"]])

    assert ['{"words":["a"]}', '{"words":["b","c"]}'] == [job.args for job in app.sent]
    assert [job.id for job in app.sent] == [handle.id for handle in handles]
    assert {"slow"} == {job.queue for job in app.sent}
    assert [] == await task.defer_many(iter([]))


async def test_one_id_cannot_name_many_jobs() -> None:
    """defer_many refuses an id, and says how to give each job its own."""
    with pytest.raises(InvalidOption, match=r"id: .*app\.defer_many"):
        await open_home(Recorder()).task(touch).options(id=ID).defer_many(["a"])


def test_a_new_job_has_its_id_and_hides_its_payload() -> None:
    """`job` gives a value whose id is fixed, different each time, and whose repr does not show the arguments."""
    task = open_home(Recorder()).task(touch)
    one, two = task.job("hunter2"), task.job("hunter2")

    assert one.id != two.id
    assert "hunter2" not in repr(one)
    assert one.decode_result is not None
    assert None is one.decode_result("null")


def test_the_limit_of_the_settings_holds() -> None:
    """Arguments larger than max_payload are refused, by the setting's name."""
    task = open_home(Recorder(settings=Settings(max_payload=20))).task(touch)

    assert "a" * 9 in task.job("a" * 9).args
    with pytest.raises(InvalidPayload, match=r"max_payload allows \(20\)"):
        task.job("a" * 10)


def test_defer_sync_hands_over_the_connection() -> None:
    """It stores the job on the given connection, or leaves it to the app where it stores it."""
    app, connection = Recorder(), object()
    task = open_home(app).task(touch)

    handles = [task.options(connection=connection).defer_sync("a"), task.defer_sync("a")]

    assert ([handle.id for handle in handles], [connection, None]) == ([job.id for job in app.sent], app.connections)


async def test_defer_sync_is_refused_inside_a_running_loop() -> None:
    """It would block the loop; the error names the call to make instead."""
    app = Recorder()

    with pytest.raises(ConfigurationError, match=r"await task\.defer"):
        open_home(app).task(touch).options(connection=object()).defer_sync("a")
    assert [] == app.sent


async def test_an_annotation_that_never_resolves_fails_at_the_defer() -> None:
    """A name that does not exist at run time fails the first defer by the parameter's name, sending nothing."""
    app = Recorder()

    def lost(mail: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821 - it is missing on purpose

    task = open_home(app).task(lost)
    with pytest.raises(InvalidSignature, match=r"'mail'.*'Nowhere'"):
        await task.defer(1)
    assert [] == app.sent


def test_a_copied_task_is_the_same_task() -> None:
    """Copies share function, signature and the way to the app."""
    app = Recorder()
    task = open_home(app).task(touch)
    same = copy.copy(task)

    assert (task.name, task.signature) == (same.name, same.signature)
    assert "shop" == same.job("a").origin
