"""What an App is put together from: routers, modules of tasks, a lifespan; and the App that stores nothing."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import pytest

from jobqueue.app import App
from jobqueue.base.errors import (
    AppClosed,
    ConfigurationError,
    DuplicateTask,
    InvalidPayload,
    JobNotFound,
    RouterNotIncluded,
)
from jobqueue.base.job import NewJob, Sent
from jobqueue.tasks.context import JobContext
from jobqueue.tasks.router import Router
from tests.support.jobs.working import counted
from tests.support.patience import PATIENCE


async def test_a_router_that_no_app_includes_says_exactly_that(database: str) -> None:
    """S4-10: deferring before any app includes the router names the task and the way out; afterwards it works."""
    router = Router(prefix="mail.")

    @router.task
    async def send(text: str) -> str:
        return text

    for use in (send.defer("a"), send.defer_many(["a"])):
        with pytest.raises(RouterNotIncluded, match=r"'mail.send'.*app\.include\(router\)"):
            await use
    app = App(database)
    app.include(router)
    handle = await send.defer("a")
    await app.run_until_idle()

    assert "a" == await handle.result(timeout=PATIENCE)
    await app.close()


async def test_tasks_declared_before_and_after_the_include(database: str) -> None:
    """A router's tasks belong to the app whenever they are declared, with the router's prefix and queue."""
    app, router = App(database), Router(prefix="mail.", queue="mail")

    @router.task
    async def early(text: str) -> str:
        return f"early {text}"

    app.include(router)

    @router.task
    async def late(text: str) -> str:
        return f"late {text}"

    handles = [await early.defer("a"), await late.defer("b")]
    jobs = [await app.jobs.get(handle.id) for handle in handles]
    await app.run_until_idle()

    assert [("mail.early", "mail"), ("mail.late", "mail")] == [(job.task, job.queue) for job in jobs]
    assert ["early a", "late b"] == [await handle.result(timeout=PATIENCE) for handle in handles]
    await app.close()


async def test_a_router_serves_the_app_that_is_open(database: str, empty_database: str) -> None:
    """While one app with the router is open no other may take it; once that is closed the next one has its jobs."""
    router = Router()

    @router.task
    async def note(text: str) -> None: ...

    first, second = App(empty_database, name="first"), App(database, name="second")
    first.include(router)
    await first.open()
    with pytest.raises(ConfigurationError, match=r"'first', which is open.*'second'"):
        second.include(router)
    await first.close()
    second.include(router)
    await note.defer("a")

    assert 1 == await counted(database)
    await second.close()


def test_one_name_for_two_functions_is_refused() -> None:
    """Two functions with one task name are refused, across routers as well."""
    app, router = App(), Router()

    @app.task(name="note")
    async def one() -> None: ...

    @router.task(name="note")
    async def two() -> None: ...

    with pytest.raises(DuplicateTask, match=r"'note' is taken by .*one"):
        app.include(router)


async def test_modules_of_tasks_are_imported_by_the_worker(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tasks= names modules that are imported when a worker starts, not when the App is made or used to defer."""
    (tmp_path / "shop_for_tests.py").write_text("app: object\n")
    (tmp_path / "shop_tasks_for_tests.py").write_text(
        "from shop_for_tests import app\n\n@app.task\nasync def note(text: str) -> str:\n    return text\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    app = App(database, tasks=["shop_tasks_for_tests"])
    import shop_for_tests  # type: ignore[import-not-found]  # written above

    shop_for_tests.app = app
    await app.jobs.counts()
    assert "shop_tasks_for_tests" not in sys.modules

    await app.run_until_idle()
    (task,) = app.registry
    handle = await task.defer("a")
    await app.run_until_idle()

    assert "a" == await handle.result(timeout=PATIENCE)
    await app.close()
    for name in ("shop_for_tests", "shop_tasks_for_tests"):
        del sys.modules[name]


async def test_a_module_that_does_not_import_keeps_its_traceback(database: str) -> None:
    """A worker whose tasks= cannot be imported fails with Python's own error, and starts nothing."""
    app = App(database, tasks=["no_such_module_for_tests"])

    with pytest.raises(ModuleNotFoundError, match="no_such_module_for_tests"):
        await app.run_until_idle()
    await app.close()


@dataclass
class Settled:
    name: str


class Client:
    async def get(self, path: str) -> str:
        return f"got {path}"


class SpecialClient(Client): ...


class Special(Client): ...


T = TypeVar("T")


async def test_resources_of_the_lifespan_reach_tasks(database: str) -> None:
    """App(lifespan=) is entered once around a worker; ctx.get finds each value by its class or one above it."""
    told: list[str] = []

    @asynccontextmanager
    async def lifespan(app: App) -> AsyncIterator[tuple[SpecialClient, Settled]]:
        told.append(f"enter {app.name}")
        yield SpecialClient(), Settled("yes")
        told.append("exit")

    app = App(database, name="shop", lifespan=lifespan)

    @app.task(max_attempts=1)
    async def fetch(ctx: JobContext, path: str) -> str:
        with pytest.raises(ConfigurationError, match="there is no Path; the app's lifespan"):
            ctx.get(Path)
        client = ctx.get(Client)
        return f"{await client.get(path)}, {client is ctx.get(SpecialClient)}, {ctx.get(Settled).name}"

    handles = await fetch.defer_many(["a", "b"])
    assert [] == told
    await app.run_until_idle()

    assert ["got a, True, yes", "got b, True, yes"] == [await handle.result(timeout=PATIENCE) for handle in handles]
    assert ["enter shop", "exit"] == told
    await app.close()


class Pair(NamedTuple):
    read: Client
    write: Client


class Box(Generic[T]): ...


def asking(given: object, kind: Any) -> Callable[[], Awaitable[object]]:
    """Runs a task that asks for this kind of resource, where these are given."""

    @App.null().task
    async def ask(ctx: JobContext) -> bool:
        return ctx.get(kind) in (given if type(given) is tuple else (given,))

    return ask.options(resources=given).run


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (Client(), Client),
        ((Client(), SpecialClient()), Client),
        ((SpecialClient(), Client()), SpecialClient),
        (Pair(Client(), Client()), Pair),
        ((Settled("a"), None), Settled),
        (Box[int](), Box),
    ],
    ids=["alone", "exact first", "subclass", "named tuple", "nothing beside", "generic"],
)
async def test_a_resource_is_found_by_its_class(given: object, kind: Any) -> None:
    """ctx.get gives what is just of that class before what is of one below; a named tuple is one value, not many.
    `task.run` finds what `options(resources=)` gives, as a worker what the lifespan yields."""
    assert await asking(given, kind)()


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ((Client(), Client()), Client, "several of Client (Client, Client); give each a class of its own"),
        ((SpecialClient(), Special()), Client, "several of Client (SpecialClient, Special)"),
        (("read", "write"), str, "several of str"),
        (None, Client, "no Client; the app's lifespan yields what is to be found, alone or in a tuple; in tests"),
        (Box[int](), Box[int], "takes a class"),
        (Client(), "Client", "takes a class; 'Client' is none"),
        (Client(), list[int], "takes a class"),
        (Client(), object, "there is no object"),
    ],
)
async def test_a_resource_that_cannot_be_told_is_refused(given: object, kind: Any, words: str) -> None:
    """What ctx.get would have to guess is an error that says what to do, and never the wrong one of two."""
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        await asking(given, kind)()


async def test_a_lifespan_that_fails_starts_no_worker(database: str) -> None:
    """What a lifespan raises comes out of the worker's start, and nothing stays open."""

    class NoConfig(AbstractAsyncContextManager[None]):
        def __init__(self, app: App) -> None: ...

        async def __aenter__(self) -> None:
            raise LookupError("no config")

        async def __aexit__(self, *error: object) -> None: ...

    app = App(database, lifespan=NoConfig)

    with pytest.raises(LookupError, match="no config"):
        await app.run_until_idle()
    await app.close()


# The App that stores nothing.


async def test_the_null_app_accepts_and_drops() -> None:
    """S4-11: App.null() takes defers of every kind without a database, gives ids, and knows no job afterwards."""
    app = App.null(name="shop", tasks=["nowhere"])

    @app.task(queue="mail")
    async def note(text: str) -> str:
        return text

    async with app:
        handles = [
            await note.defer("a"),
            await note.options(unique="k", id="0192f0c0-0000-7000-8000-000000000001").defer("a"),
            await note.options(connection=object()).defer("a"),
            *await note.defer_many(["a", "b"]),
            *await app.defer_many([note.job("a")], connection=object()),
        ]

        assert 6 == len({handle.id for handle in handles})
        assert not any(handle.duplicate for handle in handles)
        for look in (handles[0].status, handles[0].result):
            with pytest.raises(JobNotFound):
                await look()
        assert "a" == await note.run("a")
    with pytest.raises(AppClosed):
        await note.defer("a")


async def test_the_null_app_is_as_strict_as_any() -> None:
    """S4-11: the null App checks payloads and runs middleware, so that tests with it find what users would."""
    seen: list[str] = []

    async def tell(job: NewJob[Any], call_next: Any) -> Sent:
        seen.append(job.task)
        sent: Sent = await call_next(job)
        return sent

    app = App.null(middleware=[tell])

    @app.task
    async def note(number: int) -> None: ...

    with pytest.raises(InvalidPayload):
        await note.defer("many")  # type: ignore[call-overload]
    await note.defer(1)
    await note.defer_many([2, 3])

    assert ["note"] * 3 == seen


def test_the_null_app_takes_synchronous_defers() -> None:
    """S4-11: defer_sync is dropped as well."""
    app = App.null()

    @app.task
    async def note(text: str) -> None: ...

    assert note.options(connection=object()).defer_sync("a") != note.options(connection=object()).defer_sync("a")


async def test_the_null_app_never_falls_back_on_a_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """S4-11: what cannot be without a database is refused, whatever the environment names."""
    monkeypatch.setenv("JOBQUEUE_DSN", "postgresql://postgres@127.0.0.1:1/none")
    app = App.null()

    for use in (app.jobs.counts, app.jobs.list, app.run_until_idle, app.migrate):
        with pytest.raises(ConfigurationError, match=r"App\.null\(\) has no database"):
            await asyncio.wait_for(use(), PATIENCE)


def test_what_an_app_has_may_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test of the user's puts something of its own there, and takes it away; in `app.testing()` all is the test's."""
    app = App("postgresql://postgres@127.0.0.1:1/none")
    sections = ("jobs", "bundles", "schedules", "limits", "queues", "audit", "bulks", "webhooks")
    for name in sections:
        with monkeypatch.context() as patch:
            patch.setattr(app, name, "the user's")
            assert "the user's" == getattr(app, name)
        assert "the user's" != getattr(app, name)
    before = app.jobs
    with app.testing():
        assert before is not app.jobs
    assert before is app.jobs
