"""A database in which every name is a script, and every payload has a secret; and all that the dashboard can be asked.

What is below is taken from the table of routes: a new page is covered by itself, or fails for want of a value here.
"""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from html.parser import HTMLParser
from itertools import product
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID

import httpx
from starlette.applications import Starlette
from starlette.routing import Route

from jobqueue import App, Cancel, JobContext, JobState, Limit
from jobqueue.base.acting.audit import By
from jobqueue.store.workers import list_workers
from jobqueue.web.dashboard.acting.jobs import ACTIONS
from jobqueue.web.dashboard.acting.verbs import VERBS
from tests.support.jobs.gate import Gate
from tests.support.jobs.working import asked, end_of, new_app
from tests.support.waiting import wait_until

SECRET = "s3cr3t-4711"
MARK = "zq-"
"""What each foreign name begins with."""
ODD = """<script>alert(1)</script>'" onload=x /?#&%é"""
QUEUE, TASK, SCHEDULE, LIMIT, BUNDLE = (f"{MARK}{kind}{ODD}" for kind in ("queue", "task", "cron", "limit", "bundle"))
NAMES = (QUEUE, TASK, SCHEDULE, LIMIT, BUNDLE)
SOMEBODY = By(f"{MARK}user{ODD}", "cli")
_PART = re.compile(r'data-part="([^"]+)"')
_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")
_SKIPPED = {"/live", "/static/{mark}/{name:path}"}
"""A stream, whose text is that of /live/now; and files."""
_SHOW = [("show", name) for name in ("data", "result", "meta", "progress", "args")]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What is there, by the first word of a path: ids and names."""

    app: App
    foreign: dict[str, list[str]]
    """In a queue that is not `mail`, or without any."""
    own: dict[str, list[str]]
    """In the queue `mail`."""

    def paths(self, site: Starlette, *, foreign: bool) -> list[str]:
        """Every path that can be asked with GET, with each value that there is for what it takes."""
        values = self.foreign if foreign else self.own
        found = [path for route in _routes(site) for path in self._filled(route.path, values, foreign=foreign)]
        assert len(set(found)) > 30
        return found

    def _filled(self, path: str, values: dict[str, list[str]], *, foreign: bool) -> Iterator[str]:
        names = _PARAMETER.findall(path)
        if path == "/preview/{subject}/{verb}":
            yield from (f"/preview/{rest}" for rest in self._previews(values))
        elif not names:
            if not foreign:
                yield path
        else:
            subject = path.removeprefix("/api/v1").split("/")[1]
            for chosen in product(*(values[subject] for _ in names)):
                filled = path
                for value in chosen:
                    filled = _PARAMETER.sub(quote(value, safe="").replace("\\", r"\\"), filled, count=1)
                yield filled

    def _previews(self, values: dict[str, list[str]]) -> Iterator[str]:
        for verb in ACTIONS:
            yield from (f"jobs/{verb}?{urlencode({'id': id})}" for id in values["jobs"][:1])
            yield from (f"jobs/{verb}?{urlencode({'queue': queue})}" for queue in values["queues"])
        for name in VERBS:
            subject = name.partition("/")[0]
            field = {"queues": "queue", "schedules": "name", "limits": "name"}.get(subject, "id")
            yield from (f"{name}?{urlencode({field: value})}" for value in values[subject])


@asynccontextmanager
async def loaded(database: str) -> AsyncIterator[Loaded]:
    """The database, and a worker that is busy with some of it."""
    app = new_app(database, name="shop")
    gate, failure = Gate(), type(f"{MARK}Error{ODD}", (Exception,), {})

    @app.cron("0 3 1 1 *", name=SCHEDULE)
    @app.task(name=TASK, queue=QUEUE, max_attempts=1, limit=Limit(1, name=LIMIT, key="to"))
    async def odd(ctx: JobContext, does: str = "nothing", to: str = "") -> str:
        """Says <script>alert(2)</script>."""
        ctx.progress(0.5, SECRET, {"data": SECRET})
        await ctx.phase(f"{MARK}phase{ODD}", _secret)
        if does == "fail":
            raise failure(f'{SECRET}\n  File "{SECRET}.py", line 3, in {SECRET}\n    {SECRET}')
        if does == "end":
            raise Cancel(SECRET)
        if does == "wait":
            await gate.step()
        return SECRET

    @app.task(queue="mail", max_attempts=1)
    async def letter(fails: bool = False) -> None:
        if fails:
            raise ValueError("lost")

    async with app:
        task: Any = odd
        told = task.options(meta={"note": SECRET})
        ended = [await told.defer(does, f"{SECRET}-{does}") for does in ("succeed", "fail", "end")]
        mine = [await letter.defer(fails) for fails in (True, False)]
        await asked(database, "select jobqueue.defer($1, $2, $3)", f"{MARK}unknown{ODD}", f'{{"a": "{SECRET}"}}', QUEUE)
        async with app.worker([QUEUE, "mail"], concurrency=4):
            for handle in (*ended, *mine):
                await end_of(app, handle)
            runs = await told.defer("wait", SECRET)
            await gate.begun.wait()

            async def says_how_far() -> bool:
                return (await app.jobs.get(runs.id)).progress is not None

            await wait_until(says_how_far, "its progress is written")
            waits = await told.defer("wait", SECRET)
            await runs.signal(f"{MARK}signal{ODD}", {"note": SECRET})
            values = await _more(app, odd)
            values["jobs"] = [str(each.id) for each in (*ended, runs, waits)]
            own: dict[str, list[str]] = {name: [] for name in values} | {"queues": ["mail"], "tasks": ["letter"]}
            own["jobs"] = [str(each.id) for each in mine]
            own["workers"] = values.pop("workers")
            values["workers"] = []
            assert JobState.BLOCKED is (await app.jobs.get(waits.id)).state
            own["errors"] = [group.fingerprint for group in await app.jobs.errors(queue="mail")]
            yield Loaded(app, values, own)
            gate.open.set()


async def _more(app: App, odd: Any) -> dict[str, list[str]]:
    """Everything but jobs."""
    async with app.bundle(BUNDLE) as bundle:
        first = bundle.add(odd.job("nothing", SECRET))
        bundle.add(odd.job("nothing", SECRET), after=[first])
    await app.schedules.put(f"stored {SCHEDULE}", odd.job("nothing", SECRET), "0 4 1 1 *")
    await app.queues.pause(QUEUE, by=SOMEBODY)
    hook = await app.webhooks.create(f"https://hooks.example/{SECRET}?token={SECRET}", queue=QUEUE, task=TASK)
    searched: list[dict[str, Any]] = [{"args": {"to": SECRET}}, {"text": SECRET}, {"reason": SECRET}]
    nothing: dict[str, Any] = {"task": f"{MARK}nothing", "by": SOMEBODY}
    bulks = [await app.jobs.bulk("delete", queue=QUEUE, **nothing, **each) for each in searched]
    bulks.append(await app.jobs.bulk("move", to=QUEUE, queue="mail", **nothing))
    for each in bulks:
        await app.bulks.wait(each.id)
    await app.jobs.retry(queue=QUEUE, state="blocked", reason=SECRET, by=SOMEBODY)

    async def works() -> bool:
        return bool(await _workers(app))

    await wait_until(works, "the worker is known")
    return {
        "queues": [QUEUE],
        "tasks": [TASK, f"{MARK}unknown{ODD}"],
        "schedules": [SCHEDULE, f"stored {SCHEDULE}"],
        "limits": [LIMIT],
        "bundles": [str(bundle.id)],
        "webhooks": [str(hook.id)],
        "workers": [str(id) for id in await _workers(app)],
        "bulk": [str(each.id) for each in bulks],
        "bulks": [str(each.id) for each in bulks],
        "errors": [group.fingerprint for group in await app.jobs.errors(queue=QUEUE)],
    }


async def _workers(app: App) -> list[UUID]:
    return [each.id for each in await list_workers(await app.looks())]


async def _secret() -> str:
    return SECRET


def site_of(client: httpx.AsyncClient) -> Starlette:
    """What a client of `together` asks, without what stands before it."""
    site: Starlette = client._transport.app._app  # type: ignore[attr-defined]
    return site


def _routes(site: Starlette) -> list[Route]:
    routes = [route for route in site.routes if isinstance(route, Route) and "GET" in (route.methods or ())]
    assert len(routes) == len(site.routes) - sum("POST" in (each.methods or ()) for each in _only_posts(site))
    return [route for route in routes if route.path not in _SKIPPED]


def _only_posts(site: Starlette) -> list[Route]:
    return [each for each in site.routes if isinstance(each, Route) and "GET" not in (each.methods or ())]


async def answers(client: httpx.AsyncClient, path: str) -> AsyncIterator[tuple[str, httpx.Response]]:
    """What it says: plain, with all that can be shown asked for, and each of its parts alone."""
    first = await client.get(path)
    yield path, first
    if path.startswith(("/api/", "/preview/", "/live/")):
        return
    begins = f"{path}{'&' if '?' in path else '?'}"
    wanted = f"{begins}{urlencode([*_SHOW, ('empty', 'show'), ('as', 'json'), ('did', '1')])}"
    yield wanted, await client.get(wanted)
    if path.startswith("/schedules/"):
        yield path, await client.post(path)  # with the arguments
    for part in dict.fromkeys(_PART.findall(first.text)):
        yield f"{begins}part={part}", await client.get(f"{begins}part={part}")


class Scripts(HTMLParser):
    """Finds what would run in a page, were it not for the policy that it comes with."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        if tag == "script" and not (said.get("src") or "").startswith("/static/"):
            self.found.append("script")
        self.found += [name for name in said if name.startswith("on") or name == "style"]
        self.found += [link for link in (said.get("href"), said.get("action")) if link and link[0] not in "/#?"]
