"""What the dashboard costs at size: 200 000 jobs, two million with JOBQUEUE_LONG=1."""

import asyncio
import gzip
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
import pytest
from starlette.routing import Route
from starlette.types import ASGIApp

from jobqueue import App
from jobqueue.base.settings import Settings
from jobqueue.store.looking.listing import ROOM
from jobqueue.store.schema.statements import statements
from jobqueue.web import create_app
from jobqueue.web.dashboard.live import looker
from tests.support.jobs.counting import Sent, counted_pool
from tests.support.jobs.working import CALM
from tests.support.postgres.database import Databases, name_of
from tests.support.postgres.plans import Plan, run_plan
from tests.support.postgres.sites import BULK, BUNDLE, FILL, LARGE, QUEUES, SMALL, WEBHOOK
from tests.support.waiting import wait_until
from tests.web.dashboard.visiting import visiting
from tests.web.dashboard.watching import Viewer, watching, who

LONG = bool(os.environ.get("JOBQUEUE_LONG"))
LOOK = ("flow", "queue_stats", "working", "longest_running")
"""What one look asks."""
PAGE, FIRST_VISIT = 12_000, 60_000
"""Bytes that are sent, at most."""
WINDOWS = 60
"""A page that searches for something rare ends after a tenth of a second: in so many statements, at most, it reads
windows that grow."""
IDS: Mapping[str, str] = {
    "dead": "select id from jobqueue.job_archive where state = 'dead' limit 1",
    "ready": "select id from jobqueue.job where state = 'ready' limit 1",
    "running": "select id from jobqueue.job where state = 'running' limit 1",
    "blocked": "select id from jobqueue.job where state = 'blocked' limit 1",
    "worker": "select id from jobqueue.worker limit 1",
    "fingerprint": "select jobqueue.fingerprint(task, errors -> -1 ->> 'class', errors -> -1 ->> 'code_place')"
    " from jobqueue.job_archive where state = 'dead' limit 1",
}
ASKED: dict[str, dict[str, int]] = {
    "/": {"/": 13, "/?part=queues": 13, "/?part=attention,queues": 13},
    "/live/now": {"/live/now": 5},
    "/api/v1/overview": {"/api/v1/overview": 5},
    "/api/v1/recent": {"/api/v1/recent": 8},
    "/api/v1/openapi.json": {"/api/v1/openapi.json": 0},
    "/jobs": {
        "/jobs": 12, "/jobs?state=dead": 6, "/jobs?state=ready": 6, "/jobs?queue=queue9": WINDOWS,
        "/jobs?task=nobody": WINDOWS, "/jobs?q=args.order:77": WINDOWS, "/jobs?error=Error3": WINDOWS,
        "/jobs?fingerprint={fingerprint}": WINDOWS, "/jobs?part=jobs": 12,
    },
    "/jobs/{id}": {"/jobs/{dead}": 16, "/jobs/{ready}": 16, "/jobs/{running}": 16, "/jobs/{blocked}": 16},
    "/jobs/{id}/payload": {"/jobs/{dead}/payload": 1},
    "/errors": {"/errors": 6, "/errors?queue=queue3": 6},
    "/errors/{fingerprint}": {"/errors/{fingerprint}": WINDOWS},
    "/queues": {"/queues": 12, "/queues?empty=show": 12},
    "/queues/{name:path}": {"/queues/queue1": 13, "/queues/queue5": 13},
    "/tasks": {"/tasks": 3},
    "/tasks/{name:path}": {"/tasks/task5": 10},
    "/workers": {"/workers": 8},
    "/workers/{id}": {"/workers/{worker}": 10},
    "/schedules": {"/schedules": 8},
    "/schedules/{name:path}": {"/schedules/schedule9": WINDOWS},
    "/limits": {"/limits": 3},
    "/limits/{name:path}": {"/limits/limit3": 6},
    "/bundles": {"/bundles": 4},
    "/bundles/{id}": {f"/bundles/{BUNDLE}": 6},
    "/webhooks": {"/webhooks": 3},
    "/webhooks/{id}": {f"/webhooks/{WEBHOOK}": 16, f"/webhooks/{WEBHOOK}?state=dead": WINDOWS},
    "/bulk": {"/bulk": 3},
    "/bulk/{id}": {f"/bulk/{BULK}": 4},
    "/api/v1/bulks": {"/api/v1/bulks": 3},
    "/api/v1/bulks/{id}": {f"/api/v1/bulks/{BULK}": 4},
    "/audit": {"/audit": 3, "/audit?who=nobody": 3},
    "/preview/{subject}/{verb}": {
        "/preview/jobs/retry?state=dead": 80, "/preview/jobs/cancel?queue=queue5": 80,
    },
}  # fmt: skip
"""Of each page its addresses at size, and how many statements each may send, if nobody has looked before."""


@pytest.fixture(scope="module")
def stocked(databases: Databases, template: str) -> Iterator[str]:
    """The DSN of a database in full work, of which the planner knows nothing."""
    with databases.temporary(databases.filled(template, (LARGE if LONG else SMALL) + FILL)) as dsn:
        yield dsn


def shop(pool: Any) -> App:
    """An App that has the tasks of `stocked`."""
    app = App(pool=pool, name="shop", settings=Settings(**CALM))

    async def work(order: int, *, to: str = "nobody") -> None:
        """Does what is to be done."""

    for number in range(QUEUES):
        app.task(name=f"task{number}", queue=f"queue{number}")(work)
    return app


def named(sent: Sent) -> dict[str, int]:
    """The statements of ours that were sent, and how often."""
    return {name: count for name, count in sent.calls.items() if name in statements()}


@pytest.mark.parametrize("viewers", [1, 50])
async def test_fifty_open_pages_cost_what_one_does(stocked: str, viewers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look is four statements, whoever watches, so at most five a second; and none once nobody watches any more."""
    monkeypatch.setattr(looker, "_SHARE", 0.0)
    assert 1.0 == looker.INTERVAL
    monkeypatch.setattr(looker, "INTERVAL", 0.1)
    async with counted_pool(stocked) as (pool, sent), shop(pool) as app:
        site = create_app(app, authorize=who)
        assert {} == named(sent)
        tasks = asyncio.all_tasks()
        async with watching(site, [f"user{number}" for number in range(viewers)]) as many:
            await wait_until(lambda: all(len(each.looks) >= 3 for each in many), "all have seen three looks")
            assert 200 == many[0].status
        asked = named(sent)
        assert set(LOOK) == set(asked)
        assert max(asked.values()) - min(asked.values()) <= 1, "of the last look something may be missing"
        assert tasks == asyncio.all_tasks(), "nobody is left who could look"
    assert all(same_bytes(each, many[0]) for each in many)


def same_bytes(one: Viewer, other: Viewer) -> bool:
    """Whether two have been told the same, in what both have heard."""
    told = {look["at"]: look for look in one.looks}
    return all(told.get(look["at"], look) == look for look in other.looks)


def pages_of(site: ASGIApp) -> list[str]:
    """The paths of all that can be looked at: pages, and what programs read."""
    routes: list[Route] = site._app.routes  # type: ignore[attr-defined]
    found = [route.path for route in routes if "GET" in (route.methods or ())]
    return [path for path in found if not path.startswith("/static/") and path != "/live"]


def ids_of(dsn: str) -> dict[str, str]:
    """What stands in braces in ASKED."""
    with psycopg.connect(dsn) as connection:
        rows = {name: connection.execute(sql.encode()).fetchone() for name, sql in IDS.items()}
    return {name: str(row[0]) for name, row in rows.items() if row}


def addresses(path: str, ids: Mapping[str, str]) -> dict[str, int]:
    """What to ask for, and the most statements for it; what programs read costs no more than the page of that name."""
    page = path.removeprefix("/api/v1")
    asked = ASKED[path] if path in ASKED else ASKED[page]
    if path not in ASKED:
        asked = {f"/api/v1{each}": most for each, most in asked.items() if not re.search("part=|empty=", each)}
    return {each.format(**ids): most for each, most in asked.items()}


async def test_every_page_costs_a_bounded_number_of_statements(stocked: str) -> None:
    """And is small, and answers. A page that is new here needs a row in ASKED."""
    ids, wrong = ids_of(stocked), []
    async with counted_pool(stocked) as (pool, sent), shop(pool) as app:
        await app.jobs.list(limit=1)
        for path in pages_of(create_app(app)):
            for address, most in addresses(path, ids).items():
                sent.calls.clear()
                async with visiting(app) as client:
                    page = await client.get(address)
                cost, size = named(sent), len(gzip.compress(page.content))
                if page.status_code >= 400:
                    wrong.append(f"{address}: {page.status_code} {page.text[-300:]}")
                if sum(cost.values()) > most:
                    wrong.append(f"{address}: {sum(cost.values())} statements, at most {most}: {cost}")
                if size > PAGE:
                    wrong.append(f"{address}: {size} bytes, at most {PAGE}")
    assert [] == wrong, "\n".join(wrong)


TABLES = ("job", "job_archive", "minute", "hour", "depth", "audit", "bundle", "node", "schedule")
WIDE = {
    "queue_stats": 16_000, "look_unfinished": 25_000, "look_finished": 25_000, "look_in_states": 25_000,
    "search_unfinished": 25_000, "search_finished": 25_000, "find_unfinished": 25_000, "find_finished": 25_000,
    "error_groups": 25_000, "where_are": 25_000,
}  # fmt: skip
"""Statements that read a window of jobs, and how many pages they may touch."""
OTHERS = 2_500
CALLS = 2


async def test_no_statement_of_a_page_reads_a_table(stocked: str, databases: Databases) -> None:
    """With whatever a page has asked, by a custom or a generic plan, of tables that the planner knows or does not."""
    asked = await all_that_is_asked(stocked)
    assert len(asked) > 40
    wrong = []
    with (
        databases.temporary(name_of(stocked)) as dsn,
        psycopg.connect(dsn, autocommit=True) as connection,
    ):
        for learned in ("", "analyze"):
            if learned:
                connection.execute("analyze")
            for name, values, address in asked:
                for mode in ("custom", "generic"):
                    plan = run_plan(connection, name, values, mode)
                    read = [table for table in TABLES if whole(plan, table)]
                    if plan.buffers > WIDE.get(name, OTHERS) or read:
                        wrong.append(
                            f"{name}, {mode}, {learned}, {address}: {plan.buffers} pages, all of {read}\n{plan}"
                        )
    assert [] == wrong, "\n".join(wrong)


def whole(plan: Plan, table: str) -> bool:
    """Whether so many rows of a table were read one after the other as no look may."""
    scans = [node for node in plan.scans(table) if node["Node Type"] == "Seq Scan"]
    read = sum(node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in scans)
    return bool(read > (1.5 * ROOM if table == "job" else 1_000))


async def all_that_is_asked(dsn: str) -> list[tuple[str, tuple[object, ...], str]]:
    """What pages ask, each statement with the values of two of them at most; and which page."""
    ids, found = ids_of(dsn), dict[str, dict[str, tuple[str, tuple[object, ...], str]]]()
    async with counted_pool(dsn) as (pool, sent), shop(pool) as app:
        for path in pages_of(create_app(app)):
            for address in addresses(path, ids):
                sent.values.clear()
                async with visiting(app) as client:
                    await client.get(address)
                for name, values in sent.values.items():
                    calls = found.setdefault(name, {})
                    if name in statements() and len(calls) < CALLS:
                        calls.setdefault(repr(values), (name, values, address))
    return [call for calls in found.values() for call in calls.values()]


async def test_the_first_visit_is_small(stocked: str) -> None:
    """The overview with all its files is at most 60 kB, as sent to a browser."""
    async with counted_pool(stocked) as (pool, _), shop(pool) as app, visiting(app) as client:
        page = await client.get("/")
        files = set(re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text))
        sizes = {"/": int(page.headers["content-length"])}
        for file in files:
            answer = await client.get(file)
            assert 200 == answer.status_code
            sizes[file] = int(answer.headers["content-length"])
    assert len(files) > 5
    assert sum(sizes.values()) <= FIRST_VISIT, sizes
