"""What is given to defer arrives in the task, through database and worker; what cannot arrive is refused first."""

import asyncio
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, Json, field_validator

from jobqueue.app import App
from jobqueue.base.errors import InvalidPayload, JobFailed
from jobqueue.base.job import JobState
from jobqueue.tasks.context import JobContext
from jobqueue.tasks.router import Router
from jobqueue.tasks.task import Task
from tests.support.jobs.stories import overheard, whole_story
from tests.support.jobs.working import asked, counted, reached
from tests.support.patience import PATIENCE
from tests.support.postgres.backends import change
from tests.tasks.payload.payloads import (
    Box,
    Colour,
    Letter,
    Mail,
    Numbers,
    Open,
    Options,
    Pair,
    Pet,
    Point,
    Slotted,
    Tag,
)

SECRET = "marker-7f3a"

KINDS: dict[str, tuple[Any, Any]] = {
    "dict": (dict[str, Any], {"a": [1, None, {"b": 1.5}], "ö": "✓", "": 2**63}),
    "list": (list[int], [1, -2]),
    "none": (int | None, None),
    "text": (str, "100 % \" \\ ' $1 \n :x\u2028"),
    "number": (float, 0.1),
    "model": (Letter, Letter(mails=[Mail(to="a")], by_name={"x": Mail(to="b")}, first=Mail(to="c"))),
    "generic model": (Box[Mail], Box[Mail](content=Mail(to="a"))),
    "root model": (Numbers, Numbers([1, 2])),
    "open model": (Open, Open.model_validate({"n": 1, "more": {"x": 1}})),
    "dataclass": (Slotted, Slotted([Point(1, 2), Point(0.5, None)])),
    "typed dict": (Options, {"depth": 3, "mail": Mail(to="a")}),
    "named tuple": (Pair, Pair(1, Mail(to="a"))),
    "enum": (Colour, Colour.RED),
    "union": (Pet, {"kind": "dog", "name": "rex"}),
    "set": (frozenset[Tag], frozenset({Tag("a"), Tag("b")})),
    "time": (datetime, datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)),
    "duration": (timedelta, timedelta(days=1, microseconds=3)),
    "uuid": (UUID, UUID(int=7)),
    "decimal": (Decimal, Decimal("1.10")),
    "bytes": (bytes, "grüße".encode()),
    "anything": (Any, {"a": [True, None]}),
}


async def test_every_kind_of_payload_goes_round(database: str) -> None:
    """S4-05: each kind goes through defer, the database, a worker and back as a result, and is what it was."""
    app = App(database)

    def task_for(name: str, annotation: Any) -> Task[[Any], Any]:
        async def echo(payload: Any) -> Any:
            arrived[name] = payload
            return payload

        echo.__annotations__ = {"payload": annotation, "return": annotation}
        return app.task(name=name)(echo)

    arrived: dict[str, Any] = {}
    tasks = {name: task_for(name, annotation) for name, (annotation, _) in KINDS.items()}
    handles = {name: await tasks[name].defer(value) for name, (_, value) in KINDS.items()}
    await app.run_until_idle()
    results = {name: await handle.result(timeout=PATIENCE) for name, handle in handles.items()}

    dog = arrived.pop("union")
    assert ("Dog", "rex") == (type(dog).__name__, dog.name)
    assert dog == results.pop("union")
    expected = {name: value for name, (_, value) in KINDS.items() if name != "union"}
    assert expected == arrived == results
    assert {name: type(value) for name, value in expected.items()} == {
        name: type(value) for name, value in results.items()
    }
    await app.close()


@pytest.mark.parametrize("raw", ['{"a": 1}', b'{"a": 1}', {"a": 1}], ids=["text", "bytes", "value"])
async def test_ready_json(raw: Any, database: str) -> None:
    """S4-05: a parameter annotated Json takes JSON that is ready; what is none raises at the defer."""
    app = App(database)

    @app.task
    async def read(document: Json[dict[str, int]]) -> int:
        return document["a"]

    handle = await read.defer(raw)
    await app.run_until_idle()
    assert 1 == await handle.result(timeout=PATIENCE)
    for broken in ('{"a": ', b"\xff", '{"a": "x"}'):
        with pytest.raises(InvalidPayload):
            await read.defer(broken)  # type: ignore[call-overload]  # text is taken as JSON
    assert 0 == await counted(database)
    await app.close()


async def test_several_arguments_and_the_context(database: str) -> None:
    """S4-05: arguments by place and by name, defaults that apply where the job runs, and a context none gives."""
    app = App(database)

    @app.task
    async def resize(ctx: JobContext, path: str, /, width: int = 800, *, tags: tuple[str, ...] = ()) -> str:
        return f"{path} {width} {tags} {ctx.attempt} {ctx.job.args}"

    handles = [await resize.defer("a"), await resize.defer("b", 5, tags=("x", "y")), await resize.defer("c", width=6)]
    await app.run_until_idle()

    assert [
        "a 800 () 1 {'path': 'a'}",
        "b 5 ('x', 'y') 1 {'path': 'b', 'width': 5, 'tags': ['x', 'y']}",
        "c 6 () 1 {'path': 'c', 'width': 6}",
    ] == [await handle.result(timeout=PATIENCE) for handle in handles]
    await app.close()


# What does not fit.


async def test_a_payload_that_does_not_fit_fails_at_the_defer(database: str) -> None:
    """S0-01: a payload of the wrong type raises where it is deferred; nothing is stored."""
    app = App(database)

    @app.task
    async def send(mail: Mail, copies: int = 1) -> None: ...

    for call in (
        lambda: send.defer({"to": 1}),  # type: ignore[call-overload]
        lambda: send.defer("a"),  # type: ignore[call-overload]
        lambda: send.defer(Mail(to="a"), "many"),  # type: ignore[call-overload]
        lambda: send.defer(),  # type: ignore[call-overload]
        lambda: send.defer(Mail(to="a"), other=1),  # type: ignore[call-overload]
        lambda: send.defer_many([Mail(to="a"), None]),  # type: ignore[list-item]
    ):
        with pytest.raises(InvalidPayload):
            await call()

    assert 0 == await counted(database)
    await app.close()


async def test_a_stored_payload_that_does_not_fit_never_stops_the_worker(database: str) -> None:
    """S0-01: a stored payload that does not fit is put aside on record, and the next job runs."""
    app = App(database)

    @app.task
    async def send(mail: Mail) -> str:
        return mail.to

    bad = await send.defer(Mail(to="a"))
    await change(database, """update jobqueue.job set args = '{"mail": {"to": 5}}'""")
    good = await send.defer(Mail(to="b"))
    async with app.worker():
        assert "b" == await good.result(timeout=PATIENCE)
        job = await reached(app, bad, JobState.SCHEDULED)

    assert 0 == job.attempt, "it does not cost an attempt"
    assert await asked(database, "select aside_since is not null from jobqueue.job")
    await app.close()


# Names.


async def test_names_are_stable(database: str) -> None:
    """S4-06: a task's name is its function's, with the router's prefix; one that is given is taken as it is."""
    app, router = App(database), Router(prefix="shop.")
    app.include(router)

    @router.task
    async def send_mail() -> None: ...

    @router.task(name="send-it")
    async def send_more() -> None: ...

    @app.task
    async def plain() -> None: ...

    handles = [await task.defer() for task in (send_mail, send_more, plain)]

    assert ["shop.send_mail", "send-it", "plain"] == [(await app.jobs.get(handle.id)).task for handle in handles]
    await app.close()


async def test_an_alias_keeps_old_jobs_runnable(database: str) -> None:
    """S4-06: jobs stored under a task's former name run under its new one, and their old handles give results."""
    old, new = App(database), App(database)

    @old.task(name="send")
    async def send(text: str) -> str:
        return f"old {text}"

    @new.task(name="send_mail", aliases=["send", "mail"])
    async def send_mail(text: str) -> str:
        return f"new {text}"

    before, after = await send.defer("a"), await send_mail.defer("b")
    await new.run_until_idle()

    assert ["new a", "new b"] == [await handle.result(timeout=PATIENCE) for handle in (before, after)]
    assert "send" == (await new.jobs.get(before.id)).task
    await old.close()
    await new.close()


# Privacy.


class Strict(BaseModel):
    text: str

    @field_validator("text")
    @classmethod
    def refuse(cls, value: str) -> str:
        if "good" not in value:
            raise ValueError(f"not {value}")
        return value


async def test_no_payload_in_any_word_of_the_producing_side(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """S3-20: with a marker in every payload, result and meta, no error text and no log line at debug level has it."""
    app = App(database)
    await change(database, "alter table jobqueue.job add constraint tests check (args ->> 'text' not like 'bad%')")

    @app.task
    async def note(text: str) -> str:
        return f"{text} back"

    @app.task
    async def strict(model: Strict) -> None: ...

    @app.task
    async def anything(value: Any) -> None: ...

    nested: list[Any] = [SECRET]
    for _ in range(200):
        nested = [nested]
    refused: list[Callable[[], Any]] = [
        lambda: note.defer(f"bad {SECRET}"),
        lambda: note.options(unique="other").defer(f"bad {SECRET}"),
        lambda: note.defer_many([f"good {SECRET}", f"bad {SECRET}"]),
        lambda: note.defer(f"{SECRET}\x00"),
        lambda: note.defer(f"{SECRET}\ud800"),
        lambda: note.defer([SECRET]),  # type: ignore[call-overload]
        lambda: note.defer(SECRET * 200_000),
        lambda: note.defer(SECRET, **{SECRET: 1}),
        lambda: strict.defer(Strict.model_construct(text=SECRET)),
        lambda: anything.defer({SECRET: {1: SECRET}}),
        lambda: anything.defer({SECRET: math.nan}),
        lambda: anything.defer(nested),
        lambda: anything.defer({"x": object, "y": SECRET}),
        lambda: note.options(meta={SECRET: math.inf}).defer("x"),
    ]
    stories: list[str] = []
    with overheard(caplog) as heard:
        handles = [
            await note.options(meta={"tag": SECRET}).defer(SECRET),
            await note.options(unique="k").defer(SECRET),
            *await note.defer_many([SECRET]),
        ]
        for number, call in enumerate(refused):
            with pytest.raises(ValueError, match=r".") as told:
                await call()
                pytest.fail(f"{number} was not refused")
            stories.append(whole_story(told.value))
        await app.run_until_idle()
        assert [f"{SECRET} back"] * 3 == [await handle.result(timeout=PATIENCE) for handle in handles]
        jobs = [await app.jobs.get(handle.id) for handle in handles]
        stories += [repr(handles), repr(jobs), repr(note.job(SECRET)), str(await app.jobs.counts())]

    assert len(heard) >= 3, "nothing was logged at all"
    assert [] == [text[:200] for text in heard if SECRET in text]
    assert [] == [(number, story[:300]) for number, story in enumerate(stories) if SECRET in story]
    await app.close()


# Without a database.


async def test_a_task_runs_without_a_database() -> None:
    """S4-112: task.run works where no PostgreSQL is: same checks, same context, same outcome."""
    app = App("postgresql://postgres@127.0.0.1:1/none", name="shop")

    @app.task(max_attempts=1, queue="mail")
    async def send(ctx: JobContext, mail: Mail) -> dict[str, Any]:
        if mail.copies == 0:
            raise LookupError("no copies")
        return {"to": mail.to, "queue": ctx.job.queue, "attempt": ctx.attempt, "origin": ctx.job.origin}

    @app.task
    def plain(number: int) -> int:
        return number + 1

    assert {"to": "a", "queue": "mail", "attempt": 1, "origin": "shop"} == await send.run(Mail(to="a"))
    assert 3 == await plain.run(2)
    with pytest.raises(LookupError, match="no copies"):
        await send.run(Mail(to="a", copies=0))
    with pytest.raises(InvalidPayload):
        await plain.run("two")  # type: ignore[arg-type]
    assert not app.is_open


async def test_a_task_is_still_its_function(database: str) -> None:
    """A task can be called like the function it was, with no job and no database."""
    app = App(database)

    @app.task
    async def double(number: int) -> int:
        return 2 * number

    assert 4 == await double(2)
    assert asyncio.iscoroutinefunction(double.function)
    assert 0 == await counted(database)


async def test_a_failed_job_tells_what_its_handler_said(database: str) -> None:
    """S0-01: what a handler raises is on record with the job and in the error of its result."""
    app = App(database)

    @app.task(max_attempts=1)
    async def fail(text: str) -> None:
        raise KeyError(text)

    handle = await fail.defer("missing")
    await app.run_until_idle()

    with pytest.raises(JobFailed, match="KeyError: 'missing'"):
        await handle.result(timeout=PATIENCE)
    await app.close()
